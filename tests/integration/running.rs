//! Processes that keep running in an old release: they never read a file of another version, and never write
//! into the live release.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::support::Sandbox;
use crate::support::sandbox::NOBODY;
use crate::support::skip::root_or_skip;

/// The directories in which the processes run: the root, one that never changes, and one that changes in
/// every commit.
const PLACES: [&str; 3] = ["", "kept", "changed/deep"];

/// Repeatedly reads `page` and writes `scratch` in the working directory and through an open directory
/// descriptor.
const LOOP: &str = "cd \"$1\"; exec 3<.; while [ ! -e \"$3\" ]; do \
    for at in . /proc/self/fd/3; do \
        if read -r line <$at/page; then echo \"$line\" >>\"$2\"; fi; \
        echo scratch >$at/scratch; \
    done; done 2>/dev/null";

/// A process that was started in a directory of a release.
struct Observer {
    child: Child,
    seen: PathBuf,
    stop: PathBuf,
}

impl Observer {
    fn start(sandbox: &Sandbox, directory: &Path, number: usize, user: u32) -> Self {
        let (seen, stop) = (sandbox.path(format!("seen{number}")), sandbox.path("stop"));
        fs::write(&seen, "").unwrap();
        fs::set_permissions(&seen, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", LOOP, "sh"]).arg(directory).arg(&seen).arg(&stop).stdin(Stdio::null());
        // Only root can start the process as another user.
        let shell = if rustix::process::geteuid().is_root() { shell.uid(user).gid(user) } else { &mut shell };
        let child = shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let observer = Self { child, seen, stop };
        while observer.lines().is_empty() {
            sleep(Duration::from_millis(5));
        }
        observer
    }

    /// Returns the distinct contents of `page` that the process has read.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.seen).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.dedup();
        lines
    }

    fn finish(mut self) -> Vec<String> {
        fs::write(&self.stop, "").unwrap();
        self.child.wait().unwrap();
        self.lines()
    }
}

impl Drop for Observer {
    /// Kills the process if the test failed.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn commit(sandbox: &Sandbox, version: usize) {
    let version = format!("v{version}\n");
    sandbox.commit("page", &version).commit("changed/deep/page", &version);
}

/// Pushes `keep + 3` times while processes of a user run in the first release.
fn push_while_processes_run(sandbox: &Sandbox, user: u32, expect_writes_to_be_kept_out: bool) {
    sandbox.site_config("keep = 1").commit("kept/page", "the same\n").commit("kept/deep/page", "the same\n");
    commit(sandbox, 1);
    sandbox.push().ok();
    let first = sandbox.live_path();
    let start = |(number, place): (usize, &&str)| Observer::start(sandbox, &first.join(place), number, user);
    let observers: Vec<Observer> = PLACES.iter().enumerate().map(start).collect();
    for version in 2..=5 {
        sleep(Duration::from_millis(30));
        commit(sandbox, version);
        // If a process keeps creating files, removing its directory may take a second attempt.
        let push = sandbox.push();
        assert!(push.status.success() && push.output.contains(" is live"), "{}", push.output);
        sandbox.serves("page", &format!("v{version}\n"));
        sleep(Duration::from_millis(30));
        if expect_writes_to_be_kept_out {
            sandbox.serves_checkout("master");
        }
        for place in ["", "changed/deep"] {
            assert!(!sandbox.current(place).join("scratch").exists(), "{place:?} of version {version}");
        }
    }
    assert!(!first.exists(), "the first release was recycled or removed");
    let seen: Vec<_> = observers.into_iter().map(Observer::finish).collect();
    assert_eq!(seen, [["v1"], ["the same"], ["v1"]]);
}

#[test]
fn a_process_of_the_same_user_neither_reads_nor_writes_another_version() {
    let sandbox = Sandbox::new();
    if rustix::process::geteuid().is_root() {
        sandbox.owned_by(NOBODY);
    }
    push_while_processes_run(&sandbox, NOBODY, true);
}

#[test]
fn a_process_that_cannot_be_inspected_reads_no_other_version() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    // Root can write anywhere, but it cannot detect that its directory is reused.
    push_while_processes_run(sandbox.owned_by(NOBODY), 0, false);
}

#[test]
fn the_observer_detects_a_reused_directory() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path("release");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("page"), "v1\n").unwrap();
    let observer = Observer::start(&sandbox, &directory, 0, 0);
    fs::rename(&directory, sandbox.path("recycled")).unwrap();
    fs::write(sandbox.path("recycled/new"), "v2\n").unwrap();
    fs::rename(sandbox.path("recycled/new"), sandbox.path("recycled/page")).unwrap();
    while observer.lines().len() < 2 {
        sleep(Duration::from_millis(5));
    }
    assert_eq!(observer.finish(), ["v1", "v2"]);
    assert!(sandbox.path("recycled/scratch").exists());
}
