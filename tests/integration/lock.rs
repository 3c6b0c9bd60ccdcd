//! The site's lock: a single deployment runs at a time, and the others wait or time out.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use crate::support::Sandbox;
use crate::support::lock::HeldLock;
use crate::support::run::spawn;

const HOLDER: &str = "a deployment by alice from 192.0.2.7 (process <pid>, since <time>)";

#[test]
fn a_waiting_push_names_the_lock_holder_and_then_deploys() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.commit("index.html", "v2");
    let lock = HeldLock::take(&sandbox);
    let (child, reader) = spawn(&mut sandbox.push_command(&["master"]));
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let waiting = lines.find(|line| line.contains("Waiting for")).unwrap();
    assert_eq!(
        crate::support::normalize::normalize(waiting.trim_end()),
        format!("remote: Waiting for {HOLDER}...")
    );
    sandbox.serves("index.html", "v1");
    drop(lock);
    assert!(lines.any(|line| line.contains("Git hooks deploy complete.")));
    let mut child = child;
    assert!(child.wait().unwrap().success());
    sandbox.serves("index.html", "v2");
}

#[test]
fn a_push_times_out_after_the_configured_wait() {
    let sandbox = Sandbox::new();
    sandbox.config("lock-timeout = \"300ms\"").commit("index.html", "v1").push().ok();
    let lock = HeldLock::take(&sandbox);
    let start = Instant::now();
    sandbox
        .commit("index.html", "v2")
        .push()
        .not_deployed()
        .says_only(&[
            "Master ref received.  Deploying master branch to blue...",
            &format!("Waiting for {HOLDER}..."),
            &format!("error: timed out after 300ms: the site is still locked by {HOLDER}"),
            "hint: run `bluegreen status` to see what it is doing",
            "Not deployed: blue still serves <commit> (release <release>).",
        ])
        .serves("index.html", "v1");
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < Duration::from_secs(10));
    drop(lock);
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v2");
}

#[test]
fn operator_commands_wait_and_time_out() {
    let sandbox = Sandbox::new();
    sandbox.config("lock-timeout = \"0s\"").commit("index.html", "v1").push().ok();
    sandbox.commit("index.html", "v2").push().ok();
    let _lock = HeldLock::take(&sandbox);
    let error = format!("error: timed out after 0s: the site is still locked by {HOLDER}");
    sandbox.bluegreen(&["deploy"]).fails(1).says(&error);
    sandbox
        .bluegreen(&["rollback"])
        .fails(1)
        .says(&error)
        .says("Not rolled back: blue still serves <commit> (release <release>).")
        .serves("index.html", "v2");
}

#[test]
fn read_only_commands_need_no_lock_and_show_its_holder() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.bluegreen(&["status"]).ok().says("Running:  nothing");
    let _lock = HeldLock::take(&sandbox);
    sandbox.bluegreen(&["status"]).ok().says(&format!("Running:  {HOLDER}: check out"));
    sandbox.bluegreen(&["releases"]).ok();
    sandbox.bluegreen(&["history"]).ok();
    sandbox.bluegreen(&["deploy", "--dry-run"]).ok();
}

#[test]
fn garbage_in_the_lock_file_is_ignored() {
    let sandbox = Sandbox::new();
    sandbox.config("lock-timeout = \"200ms\"").commit("index.html", "v1").push().ok();
    let path = sandbox.site().join(".bluegreen/lock");
    std::fs::write(&path, "not JSON").unwrap();
    sandbox.bluegreen(&["status"]).ok().says("Running:  nothing");
    sandbox.commit("index.html", "v2").push().ok().serves("index.html", "v2");
    let lock = HeldLock::take(&sandbox);
    std::fs::write(&path, "not JSON").unwrap();
    sandbox
        .bluegreen(&["deploy"])
        .fails(1)
        .says("error: timed out after 200ms: the site is still locked by another process");
    drop(lock);
    sandbox.bluegreen(&["deploy"]).ok();
}

#[test]
fn the_tip_is_read_under_the_lock() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let lock = HeldLock::take(&sandbox);
    let mut waiting = Vec::new();
    for version in ["v2", "v3", "v4"] {
        sandbox.commit("index.html", version);
        let (child, reader) = spawn(&mut sandbox.push_command(&["master"]));
        // The ref moves before the hook starts to wait.
        let mut reader = BufReader::new(reader);
        let mut line = String::new();
        while !line.contains("Waiting for") {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0);
        }
        waiting.push((child, reader));
    }
    drop(lock);
    for (mut child, mut reader) in waiting {
        let mut output = String::new();
        std::io::Read::read_to_string(&mut reader, &mut output).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(output.contains("Git hooks deploy complete."), "{output}");
    }
    sandbox.serves("index.html", "v4");
    assert_eq!(sandbox.releases().len(), 2, "only v1 and v4 were deployed, not the superseded tips");
}

#[test]
fn a_killed_process_leaves_no_stale_lock() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let lock = sandbox.site().join(".bluegreen/lock");
    let mut holder =
        sandbox.command("flock").arg("--no-fork").arg(&lock).args(["sleep", "60"]).spawn().unwrap();
    while std::fs::File::open(&lock).unwrap().try_lock_shared().is_ok() {
        std::thread::sleep(Duration::from_millis(1));
    }
    sandbox.config("lock-timeout = \"100ms\"");
    sandbox.bluegreen(&["deploy"]).fails(1);
    holder.kill().unwrap();
    holder.wait().unwrap();
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v1");
}
