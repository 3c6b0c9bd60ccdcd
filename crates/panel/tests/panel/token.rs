//! A panel that other machines can reach requires a token.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bluegreen_panel::Options;
use bluegreen_text::explain::Explain;

use crate::fake::{Panel, options};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn token_file(folder: &Path, token: &str) -> PathBuf {
    let path = folder.join("token");
    fs::write(&path, token).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Logs in, and returns the cookie.
fn log_in(panel: &Panel, token: &str) -> String {
    let csrf = panel.get("/login").csrf();
    let response = panel.post("/login", &format!("csrf={csrf}&token={token}"));
    assert_eq!((response.status, response.header("location")), (303, "/"), "{response:?}");
    let cookie = response.header("set-cookie");
    assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn an_externally_reachable_address_needs_a_token() {
    let listen = |listen: &str| Options { listen: listen.parse::<SocketAddr>().unwrap(), ..options() };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let error = Panel::fails(&listen(address));
        assert!(error.to_string().contains("without a token: other machines could promote"), "{error}");
        assert_eq!(error.exit_status(), 2);
    }
    let folder = tempfile::tempdir().unwrap();
    let token_file = Some(token_file(folder.path(), TOKEN));
    fs::set_permissions(folder.path().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = Panel::fails(&Options { token_file, ..options() });
    assert!(error.to_string().contains("is readable by other users"), "{error}");
}

#[test]
fn nothing_is_shown_without_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let panel = Panel::with_token(token_file(folder.path(), TOKEN));
    assert_eq!((panel.get("/").status, panel.get("/").header("location")), (303, "/login"));
    let guesses = [
        String::new(),
        "Authorization: Bearer \r\n".into(),
        "Authorization: Bearer wrong\r\n".into(),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Cookie: bluegreen-panel-{}={TOKEN}\r\n", panel.address.port()),
        "Cookie: bluegreen-panel-1=; token=x\r\n".into(),
    ];
    for headers in &guesses {
        for path in ["/events", "/?text=x", &format!("/?token={TOKEN}"), "/unknown"] {
            let response = panel.get_with(path, headers);
            assert!([303, 401].contains(&response.status), "{path} {headers}: {response:?}");
            assert!(!response.body.contains("First"), "{path} {headers}");
        }
    }
    // The CSRF token of the login form is not valid without a login.
    let login = panel.get("/login").csrf();
    let csrf = panel.get_with("/", &format!("Authorization: Bearer {TOKEN}\r\n")).csrf();
    assert_ne!(login, csrf);
    assert_eq!(panel.post("/logout", &format!("csrf={login}")).status, 401);
}

#[test]
fn the_token_is_entered_once() {
    let folder = tempfile::tempdir().unwrap();
    let panel = Panel::with_token(token_file(folder.path(), TOKEN));
    let csrf = panel.get("/login").csrf();
    let wrong = panel.post("/login", &format!("csrf={csrf}&token=wrong"));
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, ""));
    assert!(wrong.body.contains("This is not the token."));
    assert_eq!(panel.post("/login", &format!("token={TOKEN}")).status, 403, "a form of another page");
    let cookie = log_in(&panel, TOKEN);
    assert!(!cookie.contains(TOKEN));
    let page = panel.get_with("/", &format!("Cookie: a=b; {cookie}; c=d\r\n"));
    assert!(page.status == 200 && page.body.contains("First</p>") && page.body.contains("Log out"));
    let bearer = panel.get_with("/", &format!("Authorization: Bearer {TOKEN}\r\n"));
    assert_eq!(bearer.status, 200);
    let headers = format!("Cookie: {cookie}\r\n");
    let out = panel.post_with("/logout", &format!("csrf={}", page.csrf()), &headers);
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{out:?}");
}

#[test]
fn a_new_token_invalidates_stolen_cookies_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let panel = Panel::with_token(token_file(folder.path(), TOKEN));
    let stolen = format!("Cookie: {}\r\n", log_in(&panel, TOKEN));
    let status = |headers: &str| panel.get_with("/", headers).status;
    assert_eq!(status(&stolen), 200);
    token_file(folder.path(), "fedcba9876543210fedcba9876543210");
    assert_eq!(status(&stolen), 303);
    assert_eq!(status(&format!("Authorization: Bearer {TOKEN}\r\n")), 303);
    log_in(&panel, "fedcba9876543210fedcba9876543210");
}
