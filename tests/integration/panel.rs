//! The control panel as a program, with few file descriptors and many clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::client_limits::exits;
use crate::promote::Pair;
use crate::support::sandbox::BLUEGREEN;

/// The number of connections that an attacker opens.
const CROWD: usize = 10_000;

struct Panel {
    child: Child,
    address: String,
}

impl Panel {
    /// Starts the panel with a limit on its file descriptors.
    fn start(pair: &Pair, descriptors: u32) -> Self {
        let mut command = pair.blue.command("sh");
        command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "sh", BLUEGREEN, "panel"]);
        command.arg("--config").arg(pair.file("promote.toml")).args(["--trust", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said =
            lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("http://"))).unwrap().unwrap();
        let address = said.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        // Keeps the pipe open.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(&self.address)
    }

    /// Requests a page. A connection that is closed early returns what has arrived.
    fn get(&self, path: &str) -> String {
        let Ok(mut stream) = self.connect() else { return String::new() };
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut text = Vec::new();
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Requests a page until it contains all of these texts.
    fn shows(&self, path: &str, texts: &[&str]) {
        let started = Instant::now();
        loop {
            let page = self.get(path);
            if texts.iter().all(|text| page.contains(text)) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{texts:?}: {page}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let ended = exits(&mut self.child, Duration::from_secs(30));
        if !ended {
            self.child.kill().unwrap();
        }
        assert!(ended || thread::panicking(), "SIGTERM did not stop the panel");
    }
}

/// Opens as many connections as the system allows, up to the size of the crowd.
fn crowd(panel: &Panel) -> Vec<TcpStream> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let allowed = limit.maximum.map_or(CROWD, |maximum| usize::try_from(maximum).unwrap() / 2);
    (0..CROWD.min(allowed)).map(|_| panel.connect().unwrap()).collect()
}

#[test]
fn ten_thousand_connections_do_not_lock_out_the_operator() {
    let pair = Pair::new();
    // Fewer than the crowd has, and enough for the programs that ask the servers.
    let panel = Panel::start(&pair, 256);
    panel.shows("/", &["blue is public", "responds in"]);
    let crowd = crowd(&panel);
    panel.shows("/", &["blue is public", "responds in"]);
    // The connections that sent nothing were closed, the oldest first.
    let mut first = &crowd[0];
    first.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(matches!(first.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn a_panel_with_few_descriptors_serves_pages_and_stops() {
    let pair = Pair::new();
    // Too few to run several programs that ask the servers.
    let panel = Panel::start(&pair, 24);
    let crowd: Vec<_> = (0..200).map(|_| panel.connect().unwrap()).collect();
    panel.shows("/", &["200 OK", "</html>"]);
    drop(crowd);
    panel.shows("/panel.css", &["200 OK"]);
}
