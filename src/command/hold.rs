//! `hold`: the server's end of a promotion. It holds the site's lock for as long as a client asks, line by
//! line, and answers each line with one of JSON.
//!
//! The lock ends with the client: at the end of input, or after a while without a line.

use std::cell::Cell;
use std::io::{BufRead, Write, stdin, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bluegreen_text::timestamp;
use serde_json::{Value, json};

use super::status;
use crate::deploy::server::Server;
use crate::error::{Error, Result};
use crate::run::signals;
use crate::site::LockedSite;
use crate::site::history::{Actor, Entry};

/// The time without a line after which the client counts as gone.
const LEASE: Duration = Duration::from_secs(20);

/// Holds the lock until the client goes.
pub fn run(server: &Server) -> Result<()> {
    let lines = read_lines();
    let heard = Cell::new(Instant::now());
    let announce = |holder: &str| {
        let _ = answer(&json!({ "waiting": holder }));
    };
    let go_on = || loop {
        match lines.try_recv() {
            Ok(_) => {
                heard.set(Instant::now());
                answer(&json!({ "beat": true }))?;
            }
            Err(TryRecvError::Empty) if heard.get().elapsed() < LEASE => return server.stop().check(),
            Err(_) => return Err(Error::HoldLost),
        }
    };
    server.stop();
    let site = server.hold(announce, go_on)?;
    answer(&json!({ "held": state(server)? }))?;
    if serve(server, &site, &lines)? {
        drop(site);
        // Whoever held on may go: the lines of `[notify]` end by themselves.
        signals::outlive_the_client();
        answer(&json!({ "notified": server.notify() }))?;
    }
    Ok(())
}

fn read_lines() -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in stdin().lock().lines().map_while(std::result::Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Answers lines until the client goes; returns whether it wants `[notify]` to be told of what it recorded.
fn serve(server: &Server, site: &LockedSite, lines: &Receiver<String>) -> Result<bool> {
    let mut heard = Instant::now();
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) if line.trim() == "notify" => return Ok(true),
            Ok(line) => {
                heard = Instant::now();
                let said = take(server, site, line.trim())
                    .unwrap_or_else(|error| json!({ "error": error.to_string() }));
                answer(&said)?;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) if heard.elapsed() >= LEASE => return Err(Error::HoldLost),
            Err(RecvTimeoutError::Timeout) => server.stop().check()?,
        }
    }
}

/// Does what one line asks for.
fn take(server: &Server, site: &LockedSite, line: &str) -> Result<Value> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    match (verb, rest) {
        ("beat", _) => Ok(json!({ "beat": true })),
        ("status", _) => Ok(json!({ "status": state(server)? })),
        ("public", "yes" | "no") => {
            site.mark_public(rest == "yes", &timestamp(SystemTime::now()))?;
            Ok(json!({ "marked": rest }))
        }
        ("record", entry) => {
            let entry = serde_json::from_str(entry)
                .map_err(|error| Error::Usage(format!("`record` needs an entry of the history: {error}")))?;
            // The server knows better than its client who that is.
            let entry = Entry { by: Actor::clone(&server.actor), ..entry };
            server.record(site, entry)?;
            Ok(json!({ "recorded": true }))
        }
        _ => Err(Error::Usage(format!("`hold` does not know `{verb}`"))),
    }
}

fn state(server: &Server) -> Result<Value> {
    serde_json::to_value(status::read(server)?.0)
        .map_err(|error| Error::io("write", "standard output")(error.into()))
}

fn answer(value: &Value) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).map_err(Error::io("write", "standard output"))
}
