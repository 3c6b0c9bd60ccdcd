//! Requests from other pages in the operator's browser, and reports from hostile servers.

use serde_json::json;

use crate::fake::{Panel, change, entry};
use crate::http::read_until;

/// Paths that show data or change something.
const PATHS: [&str; 3] = ["/", "/events", "/?action=deploy"];

#[test]
fn dns_rebinding_is_rejected() {
    let panel = Panel::new();
    let port = panel.address.port();
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        &format!("127.0.0.1.evil.example:{port}"),
        &format!("localhost.evil.example:{port}"),
        &format!("127.0.0.1@evil.example:{port}"),
        "192.0.2.1",
        "[2001:db8::1]",
        "",
        "[",
        "localhost:x",
    ] {
        for path in PATHS {
            let response = panel.get_with(path, &format!("Host: {host}\r\n"));
            assert!([400, 421].contains(&response.status), "{host} {path}: {response:?}");
            assert!(!response.body.contains("First"), "{host}");
        }
    }
    assert!([400, 421].contains(&panel.raw("GET / HTTP/1.1\r\n\r\n").status));
    assert!([400, 421].contains(&panel.raw("GET / HTTP/1.0\r\n\r\n").status));
    for host in ["localhost", "LocalHost:9000", "127.0.0.1", "[::1]:80"] {
        assert_eq!(panel.get_with("/panel.css", &format!("Host: {host}\r\n")).status, 200, "{host}");
    }
}

#[test]
fn cross_origin_requests_are_rejected() {
    let panel = Panel::new();
    let (port, csrf) = (panel.address.port(), panel.get("/").body.len());
    assert!(csrf > 0);
    for origin in [
        "http://evil.example",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        &format!("http://localhost:{port}"),
        &format!("ftp://127.0.0.1:{port}"),
        &format!("http://127.0.0.1:{port}.evil.example"),
        "null",
        "",
    ] {
        let headers = format!("Origin: {origin}\r\n");
        for path in PATHS {
            assert_eq!(panel.get_with(path, &headers).status, 403, "{origin} {path}");
        }
        assert_eq!(panel.post_with("/logout", "csrf=x", &headers).status, 403, "{origin}");
    }
    for fetch in [
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n",
        "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        assert_eq!(panel.get_with("/", fetch).status, 403, "{fetch}");
    }
    let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    assert_eq!(panel.get_with("/", link).status, 200, "links from other sites must work");
    assert_eq!(
        panel.post_with("/logout", "csrf=x", link).status,
        403,
        "forms on other sites must be rejected"
    );
    let own = format!("Origin: http://127.0.0.1:{port}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(panel.get_with("/", &own).status, 200);
}

#[test]
fn a_form_needs_the_current_csrf_token() {
    let (panel, other) = (Panel::new(), Panel::new());
    let stolen =
        crate::http::Response { status: 0, head: String::new(), body: other.get("/login").body }.csrf();
    for form in ["", "csrf=", "csrf=0", &format!("csrf={stolen}"), "csrf=a&csrf=b"] {
        assert_eq!(panel.post("/logout", form).status, 403, "{form}");
    }
    assert_eq!(panel.get("/logout").status, 405, "a GET request must not log out");
    let json =
        "POST /logout HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(panel.raw(json).status, 415);
    for method in ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        let response = panel.raw(&format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(response.status, 405, "{method}");
    }
}

#[test]
fn every_response_forbids_scripts_framing_and_caching() {
    let panel = Panel::new();
    for response in [
        panel.get("/"),
        panel.get("/login"),
        panel.get("/panel.css"),
        panel.get("/panel.js"),
        panel.get("/icon.svg"),
        panel.get("/unknown"),
        panel.get_with("/", "Host: evil.example\r\n"),
        panel.get_with("/", "Origin: null\r\n"),
        panel.post("/logout", ""),
    ] {
        let policy = response.header("content-security-policy");
        for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(rule), "{response:?}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert_eq!(response.header("x-content-type-options"), "nosniff");
        assert_eq!(response.header("referrer-policy"), "same-origin");
        assert_eq!(response.header("x-frame-options"), "DENY");
        assert_eq!(response.header("cache-control"), "no-store");
        for inline in ["<style", " style=", "javascript:", " onclick", "<script>", "http://www.", "https://"]
        {
            let text = response.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(inline), "{inline}: {text}");
        }
    }
    let page = panel.get("/").body;
    for attribute in ["src=\"", "href=\"", "action=\""] {
        for address in page.split(attribute).skip(1) {
            assert!(address.starts_with(['/', '#']), "{attribute}{}", &address[..20]);
        }
    }
}

#[test]
fn reports_of_hostile_servers_are_escaped_and_bounded() {
    let panel = Panel::new();
    let evil =
        "</p><script>alert(1)</script><img src=x onerror=alert(1)>\u{1b}[2J\u{202e}\u{0}\"' onclick='x'";
    let long = format!("{evil}{}", "A".repeat(1_000_000));
    panel.change(|world| {
        for status in &mut world.statuses {
            let status = status.as_mut().unwrap();
            for key in ["server", "branch", "subject", "live", "since", "why", "elsewhere"] {
                status[key] = long.clone().into();
            }
            status["tip"] = "c".repeat(40).into();
            status["public"]["since"] = long.clone().into();
            status["pending"] = json!(vec![json!({ "kind": "x", "message": long, "command": long }); 3]);
            status["running"] = json!({
                "pid": 7, "action": "deploy", "by": { "user": long, "ssh": long }, "since": long, "phase": long,
            });
        }
        let more = json!({ "error": long, "by": { "user": long }, "release": long });
        world.histories = [json!([entry(&long, "deploy", "failed", &more)]), json!([])];
        world.changes = vec![change(true, &long, &long, &long)];
        world.public = Ok(Some(long.clone()));
    });
    let mut events = panel.events("");
    let stream = read_until(&mut events, &["id=\\\"history", "alert(1)"]);
    let page = panel.get("/").body;
    assert!(page.len() < 100_000, "{} bytes", page.len());
    assert!(!page.contains("` on the server"), "a hint contains a server's text: {page}");
    for text in [&page, &stream] {
        for raw in ["<script>alert", "<img", "\u{1b}", "\u{202e}", "\u{0}", "\" onclick", "' onclick"] {
            assert!(!text.contains(raw), "{raw:?}: {text}");
        }
    }
    assert!(page.contains("&#60;script&#62;alert(1)") && page.contains("\\u{202e}"), "{page}");
    panel.change(|world| world.statuses[0] = Err(crate::fake::problem(&long)));
    std::thread::sleep(std::time::Duration::from_millis(600));
    let page = panel.get("/").body;
    assert!(!page.contains("<script>alert") && page.len() < 100_000, "{page}");
}

/// A thread and an ssh process follow the log of a deployment.
#[test]
fn a_server_that_reports_ever_new_deployments_gets_one_follower() {
    let panel = Panel::new();
    panel.change(|world| world.is_blocked = true);
    let mut events = panel.events("");
    let started = std::time::Instant::now();
    let mut number = 0;
    while panel.fake.0.lock().unwrap().followers[1] < 4 {
        number += 1;
        panel.change(|world| {
            world.statuses[1].as_mut().unwrap()["running"] = json!({
                "pid": 7, "action": "deploy", "by": { "user": "ada" }, "since": format!("{number}"), "phase": "build",
            });
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(
            started.elapsed() < std::time::Duration::from_secs(60),
            "the log of new deployments is followed"
        );
    }
    read_until(&mut events, &["is running"]);
    let [_, started, most] = panel.fake.0.lock().unwrap().followers;
    assert_eq!(most, 1, "of {started} followers");
    panel.change(|world| world.is_blocked = false);
}

#[test]
fn the_page_is_small_and_self_contained() {
    let panel = Panel::new();
    let files = ["/", "/panel.css", "/panel.js", "/icon.svg"].map(|path| panel.get(path));
    let size: usize = files.iter().map(|file| file.head.len() + file.body.len()).sum();
    assert!(size < 50_000, "{size} bytes");
}
