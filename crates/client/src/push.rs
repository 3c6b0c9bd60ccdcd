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
use bluegreen_text::{count, reason, seconds};
use serde::Serialize;

use crate::program::shorten;
use crate::remote::Remote;
use bluegreen_object_store::ObjectId;
use bluegreen_process::signals::Stop;
use bluegreen_process::{self as process, End, Limits};
use bluegreen_protocol::status::Status;
use bluegreen_report::Report;
use bluegreen_sys::concurrent::MAX_CONCURRENT;

/// The timeout of a push: steps have timeouts of their own, and Ctrl-C cancels it.
const TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The most that git may print about the refs, in bytes.
const MAX_REFS: usize = 4 * 1024 * 1024;

/// The longest line that is printed, in bytes; the rest of it is dropped.
const MAX_LINE: usize = 4096;

/// The lines that wait to be printed: a server that prints faster than the terminal has to wait.
const MAX_WAITING: usize = 1000;

/// The beginnings of lines that are not the reason of git's failure.
const ASIDES: [&str; 4] = ["remote: ", "Warning: ", "hint: ", "To "];

/// The result of a push to one server, the better ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The refs have moved, and none of them is deployed.
    Pushed,
    /// The server serves the commit.
    Live,
    /// The commit is live, but failed its verification.
    Bad,
    /// The refs have not moved, or are not live.
    Failed,
}

/// The push to one server, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Pushed {
    /// The server's host, or its whole address if several servers have the same host.
    pub server: String,
    /// The address that was pushed to.
    pub url: String,
    pub result: Outcome,
    /// The commit that the server serves, if it is known.
    pub commit: Option<ObjectId>,
    /// The time that it took, in seconds.
    pub seconds: f64,
    /// The reason of a failure.
    pub problem: Option<String>,
}

/// The arguments of each `git push`, besides the address.
#[derive(Debug)]
pub struct PushIntent<'a> {
    /// The refspecs; none for the current branch.
    pub refspecs: &'a [String],
    pub options: &'a [String],
}

/// A line that git printed, or the result.
enum Event {
    Line(usize, String),
    Done(usize, Pushed),
}

/// Prints events as they happen.
struct Printer<'a> {
    report: &'a Report,
    names: &'a [String],
    width: usize,
    started: Instant,
    done: Vec<(usize, Pushed)>,
}

impl Printer<'_> {
    fn take(&mut self, event: Event) {
        match event {
            Event::Line(at, line) => {
                let (name, width) = (&self.names[at], self.width);
                self.report.line(format_args!("{name:width$} | {line}"));
            }
            Event::Done(at, pushed) => self.done.push((at, pushed)),
        }
    }

    fn show_time(&self) {
        self.report.progress(format_args!(
            "{} of {} done, {}",
            self.done.len(),
            count(self.names.len() as u64, "server"),
            seconds(self.started.elapsed())
        ));
    }
}

/// Pushes to all servers; returns the results in the same order. `shows_time` is for a terminal.
pub fn push(servers: &[Remote], intent: &PushIntent, report: &Report, shows_time: bool) -> Vec<Pushed> {
    let (names, stop) = (names(servers), Stop::catch(false));
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut printer = Printer { report, names: &names, width, started: Instant::now(), done: Vec::new() };
    let next = AtomicUsize::new(0);
    let work = |send: &dyn Fn(Event)| {
        while let Some((server, at)) = next_of(servers, &next) {
            let pushed = push_to(server, &names[at], intent, &stop, &|line| send(Event::Line(at, line)));
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
                Err(RecvTimeoutError::Timeout) if shows_time => printer.show_time(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break threads,
            }
        }
    });
    if threads == 0 {
        // The system has no thread left: one server after the other.
        let printer = RefCell::new(&mut printer);
        work(&|event| printer.borrow_mut().take(event));
    }
    let mut done = printer.done;
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, pushed)| pushed).collect()
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

fn push_to(server: &Remote, name: &str, intent: &PushIntent, stop: &Stop, print: &dyn Fn(String)) -> Pushed {
    let started = Instant::now();
    let mut git = server.git();
    // Without refspecs, git would reject a branch that has no upstream.
    git.args(["-c", "push.default=current", "push", "--porcelain"]);
    intent.options.iter().for_each(|option| {
        git.args(["--push-option", option]);
    });
    git.arg("--").arg(&server.url).args(intent.refspecs);
    let mut said = Said::default();
    let limits = Limits { timeout: TIMEOUT, stop: Some(stop) };
    let ran = process::output(&mut git, b"", limits, MAX_REFS, |bytes| said.take(bytes, print));
    let (result, commit, problem) = match ran {
        Err(error) => (Outcome::Failed, None, Some(format!("cannot run `git`: {}", reason(&error)))),
        Ok((End::Exited(status), refs)) => {
            let refs = refs_of(&String::from_utf8_lossy(&refs));
            if status.success() {
                judge(server, intent, &refs, &said, stop)
            } else {
                let problem = server.explain(&said.failure).map(|error| match error.hint() {
                    Some(hint) => format!("{error}; {hint}"),
                    None => error.to_string(),
                });
                (Outcome::Failed, None, Some(problem.unwrap_or_else(|| said.reason(&refs))))
            }
        }
        Ok(_) => {
            let problem = "cancelled; the server finishes what it has received";
            (Outcome::Failed, None, Some(problem.into()))
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
fn judge(
    server: &Remote,
    intent: &PushIntent,
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
    let is_skipped = intent.options.iter().any(|option| option == "skip");
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

/// A ref of the server.
#[derive(Debug, PartialEq, Eq)]
struct PushedRef {
    name: String,
    /// The reason if it was rejected, or else nothing.
    rejection: String,
}

/// Parses git's porcelain output: a flag, the two names, and a summary, separated by tabs.
fn refs_of(text: &str) -> Vec<PushedRef> {
    let of = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let (flag, refs, summary) = (parts.next()?, parts.next()?, parts.next()?);
        let name = refs.rsplit(':').next()?.to_owned();
        let rejection = if flag == "!" { shorten(summary) } else { String::new() };
        Some(PushedRef { name, rejection })
    };
    text.lines().filter_map(of).collect()
}

/// What git has printed: the parts that give the reason of a failure.
#[derive(Debug, Default)]
struct Said {
    error: Option<String>,
    /// The first line that is neither from the server nor an aside.
    first: Option<String>,
    /// The end of what git and ssh themselves have printed.
    failure: String,
    line: Vec<u8>,
}

impl Said {
    /// Takes a piece of output, and passes on each line that is complete. Lines of any length are taken in linear time
    /// and bounded memory.
    fn take(&mut self, bytes: &[u8], print: impl Fn(String)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            let part = text.unwrap_or(piece);
            // Progress before a carriage return would be overwritten on a terminal, and is left out.
            if let Some(at) = part.iter().rposition(|&byte| byte == b'\r').filter(|&at| at + 1 < part.len()) {
                self.line.clear();
                self.extend(&part[at + 1..]);
            } else {
                self.extend(part);
            }
            if text.is_some() {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
                self.keep(line);
                print(line.to_owned());
            }
        }
    }

    fn extend(&mut self, part: &[u8]) {
        let space = MAX_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(space)]);
    }

    fn keep(&mut self, line: &str) {
        if let Some(error) = line.strip_prefix("remote: error: ") {
            self.error = Some(shorten(error));
        }
        if line.is_empty() || line.starts_with("remote: ") {
            return;
        }
        if self.failure.len() < MAX_LINE {
            self.failure.push_str(line);
            self.failure.push('\n');
        }
        if self.first.is_none() && !ASIDES.iter().any(|start| line.starts_with(start)) {
            self.first = Some(shorten(line));
        }
    }

    /// Returns the reason why a push failed: a ref that was rejected, or else the first line of git or ssh.
    fn reason(&self, refs: &[PushedRef]) -> String {
        let rejected = refs.iter().map(|pushed| &pushed.rejection).find(|reason| !reason.is_empty());
        rejected.or(self.first.as_ref()).cloned().unwrap_or_else(|| "git gives no reason".into())
    }
}

/// Returns the lines that git prints, and the reason of a failure; for the fuzz target.
#[must_use]
pub fn summarize(output: &[u8]) -> (Vec<String>, String) {
    let (lines, mut said) = (RefCell::new(Vec::new()), Said::default());
    for piece in output.chunks(7) {
        said.take(piece, |line| lines.borrow_mut().push(line));
    }
    let reason = said.reason(&refs_of(&String::from_utf8_lossy(output)));
    (lines.into_inner(), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &[&[u8]]) -> Said {
        let mut said = Said::default();
        for bytes in text {
            said.take(bytes, |_| ());
        }
        said
    }

    #[test]
    fn the_reason_is_a_rejection_or_the_first_line() {
        let unreachable = said(&[
            b"Warning: Permanently added 'blue'\nssh: connect to ho",
            b"st blue port 22: Connection refused\nfatal: Could not read from remote repository.\n",
        ]);
        assert_eq!(unreachable.reason(&[]), "ssh: connect to host blue port 22: Connection refused");
        let refs = refs_of(
            "To blue:app\n=\trefs/heads/a:refs/heads/a\t[up to date]\n\
             !\trefs/heads/b:refs/heads/c\t[remote rejected] (step `x` exited with status 1)\nDone\n",
        );
        assert_eq!(refs[0], PushedRef { name: "refs/heads/a".into(), rejection: String::new() });
        assert_eq!(refs[1].name, "refs/heads/c");
        assert_eq!(unreachable.reason(&refs), "[remote rejected] (step `x` exited with status 1)");
    }

    #[test]
    fn progress_is_left_out() {
        let lines = RefCell::new(Vec::new());
        let mut said = Said::default();
        for bytes in [
            &b"remote: Writing files:  45%\rremote: Wri"[..],
            b"ting files: 100%        \nremote: error: no\n",
        ] {
            said.take(bytes, |line| lines.borrow_mut().push(line));
        }
        assert_eq!(lines.into_inner(), ["remote: Writing files: 100%", "remote: error: no"]);
        assert_eq!((said.error.as_deref(), said.reason(&[]).as_str()), (Some("no"), "git gives no reason"));
    }

    #[test]
    fn a_long_line_takes_linear_time_and_little_memory() {
        let started = Instant::now();
        let mut said = Said::default();
        for _ in 0..1000 {
            said.take(&[b'x'; 16 * 1024], |_| ());
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(said.line.capacity() < 64 * 1024);
    }
}
