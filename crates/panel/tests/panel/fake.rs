//! Simulated servers, and a panel that shows them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bluegreen_client::changes::Change as Commit;
use bluegreen_client::switch::{Shown, Split};
use bluegreen_git_types::ObjectId;
use bluegreen_panel::client::{
    Change, Client, Endpoint, Health, Pair, Planned, Problem, Progress, Promotion,
};
use bluegreen_panel::{Options, PanelError, Timeouts, serve};
use bluegreen_process::signals::Stop;
use bluegreen_protocol::history::Entry;
use bluegreen_protocol::status::Status;
use serde_json::{Value, json};

use crate::script::play;

/// The responses of the simulated servers.
#[derive(Clone)]
pub struct World {
    pub public: Result<Option<String>, Problem>,
    /// The percentage of the requests that the other side gets.
    pub percent: u8,
    /// `status --json` of blue and green.
    pub statuses: [Result<Value, Problem>; 2],
    pub histories: [Value; 2],
    pub changes: Vec<Commit>,
    /// The reason why a promotion needs force.
    pub unhealthy: Option<Problem>,
    /// True if actions print without an end.
    pub is_flooding: bool,
    /// True if actions do not end.
    pub is_blocked: bool,
    /// The number of steps that a promotion may begin. A ninth one ends the drain.
    pub allowed: usize,
    /// True if a promotion has a canary, and drains.
    pub has_canary: bool,
    /// The changes that were made.
    pub applied: Vec<String>,
    /// The response time of blue.
    pub delay: Duration,
    /// The number of followers that run, that have been started, and that have run at the same time.
    pub followers: [usize; 3],
}

impl World {
    fn new() -> Self {
        Self {
            public: Ok(Some("blue".into())),
            percent: 0,
            statuses: [Ok(status("blue", 'a', "First")), Ok(status("green", 'b', "Second"))],
            histories: [json!([]), json!([])],
            changes: vec![change(true, "b2b2b2b", "Second", "Ada")],
            unhealthy: None,
            is_flooding: false,
            is_blocked: false,
            allowed: usize::MAX,
            has_canary: false,
            applied: Vec::new(),
            delay: Duration::ZERO,
            followers: [0; 3],
        }
    }
}

pub fn problem(message: &str) -> Problem {
    Problem { message: message.into(), hint: Some("try again".into()) }
}

pub fn change(is_gained: bool, commit: &str, subject: &str, author: &str) -> Commit {
    Commit { is_gained, commit: commit.into(), subject: subject.into(), author: author.into() }
}

/// Returns the state of a server, as `status --json` prints it.
pub fn status(name: &str, digit: char, subject: &str) -> Value {
    let commit = digit.to_string().repeat(40);
    json!({
        "server": name, "branch": "master", "site": "/srv", "live": "20260101-000000-aaaaaaaaaaaa", "commit": commit,
        "subject": subject, "since": "2026-01-01T00:00:00Z", "good": true, "tip": commit,
        "public": { "public": name == "blue", "since": "2026-01-02T00:00:00Z" },
    })
}

/// Returns a history entry, as `history --json` prints it.
pub fn entry(time: &str, action: &str, outcome: &str, more: &Value) -> Value {
    let mut entry = json!({
        "time": time, "action": action, "by": { "user": "ada" }, "release": null, "old": null, "new": "c".repeat(40),
        "seconds": 2.5, "outcome": outcome,
    });
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry
}

/// Simulated servers, whose responses the test can change.
#[derive(Clone)]
pub struct Fake(pub Arc<Mutex<World>>, pub Arc<AtomicUsize>);

impl Client for Fake {
    fn open(&self) -> Result<Box<dyn Pair>, Problem> {
        Ok(Box::new(self.clone()))
    }
}

impl Fake {
    pub fn world(&self) -> World {
        self.0.lock().unwrap().clone()
    }

    fn index(server: &Endpoint) -> usize {
        usize::from(server.side == "green")
    }
}

impl Pair for Fake {
    fn public_url(&self) -> String {
        "http://203.0.113.10/".into()
    }

    fn servers(&self) -> Vec<Endpoint> {
        let server = |side: &str| Endpoint {
            side: side.into(),
            url: format!("deploy@{side}:app"),
            host: format!("{side}.example"),
        };
        vec![server("blue"), server("green")]
    }

    fn front(&self, _: &Stop) -> Result<Shown, Problem> {
        let world = self.world();
        let public = world.public?;
        let other = if public.as_deref() == Some("blue") { "green" } else { "blue" };
        let split = Split { side: other.into(), percent: world.percent };
        Ok(Shown { public, split: Some(split).filter(|split| split.percent > 0) })
    }

    fn status(&self, server: &Endpoint, _: &Stop) -> Result<Status, Problem> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let world = self.world();
        if server.side == "blue" {
            thread::sleep(world.delay);
        }
        let status = world.statuses[Self::index(server)].clone()?;
        Ok(serde_json::from_value(status).unwrap())
    }

    fn health(&self, _: &Endpoint, _: &Stop) -> Result<Health, Problem> {
        Ok(Health { is_healthy: true, problem: String::new(), took: Duration::from_millis(4) })
    }

    fn history(&self, server: &Endpoint, _: &Stop) -> Result<Vec<Entry>, Problem> {
        let entries: Vec<Entry> =
            serde_json::from_value(self.world().histories[Self::index(server)].clone()).unwrap();
        Ok(entries.into_iter().map(Entry::bounded).collect())
    }

    fn author(&self, _: &ObjectId) -> Option<String> {
        Some("Ada Developer".into())
    }

    fn changes(&self, _: &ObjectId, _: &ObjectId) -> Vec<Commit> {
        self.world().changes
    }

    fn plan(&self, side: &str, force: bool, stop: &Stop) -> Result<Planned, Problem> {
        let world = self.world();
        if let Some(problem) = world.unhealthy.filter(|_| !force) {
            return Err(problem);
        }
        let (from, commits) =
            (self.front(stop)?.public, world.statuses.map(|status| status.unwrap()["commit"].clone()));
        let id = |at: usize| serde_json::from_value(commits[at].clone()).unwrap();
        let at = usize::from(side == "green");
        Ok(Planned {
            is_public: from.as_deref() == Some(side),
            from,
            to: side.into(),
            old: id(1 - at),
            new: id(at),
            left_out: Vec::new(),
            canary: if world.has_canary {
                vec![(10, Duration::from_secs(120)), (50, Duration::from_secs(60))]
            } else {
                Vec::new()
            },
            watch: Duration::from_secs(30),
            drain: Duration::from_secs(if world.has_canary { 60 } else { 0 }),
        })
    }

    fn promote(
        &self,
        wanted: &Promotion,
        stop: &Stop,
        progress: &Arc<dyn Progress>,
    ) -> Result<String, Problem> {
        let planned = self.plan(&wanted.side, wanted.force, stop)?;
        if wanted.seen.as_ref() != Some(&planned.seen()) {
            return Err(problem("the sides have changed since you confirmed"));
        }
        play(self, wanted, &planned, stop, progress)
    }

    fn apply(
        &self,
        side: &str,
        change: &Change,
        stop: &Stop,
        progress: &Arc<dyn Progress>,
    ) -> Result<String, Problem> {
        self.0.lock().unwrap().applied.push(format!("{side}: {change:?}"));
        progress.line("Working on <i>it</i>...");
        while self.world().is_flooding {
            (0..100).for_each(|_| progress.line(&"x".repeat(1000)));
            thread::sleep(Duration::from_millis(5));
        }
        let is_cancel = format!("{change:?}").contains("Cancel");
        while self.world().is_blocked && !is_cancel && stop.check().is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(format!("{side} has changed."))
    }

    fn follow(&self, _: &Endpoint, stop: &Stop, line: &dyn Fn(&str)) -> Result<(), Problem> {
        let count = |change: isize| {
            let [running, started, most] = &mut self.0.lock().unwrap().followers;
            *running = running.wrapping_add_signed(change);
            *started += usize::from(change > 0);
            *most = (*most).max(*running);
        };
        count(1);
        line("Step <npm>\u{1b}[2J is running");
        while stop.check().is_ok() && self.world().is_blocked {
            thread::sleep(Duration::from_millis(20));
        }
        count(-1);
        Ok(())
    }
}

/// A panel that runs until the test ends.
pub struct Panel {
    pub address: SocketAddr,
    pub fake: Fake,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// Returns the options that most tests use.
pub fn options() -> Options {
    let timeouts = Timeouts {
        sending: Duration::from_secs(10),
        request: Duration::from_secs(20),
        ..Timeouts::default()
    };
    Options { listen: "127.0.0.1:0".parse().unwrap(), token_file: None, hosts: Vec::new(), timeouts }
}

impl Panel {
    pub fn new() -> Self {
        Self::start(options())
    }

    pub fn with_token(token_file: PathBuf) -> Self {
        Self::start(Options { token_file: Some(token_file), ..options() })
    }

    pub fn start(options: Options) -> Self {
        let fake = Fake(Arc::new(Mutex::new(World::new())), Arc::default());
        let stop = Arc::new(Stop::never().part());
        let (sender, addresses) = channel();
        let (client, stopped) = (Arc::new(fake.clone()), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            serve(&options, client, &stopped, |address| sender.send(address).unwrap()).unwrap();
        });
        Self { address: addresses.recv().unwrap(), fake, stop, thread: Some(thread) }
    }

    pub fn fails(options: &Options) -> PanelError {
        let fake = Fake(Arc::new(Mutex::new(World::new())), Arc::default());
        serve(options, Arc::new(fake), &Stop::never().part(), |_| ()).unwrap_err()
    }

    /// Changes the responses of the servers.
    pub fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.fake.0.lock().unwrap());
    }

    /// Returns how many times the servers were queried for their state.
    pub fn questions(&self) -> usize {
        self.fake.1.load(Ordering::Relaxed)
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        self.stop.request();
        self.thread.take().unwrap().join().unwrap();
    }
}
