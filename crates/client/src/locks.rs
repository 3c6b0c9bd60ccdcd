//! The locks of all servers of both sides, taken in an order in which two promotions cannot deadlock.

use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;

use bluegreen_process::signals::Stop;
use bluegreen_protocol::status::Status;
use bluegreen_report::Report;
use bluegreen_sys::{concurrent, parallel};

use crate::error::{Error, Result};
use crate::hold::{Heartbeat, Hold};
use crate::plan::{ServerStatus, Topology, all};
use crate::progress::{Progress, SILENT};
use crate::remote::Remote;
use crate::standby::Standby;

/// A server to lock.
struct Candidate<'a> {
    remote: &'a Remote,
    /// Its state before.
    before: &'a Status,
    /// The connection that is open already.
    standby: Option<Standby>,
}

/// Locks all servers that reported their state, through the connections that are already open, or else through new
/// ones. A promotion waits for the other servers only while it holds the first one, so that two promotions cannot
/// deadlock. Fails if a server no longer serves the same as before.
pub fn hold_all(
    topology: &Topology,
    states: &[ServerStatus],
    mut standby: Vec<Standby>,
    heartbeat: &Heartbeat,
    stop: &Stop,
    report: &Report,
) -> Result<Vec<Hold>> {
    let mut open = |url: &str| {
        let at = standby.iter().position(|standby| standby.url() == url)?;
        Some(standby.swap_remove(at))
    };
    let servers = topology.sides.values().flatten().filter_map(|remote| {
        let before = &states.iter().find(|state| state.url == remote.url)?.status;
        Some(Candidate { remote, before, standby: open(&remote.url) })
    });
    let mut servers: Vec<Candidate> = servers.collect();
    servers.sort_by(|a, b| a.remote.url.cmp(&b.remote.url));
    let others = servers.split_off(servers.len().min(1));
    let mut holds = hold_together(servers, heartbeat, stop, report)?;
    holds.extend(hold_together(others, heartbeat, stop, report)?);
    Ok(holds)
}

/// Progress reports while locks are taken.
enum Event {
    /// A line about the holder of a lock.
    Holder(String),
    /// The indices of the servers that are not locked yet, every second.
    Unfinished(Vec<usize>),
}

fn hold_together(
    servers: Vec<Candidate>,
    heartbeat: &Heartbeat,
    stop: &Stop,
    report: &Report,
) -> Result<Vec<Hold>> {
    let (sender, events) = channel();
    let hosts: Vec<&str> = servers.iter().map(|server| server.remote.host()).collect();
    let servers: Vec<_> = servers.into_iter().map(|server| Mutex::new(Some(server))).collect();
    let take = |server: &Mutex<Option<Candidate>>, announce: &dyn Fn(String)| {
        let server = server.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(take(server, heartbeat, stop, announce))
    };
    let mut progress = Progress::new(report, "be locked", SILENT);
    let holds = thread::scope(|scope| {
        let (servers, take) = (&servers, &take);
        let taking = parallel::spawn(scope, move || {
            // The receiver hangs up only after it has given up.
            let send = |event| sender.send(event).unwrap_or_default();
            concurrent::map_with_progress(
                servers,
                |server| take(server, &|line| send(Event::Holder(line))),
                |unfinished| send(Event::Unfinished(unfinished.to_vec())),
            )
        });
        let Ok(taking) = taking else {
            return servers.iter().map(|server| take(server, &|line| report.line(line))).collect();
        };
        for event in events {
            match event {
                Event::Holder(line) => report.line(line),
                Event::Unfinished(unfinished) => {
                    progress.show(unfinished.iter().map(|&at| hosts[at]).collect());
                }
            }
        }
        taking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    report.end_progress();
    all(holds.into_iter().flatten().collect(), report)
}

fn take(server: Candidate, heartbeat: &Heartbeat, stop: &Stop, announce: impl Fn(String)) -> Result<Hold> {
    let Candidate { remote, before, standby } = server;
    let announce = |holder: &str| announce(format!("Waiting for {holder} at {}...", remote.url));
    let standing = standby.and_then(|standby| standby.lock(stop, announce).transpose());
    let hold = standing.unwrap_or_else(|| Hold::take(remote, before.protocol, heartbeat, stop, announce))?;
    if (&before.live, before.good, &before.since) != (&hold.status.live, hold.status.good, &hold.status.since)
    {
        return Err(Error::Changed(format!("`{}` got another release", remote.url)));
    }
    Ok(hold)
}
