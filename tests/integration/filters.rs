//! A filter may leave a background process that keeps git's standard error open. Deployments do not wait for
//! it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::run::spawn;
use crate::support::sandbox::BLUEGREEN;
use crate::support::{Node, Run, Sandbox};

/// A process that the filter leaves running. Killed on drop.
struct Daemon(String);

impl Daemon {
    /// Finds the process by the PID that it wrote to a file.
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

/// A server whose filter starts a daemon that keeps standard error open, and then runs `rest`.
fn with_filter(rest: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    // Standard input and output are git's pipes to the filter, and git would wait for those.
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
fn a_failed_filter_with_a_daemon_is_reported() {
    let sandbox = with_filter("echo no such thing >&2; exit 3");
    let told = sandbox.push();
    let daemon = Daemon::of(&sandbox);
    daemon.still_runs();
    let told = told.not_deployed();
    let reason = "error: git cannot convert a file: fatal: a.up: smudge filter daemon failed";
    told.says(reason).serves_nothing();
}

/// A server that serves `a`, whose next commit has a filter that hangs.
fn with_slow_filter() -> Sandbox {
    let sandbox = Sandbox::new();
    let smudge = format!("echo $$ >{}; sleep 150; cat", sandbox.path("filter").display());
    sandbox.git_in(&sandbox.repository(), &["config", "filter.slow.smudge", &smudge]);
    sandbox.commit("a", "1").push().ok();
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("*.up filter=slow\n")),
        (b"a.up", Node::file("content\n")),
    ]);
    sandbox
}

/// Waits until the filter runs, and returns its session id.
#[track_caller]
fn session_of_filter(sandbox: &Sandbox) -> String {
    let begun = Instant::now();
    loop {
        let pid = std::fs::read_to_string(sandbox.path("filter")).unwrap_or_default();
        if pid.ends_with('\n') {
            let ps = Command::new("ps").args(["-o", "sid=", "-p", pid.trim()]).output().unwrap();
            return String::from_utf8(ps.stdout).unwrap().trim().to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the filter did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn has_ended(session: &str) {
    assert!(session.parse::<u32>().is_ok(), "{session}");
    // A killed process may remain as a zombie until its parent reaps it, so only live states count.
    let found = Command::new("pgrep").args(["-a", "-r", "R,S,D,T", "-s", session]).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn cancel_stops_a_filter_and_keeps_the_live_release() {
    let sandbox = with_slow_filter();
    let (push, reader) = spawn(&mut sandbox.push_command(&["master"]));
    let session = session_of_filter(&sandbox);
    let begun = Instant::now();
    sandbox.bluegreen(&["cancel"]).ok();
    Run::finish(&sandbox, push, reader).not_deployed().says("error: cancelled").serves("a", "1");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    has_ended(&session);
    sandbox.is_tidy();
}

#[test]
fn ctrl_c_stops_a_filter() {
    let sandbox = with_slow_filter();
    sandbox.git(&["push", "--quiet", sandbox.repository().to_str().unwrap(), "master:refs/heads/slow"]);
    let (deploy, reader) = spawn(&mut sandbox.bluegreen_command(&["deploy", "slow"]));
    let session = session_of_filter(&sandbox);
    rustix::process::kill_process(rustix::process::Pid::from_child(&deploy), rustix::process::Signal::INT)
        .unwrap();
    Run::finish(&sandbox, deploy, reader).fails(1).says("error: cancelled").serves("a", "1");
    has_ended(&session);
}

#[test]
fn a_hanging_filter_is_killed() {
    let sandbox = with_slow_filter();
    sandbox.site_config("filter-timeout = \"1s\"");
    let begun = Instant::now();
    let told = sandbox.push().not_deployed();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    told.says("error: git timed out after 1s while it converted files").serves("a", "1");
    sandbox.is_tidy();
}

#[test]
fn a_write_error_does_not_wait_for_a_slow_filter() {
    let sandbox = with_slow_filter();
    let big = vec![b'x'; 3_000_000];
    sandbox.commit_nodes(&[(b"big", Node::File(big))]);
    sandbox.git(&["push", "--quiet", sandbox.repository().to_str().unwrap(), "master:refs/heads/slow"]);
    let begun = Instant::now();
    let mut shell = sandbox.command("sh");
    shell.args(["-c", "ulimit -f 1000; exec \"$0\" -C repository deploy slow", BLUEGREEN]);
    Run::new(&sandbox, &mut shell)
        .fails(1)
        .says("error: cannot write `big`: file too large")
        .serves("a", "1");
    // The filter sleeps for 150 s.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    sandbox.is_tidy();
}
