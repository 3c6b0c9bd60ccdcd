//! Many connections, and slow ones: the operator's own connection still works.

use std::io::Write;
use std::time::{Duration, Instant};

use bluegreen_panel::{Options, Timeouts};

use crate::actions::confirm;
use crate::fake::{Panel, options};
use crate::http::read;

fn impatient() -> Panel {
    let timeouts = Timeouts {
        sending: Duration::from_millis(400),
        request: Duration::from_secs(1),
        reading: Duration::from_millis(500),
    };
    Panel::start(Options { timeouts, ..options() })
}

#[test]
fn a_slow_client_is_disconnected() {
    let panel = impatient();
    let length = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n";
    for request in [
        String::new(),
        "GET / HTTP/1.1\r\nHost: local".into(),
        format!("POST /logout HTTP/1.1\r\nHost: localhost\r\n{length}\r\ncsrf="),
    ] {
        let mut stream = panel.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let started = Instant::now();
        let response = read(stream);
        assert!([0, 408].contains(&response.status), "{request}: {response:?}");
        assert!(started.elapsed() < Duration::from_secs(8), "{request}: {:?}", started.elapsed());
    }
    // Sending one byte at a time does not extend the deadline.
    let mut stream = panel.connect();
    let started = Instant::now();
    while stream.write_all(b"G").is_ok() && started.elapsed() < Duration::from_secs(8) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(started.elapsed() < Duration::from_secs(8));
    assert_eq!(panel.get("/panel.css").status, 200);
}

#[test]
fn an_oversized_request_is_rejected() {
    let panel = Panel::new();
    let form = format!("csrf=x&text={}", "x".repeat(1_000_000));
    assert_eq!(panel.post("/logout", &form).status, 413);
    let many = "X: x\r\n".repeat(10_000);
    assert!([0, 431].contains(&panel.get_with("/", &many).status));
    let long = format!("/?text={}", "x".repeat(1_000_000));
    assert!([0, 414, 431].contains(&panel.get(&long).status));
    assert_eq!(panel.get("/panel.css").status, 200);
}

#[test]
fn a_browser_that_does_not_read_its_events_is_disconnected() {
    let panel = impatient();
    panel.change(|world| world.is_flooding = true);
    let stream = panel.events("");
    assert_eq!(confirm(&panel, "do=rollback&side=blue").status, 303);
    // Without a browser that receives events, the servers are not queried.
    let (started, mut asked, mut quiet) = (Instant::now(), 0, 0);
    while quiet < 3 {
        assert!(started.elapsed() < Duration::from_secs(60), "the stream is still open");
        std::thread::sleep(Duration::from_secs(1));
        quiet = if panel.questions() == asked { quiet + 1 } else { 0 };
        asked = panel.questions();
    }
    panel.change(|world| world.is_flooding = false);
    drop(stream);
}

#[test]
fn event_streams_are_limited_and_pages_still_load() {
    let panel = Panel::new();
    let mut streams: Vec<_> = (0..80).map(|_| panel.events("")).collect();
    let is_refused = streams.iter_mut().any(|stream| {
        let mut line = String::new();
        std::io::BufRead::read_line(stream, &mut line).unwrap();
        line.contains("503")
    });
    assert!(is_refused);
    assert!(panel.get("/").body.contains("First</p>"));
}
