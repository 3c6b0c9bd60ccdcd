//! A push to every server of a side: the clone's own `git push`, once for each of them, concurrently.
//!
//! git reports what happened to the refs. What a server serves is requested separately, because without the gate a push
//! succeeds whatever happens to its deployment.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bluegreen_sys::parallel;
use bluegreen_text::explain::Explain;
use bluegreen_text::reason;

use crate::push_output::{PushedRef, Said, refs_of};
use crate::push_printer::{Event, Printer};
pub use crate::pushed::{Outcome, Pushed};
use crate::remote::Remote;
use bluegreen_git_types::ObjectId;
use bluegreen_process::signals::Stop;
use bluegreen_process::{self as process, End, Limits};
use bluegreen_protocol::status::Status;
use bluegreen_report::Report;
use bluegreen_sys::concurrent::MAX_CONCURRENT;

/// The timeout of a push: steps have timeouts of their own, and Ctrl-C cancels it.
const TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The maximum length of git's output about the refs, in bytes.
const MAX_REFS: usize = 4 * 1024 * 1024;

/// The maximum number of lines that wait to be printed: a server that prints faster than the terminal has to wait.
const MAX_WAITING: usize = 1000;

/// The refspecs of a push.
#[derive(Debug)]
pub enum Refspecs<'a> {
    /// The branch to push to all servers; `None` for the current branch.
    Same(&'a [String]),
    /// A result for each server, in order, or the error that prevents the push.
    Each(Vec<crate::Result<String>>),
}

impl Refspecs<'_> {
    fn of(&self, server: usize) -> std::result::Result<&[String], String> {
        match self {
            Self::Same(refspecs) => Ok(refspecs),
            Self::Each(refspecs) => match refspecs.get(server) {
                Some(Ok(refspec)) => Ok(std::slice::from_ref(refspec)),
                Some(Err(error)) => Err(error.to_string()),
                None => Ok(&[]),
            },
        }
    }
}

/// The arguments of each `git push`, besides the address.
#[derive(Debug)]
pub struct PushIntent<'a> {
    /// What to push.
    pub refspecs: Refspecs<'a>,
    pub options: &'a [String],
}

/// Pushes to all servers; returns the results in the same order. `shows_time` is for a terminal.
pub fn push(
    servers: &[Remote],
    intent: &PushIntent,
    report: &Report,
    shows_time: bool,
    stop: &Stop,
) -> Vec<Pushed> {
    let names = names(servers);
    let mut printer = Printer::new(report, &names);
    let next = AtomicUsize::new(0);
    let work = |send: &dyn Fn(Event)| {
        while let Some((server, at)) = next_of(servers, &next) {
            let print = |line| send(Event::Line(at, line));
            let pushed = match intent.refspecs.of(at) {
                Ok(refspecs) => push_to(server, &names[at], refspecs, intent.options, stop, &print),
                Err(problem) => Pushed::failed(server, &names[at], problem),
            };
            send(Event::Done(at, pushed));
        }
    };
    let work = &work;
    let threads = thread::scope(|scope| {
        let (sender, events) = sync_channel(MAX_WAITING);
        let spawn = |_| {
            let sender = sender.clone();
            let send = move |event| {
                // The receiver hangs up only after all threads have finished.
                let _ = sender.send(event);
            };
            parallel::spawn(scope, move || work(&send)).ok()
        };
        let threads = (0..servers.len().min(MAX_CONCURRENT)).map_while(spawn).count();
        drop(sender);
        loop {
            match events.recv_timeout(Duration::from_secs(1)) {
                Ok(event) => printer.take(event),
                Err(RecvTimeoutError::Timeout) => printer.wait(shows_time),
                Err(RecvTimeoutError::Disconnected) => break threads,
            }
        }
    });
    if threads == 0 {
        // The system has no thread left: one server after the other.
        let printer = RefCell::new(&mut printer);
        work(&|event| printer.borrow_mut().take(event));
    }
    printer.results()
}

fn next_of<'a>(servers: &'a [Remote], next: &AtomicUsize) -> Option<(&'a Remote, usize)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    servers.get(at).map(|server| (server, at))
}

/// Returns the servers' hosts, or their whole addresses if two have the same host.
fn names(servers: &[Remote]) -> Vec<String> {
    let mut hosts: Vec<&str> = servers.iter().map(Remote::host).collect();
    hosts.sort_unstable();
    let is_clear = hosts.windows(2).all(|pair| pair[0] != pair[1]);
    let name = |server: &Remote| if is_clear { server.host().to_owned() } else { server.url.clone() };
    servers.iter().map(name).collect()
}

fn push_to(
    server: &Remote,
    name: &str,
    refspecs: &[String],
    options: &[String],
    stop: &Stop,
    print: &dyn Fn(String),
) -> Pushed {
    let started = Instant::now();
    let mut git = server.git();
    // Without refspecs, git would reject a branch that has no upstream.
    git.args(["-c", "push.default=current", "push", "--porcelain"]);
    for option in options {
        git.args(["--push-option", option]);
    }
    git.arg("--").arg(&server.url).args(refspecs);
    let mut said = Said::default();
    let limits = Limits { timeout: TIMEOUT, stop: Some(stop) };
    let ran = process::output(&mut git, b"", limits, MAX_REFS, |bytes| said.take(bytes, print));
    let (result, commit, problem) = match ran {
        Err(error) => (Outcome::Failed, None, Some(format!("cannot run `git`: {}", reason(&error)))),
        Ok((End::Exited(status), refs)) => {
            let refs = refs_of(&String::from_utf8_lossy(&refs));
            if status.success() {
                outcome(server, options, &refs, &said, stop)
            } else {
                let problem = server.explain(&said.failure).map(|error| match error.hint() {
                    Some(hint) => format!("{error}; {hint}"),
                    None => error.to_string(),
                });
                (Outcome::Failed, None, Some(problem.unwrap_or_else(|| said.reason(&refs))))
            }
        }
        Ok((end, _)) => {
            let how = if matches!(end, End::TimedOut) { "timed out" } else { "cancelled" };
            (Outcome::Failed, None, Some(format!("{how}; the server finishes what it has received")))
        }
    };
    Pushed {
        server: name.to_owned(),
        url: server.url.clone(),
        result,
        commit,
        seconds: started.elapsed().as_secs_f64(),
        problem,
    }
}

/// Judges a push that git reports as successful.
fn outcome(
    server: &Remote,
    options: &[String],
    refs: &[PushedRef],
    said: &Said,
    stop: &Stop,
) -> (Outcome, Option<ObjectId>, Option<String>) {
    let status = match server.status(Some(stop)) {
        Ok(status) => status,
        Err(error) => return (Outcome::Failed, None, Some(format!("pushed, but {error}"))),
    };
    let Status { branch, tip, commit, good, unchanged, .. } = status;
    let deploys = refs.iter().any(|pushed| pushed.name.strip_prefix("refs/heads/") == Some(&branch));
    let is_skipped = options.iter().any(|option| option == "skip");
    match tip {
        Some(tip) if deploys && !is_skipped => {
            if Some(tip) != commit && !unchanged {
                let again = server.line("deploy");
                let problem = said.error.as_ref().map_or_else(
                    || format!("{branch} is up to date, but not live: {again} deploys it"),
                    |error| format!("{error}: {again} tries again without a push"),
                );
                return (Outcome::Failed, commit, Some(problem));
            }
            if good { (Outcome::Live, commit, None) } else { (Outcome::Bad, commit, said.error.clone()) }
        }
        _ => (Outcome::Pushed, commit, None),
    }
}
