//! A filter may leave something running that holds git's standard error: nobody waits for it.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{Node, Sandbox};

/// A process that the filter leaves running; it goes when the test does.
struct Daemon(String);

impl Daemon {
    /// The one that wrote its number down.
    fn of(sandbox: &Sandbox) -> Self {
        let pid = std::fs::read_to_string(sandbox.path("daemon")).unwrap().trim().to_owned();
        assert!(pid.parse::<u32>().is_ok(), "{pid}");
        Self(pid)
    }

    #[track_caller]
    fn still_runs(&self) {
        let stat = std::fs::read_to_string(PathBuf::from("/proc").join(&self.0).join("stat"));
        let stat = stat.unwrap_or_else(|_| panic!("it was waited for"));
        assert!(stat.contains("(sleep) ") && !stat.contains(") Z "), "it was waited for: {stat}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(Command::new("kill").args(["-KILL", &self.0]).status());
    }
}

/// A server whose filter starts a daemon that holds standard error, and then does `rest`.
fn with_filter(rest: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    // Its input and output are git's own pipes to the filter, and git would wait for those.
    let smudge =
        format!("sleep 120 </dev/null >/dev/null & echo $! >{}; {rest}", sandbox.path("daemon").display());
    sandbox.git_in(&sandbox.repository(), &["config", "filter.daemon.smudge", &smudge]);
    sandbox.git_in(&sandbox.repository(), &["config", "filter.daemon.required", "true"]);
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("*.up filter=daemon\n")),
        (b"a.up", Node::file("content\n")),
    ]);
    sandbox
}

#[test]
fn a_filter_may_leave_a_daemon() {
    let sandbox = with_filter("tr a-z A-Z");
    let told = sandbox.push();
    let daemon = Daemon::of(&sandbox);
    daemon.still_runs();
    told.ok().serves("a.up", "CONTENT\n");
}

#[test]
fn a_filter_that_leaves_a_daemon_and_fails_is_heard() {
    let sandbox = with_filter("echo no such thing >&2; exit 3");
    let told = sandbox.push();
    let daemon = Daemon::of(&sandbox);
    daemon.still_runs();
    let told = told.not_deployed();
    let reason = "error: git cannot convert what attributes name: fatal: a.up: smudge filter daemon failed";
    told.says(reason).serves_nothing();
}
