//! A push to every server of a side: the clone's own `git push`, once for each of them, all at the same time.
//!
//! git says what became of the refs. What a server serves it is asked for itself: without the gate, a push
//! succeeds whatever becomes of its deployment.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bluegreen_text::{count, reason, seconds};
use serde::Serialize;

use super::side::{Remote, State};
use crate::pusher::report::Report;
use crate::run::child::{self, End, Limits};
use crate::run::signals::Stop;

/// The time that a push may take: steps have limits of their own, and Ctrl-C ends it.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The beginnings of lines that are not the reason why git failed.
const ASIDES: [&str; 4] = ["remote: ", "Warning: ", "hint: ", "To "];

/// The end of a push to one server, the better ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The refs are there, and none of them was to be deployed.
    Pushed,
    /// The server serves it.
    Live,
    /// It is live, and did not pass its verification.
    Bad,
    /// The refs are not there, or are not live.
    Failed,
}

/// The push to one server, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Pushed {
    /// The server's name here: its host, or its whole address where that is not enough.
    pub server: String,
    /// The address that it was pushed to.
    pub url: String,
    /// The end.
    pub result: Outcome,
    /// The commit that it serves, if it says so.
    pub commit: Option<String>,
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
    /// The push options.
    pub options: &'a [String],
}

/// A line that git printed, or its end.
enum Event {
    Line(usize, String),
    Done(usize, Pushed),
}

/// Pushes to all servers; returns their ends in the same order. `shows_time` is for a terminal.
pub fn push(servers: &[Remote], intent: &PushIntent, report: &Report, shows_time: bool) -> Vec<Pushed> {
    let names = names(servers);
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let started = Instant::now();
    let mut done = Vec::new();
    thread::scope(|scope| {
        let (sender, events) = channel();
        for (at, (server, name)) in servers.iter().zip(&names).enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                let pushed = push_to(server, name, intent, at, &sender);
                sender.send(Event::Done(at, pushed))
            });
        }
        drop(sender);
        loop {
            match events.recv_timeout(Duration::from_secs(1)) {
                Ok(Event::Line(at, line)) => report.line(format_args!("{:width$} | {line}", names[at])),
                Ok(Event::Done(at, pushed)) => done.push((at, pushed)),
                Err(RecvTimeoutError::Timeout) if shows_time => report.progress(format_args!(
                    "{} of {} done, {}",
                    done.len(),
                    count(servers.len() as u64, "server"),
                    seconds(started.elapsed())
                )),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, pushed)| pushed).collect()
}

/// The servers' hosts, or their whole addresses where two have the same.
fn names(servers: &[Remote]) -> Vec<String> {
    let mut hosts: Vec<&str> = servers.iter().map(Remote::host).collect();
    hosts.sort_unstable();
    let is_clear = hosts.windows(2).all(|pair| pair[0] != pair[1]);
    let name = |server: &Remote| if is_clear { server.host().to_owned() } else { server.url.clone() };
    servers.iter().map(name).collect()
}

fn push_to(server: &Remote, name: &str, intent: &PushIntent, at: usize, events: &Sender<Event>) -> Pushed {
    let started = Instant::now();
    let stop = Stop::catch(false);
    let mut git = server.git();
    // Without refspecs, git would refuse a branch that follows none elsewhere.
    git.args(["-c", "push.default=current", "push", "--porcelain"]);
    intent.options.iter().for_each(|option| {
        git.args(["--push-option", option]);
    });
    git.arg("--").arg(&server.url).args(intent.refspecs);
    let mut said = Said::default();
    let asked = child::ask(&mut git, b"", Limits { timeout: LIMIT, stop: Some(&stop) }, |bytes| {
        said.take(bytes, |line| {
            // Nobody listens any more only if nobody waits.
            let _ = events.send(Event::Line(at, line.to_owned()));
        });
    });
    let (result, commit, problem) = match asked {
        Err(error) => (Outcome::Failed, None, Some(format!("cannot run `git`: {}", reason(&error)))),
        Ok((End::Exited(status), refs)) => {
            let refs = refs_of(&String::from_utf8_lossy(&refs));
            if status.success() {
                judge(server, intent, &refs, &said, &stop)
            } else {
                (Outcome::Failed, None, Some(said.reason(&refs)))
            }
        }
        Ok(_) => (Outcome::Failed, None, Some("cancelled; what the server has received goes on".into())),
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

/// The end of a push that git is content with.
fn judge(
    server: &Remote,
    intent: &PushIntent,
    refs: &[(String, String)],
    said: &Said,
    stop: &Stop,
) -> (Outcome, Option<String>, Option<String>) {
    let state = match server.state(Some(stop)) {
        Ok(state) => state,
        Err(error) => return (Outcome::Failed, None, Some(format!("pushed, but {error}"))),
    };
    let State { branch, tip, commit, good, .. } = state;
    let deploys = refs.iter().any(|(name, _)| name.strip_prefix("refs/heads/") == Some(&branch));
    let is_skipped = intent.options.iter().any(|option| option == "skip");
    match &tip {
        Some(tip) if deploys && !is_skipped => {
            if Some(tip) != commit.as_ref() {
                let again = server.line("deploy");
                let problem = said.last("remote: error: ").map_or_else(
                    || format!("{branch} was there already, but is not live: {again} tries again"),
                    |error| format!("{error}: {again} tries again without a push"),
                );
                return (Outcome::Failed, commit, Some(problem));
            }
            let problem = said.last("remote: error: ").map(str::to_owned);
            if good { (Outcome::Live, commit, None) } else { (Outcome::Bad, commit, problem) }
        }
        _ => (Outcome::Pushed, commit, None),
    }
}

/// The refs of a server, each with the reason if it was refused, from git's lines for programs: a flag, the two
/// names and a summary, with tabs between.
fn refs_of(text: &str) -> Vec<(String, String)> {
    let of = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let (flag, refs, summary) = (parts.next()?, parts.next()?, parts.next()?);
        let name = refs.rsplit(':').next()?;
        let summary = if flag == "!" { summary } else { "" };
        Some((name.to_owned(), summary.to_owned()))
    };
    text.lines().filter_map(of).collect()
}

/// The lines that git has printed.
#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    rest: Vec<u8>,
}

impl Said {
    /// Takes a piece of output, and hands on each line that is whole.
    fn take(&mut self, bytes: &[u8], print: impl Fn(&str)) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            // Progress before a carriage return would be drawn over on a terminal: it is left out.
            let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
            print(line);
            self.lines.push(line.to_owned());
        }
    }

    /// The last line with this beginning, without it.
    fn last(&self, start: &str) -> Option<&str> {
        self.lines.iter().rev().find_map(|line| line.strip_prefix(start))
    }

    /// The reason why a push failed: a ref that was refused, else the first words of git or ssh.
    fn reason(&self, refs: &[(String, String)]) -> String {
        let refused = refs.iter().map(|(_, summary)| summary.as_str()).find(|summary| !summary.is_empty());
        let is_aside = |line: &str| line.is_empty() || ASIDES.iter().any(|start| line.starts_with(start));
        let first = || self.lines.iter().map(String::as_str).find(|line| !is_aside(line));
        refused.or_else(first).unwrap_or("git gives no reason").to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_what_was_refused_or_the_first_words() {
        let said = |text: &[&[u8]]| {
            let mut said = Said::default();
            for bytes in text {
                said.take(bytes, |_| ());
            }
            said
        };
        let unreachable = said(&[
            b"Warning: Permanently added 'blue'\nssh: connect to ho",
            b"st blue port 22: Connection refused\nfatal: Could not read from remote repository.\n",
        ]);
        assert_eq!(unreachable.reason(&[]), "ssh: connect to host blue port 22: Connection refused");
        let refs = refs_of(
            "To blue:app\n=\trefs/heads/a:refs/heads/a\t[up to date]\n\
             !\trefs/heads/b:refs/heads/c\t[remote rejected] (step `x` exited with status 1)\nDone\n",
        );
        assert_eq!(refs[0], ("refs/heads/a".into(), String::new()));
        assert_eq!(refs[1].0, "refs/heads/c");
        assert_eq!(unreachable.reason(&refs), "[remote rejected] (step `x` exited with status 1)");
        let progress =
            said(&[b"remote: Writing files:  45%\rremote: Writing files: 100%        \nremote: error: no\n"]);
        assert_eq!(progress.lines, ["remote: Writing files: 100%", "remote: error: no"]);
        assert_eq!(
            (progress.last("remote: error: "), progress.reason(&[]).as_str()),
            (Some("no"), "git gives no reason")
        );
    }
}
