//! The durations of a push's phases, for the push option `timing`.
//!
//! Each phase lasts until the next one begins, so that the durations add up to the whole. What happened before this process
//! started is derived from the start times of the processes above it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use bluegreen_process::ancestors::{Process, ancestors, since_boot};
use bluegreen_report::Report;

/// The phases of a run, each with its beginning.
#[derive(Debug)]
pub(crate) struct Timing {
    phases: RefCell<Vec<(String, Instant)>>,
}

impl Timing {
    /// Begins with the phase that reads the config and, with the gate, checks the push.
    pub(crate) fn start() -> Self {
        Self { phases: RefCell::new(vec![("begin".into(), Instant::now())]) }
    }

    pub(crate) fn begin(&self, phase: impl Into<String>) {
        self.phases.borrow_mut().push((phase.into(), Instant::now()));
    }

    /// Prints the phases until now, each with its duration, and their sum.
    pub(crate) fn print(&self, report: &Report) {
        let (now, now_since_boot) = (Instant::now(), since_boot());
        let phases = self.phases.borrow();
        let at = |instant: Instant| now_since_boot.saturating_sub(now.duration_since(instant));
        let mut starts = before(&ancestors());
        starts.extend(phases.iter().map(|(phase, start)| (phase.as_str(), at(*start))));
        for line in lines(&starts, now_since_boot) {
            report.line(line);
        }
    }
}

/// Returns the phases before the hook, each with its start since the boot: the login over ssh, and git.
fn before(above: &[Process]) -> Vec<(&'static str, Duration)> {
    let is_sshd = |process: &&Process| process.name.starts_with("sshd");
    let ssh = above.iter().find(is_sshd);
    let is_git = |process: &&Process| process.name.starts_with("git") && process.name != "git-shell";
    let git = above.iter().take_while(|process| !is_sshd(process)).filter(is_git).last();
    // The process of the connection creates a session, which the process of the user does not leave.
    let connection = ssh.and_then(Process::session_leader).filter(|leader| is_sshd(&leader));
    let mut starts = Vec::new();
    if let (Some(connection), Some(_)) = (connection, git) {
        starts.push(("ssh: connect and log in", connection.started));
    }
    if let Some(git) = git {
        starts.push(("git: receive the push", git.started));
    }
    starts
}

/// Formats the durations between the starts and until the end. Consecutive phases with the same name count as one.
fn lines(starts: &[(&str, Duration)], end: Duration) -> Vec<String> {
    let ends = starts.iter().skip(1).map(|(_, start)| *start).chain([end]);
    let mut rows: Vec<(&str, Duration)> = Vec::new();
    for ((phase, start), end) in starts.iter().zip(ends) {
        let took = end.saturating_sub(*start);
        match rows.last_mut() {
            Some((last, sum)) if last == phase => *sum += took,
            _ => rows.push((phase, took)),
        }
    }
    let sum = rows.iter().map(|(_, took)| *took).sum();
    let row = |(phase, took): (&str, Duration)| format!("  {:7.3} s  {phase}", took.as_secs_f64());
    let rows = rows.into_iter().map(row);
    ["Timing:".to_owned()].into_iter().chain(rows).chain([row(("in all", sum))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_durations_add_up() {
        let ms = Duration::from_millis;
        let starts = [("ssh", ms(1000)), ("git", ms(1200)), ("check out", ms(1250)), ("check out", ms(1251))];
        assert_eq!(
            lines(&starts, ms(1300)),
            [
                "Timing:",
                "    0.200 s  ssh",
                "    0.050 s  git",
                "    0.050 s  check out",
                "    0.300 s  in all"
            ]
        );
    }
}
