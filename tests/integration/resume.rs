//! `resume`: after a crash it deploys the tip of the branch, unless the tip was deployed or its outcome was
//! recorded before.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::support::sandbox::{BLUEGREEN, NOBODY};
use crate::support::skip::root_or_skip;
use crate::support::{Run, Sandbox};

/// A site that serves version "one".
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.commit("version", "one").push().ok();
    sandbox
}

fn gated() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.git_in(&sandbox.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
    sandbox.git_in(&sandbox.repository(), &["config", "receive.advertisePushOptions", "true"]);
    symlink(BLUEGREEN, sandbox.repository().join("hooks/proc-receive")).unwrap();
    sandbox.commit("version", "one").push().ok();
    sandbox
}

/// Simulates a power failure after git moved the branch and before the hook ran.
fn interrupted_push(sandbox: &Sandbox) {
    let hooks = ["post-receive", "proc-receive"].map(|name| sandbox.repository().join("hooks").join(name));
    let away = |hook: &std::path::PathBuf| hook.with_extension("away");
    let there: Vec<_> = hooks.iter().filter(|hook| hook.is_symlink()).collect();
    for hook in &there {
        std::fs::rename(hook, away(hook)).unwrap();
    }
    let new = sandbox.id("master");
    sandbox.push_refs(&["master:refs/heads/landed"]).ok();
    sandbox.git_in(&sandbox.repository(), &["update-ref", "refs/heads/master", &new]);
    for hook in &there {
        std::fs::rename(away(hook), hook).unwrap();
    }
}

#[track_caller]
fn boot(sandbox: &Sandbox) -> Run<'_> {
    sandbox.bluegreen(&["resume", "--boot"])
}

/// Asserts that a boot is a no-op without output.
#[track_caller]
fn is_silent(sandbox: &Sandbox) {
    let before = sandbox.history().len();
    boot(sandbox).ok().says_only(&[]);
    assert_eq!(sandbox.history().len(), before);
}

/// Starts a push whose step waits for the file `go`, and kills the deployment during the step.
fn kill_during_a_step(sandbox: &Sandbox) {
    let started = sandbox.path("started");
    let mut push = sandbox.push_command(&["master"]);
    let mut push = push.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| started.exists());
    kill_holder(sandbox);
    wait_for_end(&mut push);
    std::fs::remove_file(started).unwrap();
}

fn kill_holder(sandbox: &Sandbox) {
    let lock = std::fs::read_to_string(sandbox.site().join(".bluegreen/lock")).unwrap();
    let holder: serde_json::Value = serde_json::from_str(&lock).unwrap();
    let pid = i32::try_from(holder["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
}

fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn wait_for_end(child: &mut Child) {
    child.wait().unwrap();
}

/// Returns a shell command that waits for the file `go`, for at most a minute.
fn waits(sandbox: &Sandbox) -> String {
    let (started, go) = (sandbox.path("started"), sandbox.path("go"));
    format!(
        "touch {}; for i in $(seq 600); do test -e {} && exit 0; sleep 0.1; done; exit 1",
        started.display(),
        go.display()
    )
}

#[test]
fn a_boot_deploys_a_tip_whose_hook_never_ran() {
    let sandbox = sandbox();
    is_silent(&sandbox);
    sandbox.commit("version", "two");
    interrupted_push(&sandbox);
    let tip = sandbox.id("master");
    sandbox.push().ok().says_only(&["Everything up-to-date"]).serves("version", "one");
    boot(&sandbox)
        .ok()
        .says_only(&[
            "master is at <commit>, which was never deployed: deploying it to blue...",
            "Release <release> is live: 1 file changed, <time>",
        ])
        .serves("version", "two");
    let line = sandbox.history().pop().unwrap();
    assert_eq!((&line["action"], &line["outcome"]), (&"deploy".into(), &"live".into()));
    assert_eq!((&line["by"]["boot"], &line["new"]), (&true.into(), &tip.into()));
    let table = sandbox.bluegreen(&["history"]).ok();
    assert!(table.output().contains("the boot"), "{}", table.output());
    is_silent(&sandbox);
}

#[test]
fn resume_run_manually_is_attributed_to_its_user() {
    let sandbox = sandbox();
    sandbox.commit("version", "two");
    interrupted_push(&sandbox);
    let mut resume = sandbox.bluegreen_command(&["resume", "--boot"]);
    Run::new(&sandbox, resume.env("SUDO_USER", "alice")).ok().serves("version", "two");
    let by = &sandbox.history().pop().unwrap()["by"];
    assert_eq!((&by["sudo"], by.get("boot")), (&"alice".into(), None));
}

#[test]
fn an_interrupted_first_push_is_resumed() {
    let sandbox = Sandbox::new();
    is_silent(&sandbox);
    sandbox.commit("version", "one");
    interrupted_push(&sandbox);
    boot(&sandbox).ok().serves("version", "one");
    is_silent(&sandbox);
}

#[test]
fn a_tip_with_a_recorded_outcome_is_not_retried() {
    let sandbox = sandbox();
    sandbox.git_in(&sandbox.repository(), &["config", "receive.denyDeleteCurrent", "ignore"]);
    sandbox.git_in(&sandbox.repository(), &["config", "receive.advertisePushOptions", "true"]);
    sandbox.config_section("[steps]\ncheck = '! grep -q fails version'\nverify = '! grep -q bad version'");
    sandbox.commit("version", "fails").push().not_deployed();
    is_silent(&sandbox);
    sandbox.commit("version", "bad").push().not_deployed();
    is_silent(&sandbox);
    // The bad release is on record, even if an interrupted push restores its commit.
    sandbox.push_refs(&["--force", "master~2:master"]).ok();
    interrupted_push(&sandbox);
    is_silent(&sandbox);
    sandbox.commit("version", "skipped").push_refs(&["-o", "skip", "master"]).ok();
    is_silent(&sandbox);
    sandbox.serves("version", "one");
    sandbox.commit("version", "two").push().ok();
    sandbox.bluegreen(&["rollback"]).ok().serves("version", "one");
    is_silent(&sandbox);
    sandbox.bluegreen(&["deploy"]).ok().serves("version", "two");
    sandbox.bluegreen(&["deploy", "master~4"]).ok().serves("version", "one");
    is_silent(&sandbox);
    sandbox.push_refs(&[":master"]).ok();
    is_silent(&sandbox);
    sandbox.serves("version", "one");
    // Pushing the same commit again requests a new attempt.
    interrupted_push(&sandbox);
    boot(&sandbox).ok().serves("version", "two");
}

#[test]
fn a_cancelled_or_rejected_tip_is_not_retried() {
    let sandbox = sandbox();
    sandbox.config_section(&format!("[steps]\nbuild = '{}'", waits(&sandbox)));
    sandbox.commit("version", "two");
    let mut push = sandbox.push_command(&["master"]);
    let mut push = push.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| sandbox.path("started").exists());
    sandbox.bluegreen(&["cancel"]).ok();
    wait_for_end(&mut push);
    is_silent(&sandbox);
    std::fs::write(sandbox.path("go"), "").unwrap();
    sandbox.site_config("when-public = \"refuse\"");
    let mark = sandbox.site().join(".bluegreen/public");
    std::fs::write(&mark, r#"{"public":true,"since":"2026-11-22T20:15:00Z"}"#).unwrap();
    sandbox.commit("version", "three").push().not_deployed();
    std::fs::remove_file(mark).unwrap();
    is_silent(&sandbox);
    sandbox.serves("version", "one");
}

#[test]
fn an_interrupted_deployment_is_retried() {
    let sandbox = sandbox();
    sandbox.config_section(&format!("[steps]\nbuild = '{}'", waits(&sandbox)));
    sandbox.commit("version", "two");
    kill_during_a_step(&sandbox);
    std::fs::write(sandbox.path("go"), "").unwrap();
    boot(&sandbox).ok().serves("version", "two");
    is_silent(&sandbox);
    sandbox.is_tidy();
}

#[test]
fn a_commit_that_crashes_the_machine_is_not_retried_forever() {
    let sandbox = sandbox();
    sandbox.config_section("[steps]\nbuild = 'kill -9 $PPID; sleep 60'");
    sandbox.commit("version", "two");
    drop(sandbox.push());
    for _ in 0..3 {
        let run = boot(&sandbox);
        assert!(run.output.contains("which was never deployed"), "{}", run.output);
        assert!(!run.status.success());
    }
    let given_up = "warning: the deployment of <commit> was interrupted 3 times and is not retried";
    boot(&sandbox).warned().says_only(&[given_up]).serves("version", "one");
    boot(&sandbox).warned().says_only(&[given_up]);
    sandbox.config_section("# builds");
    let config = std::fs::read_to_string(sandbox.config_path()).unwrap();
    sandbox.raw_config(&config.replace("build = ", "# "));
    sandbox.bluegreen(&["deploy"]).ok().serves("version", "two");
    is_silent(&sandbox);
}

#[test]
fn an_unverified_release_is_verified_or_reverted() {
    for outcome in ["good", "bad"] {
        let sandbox = sandbox();
        sandbox.config_section(&format!(
            "[steps]\nverify = '{}; test ! -e {}'",
            waits(&sandbox).replace("exit 0", "break").replace("; exit 1", ""),
            sandbox.path("bad").display()
        ));
        sandbox.commit("version", "two");
        kill_during_a_step(&sandbox);
        sandbox.serves("version", "two");
        std::fs::write(sandbox.path("go"), "").unwrap();
        std::fs::write(sandbox.path(outcome), "").unwrap();
        let (serves, how) = if outcome == "good" { ("two", "live") } else { ("one", "failed") };
        boot(&sandbox).warned().serves("version", serves);
        let line = sandbox.history().pop().unwrap();
        assert_eq!((&line["by"]["boot"], &line["outcome"]), (&true.into(), &how.into()));
        assert_eq!(line["new"], sandbox.id("master"));
        is_silent(&sandbox);
    }
}

#[test]
fn a_verification_that_crashes_the_machine_is_not_retried_forever() {
    let sandbox = sandbox();
    sandbox.config_section("[steps]\nverify = 'grep -q one version || kill -9 $PPID; sleep 0.1'");
    sandbox.commit("version", "two");
    drop(sandbox.push());
    for _ in 0..3 {
        assert!(!boot(&sandbox).status.success());
    }
    boot(&sandbox).warned().says("warning: release <release> was never verified");
    is_silent(&sandbox);
    // An operator decides what should be live, and can roll back right away.
    sandbox.bluegreen(&["rollback"]).ok().serves("version", "one");
}

#[test]
fn with_the_gate_branch_and_live_release_agree() {
    let sandbox = gated();
    let tip = || sandbox.git_in(&sandbox.repository(), &["rev-parse", "master"]);
    let old = tip();
    sandbox.config_section(&format!("[steps]\nbuild = '{}'", waits(&sandbox)));
    sandbox.commit("version", "two");
    kill_during_a_step(&sandbox);
    is_silent(&sandbox);
    assert_eq!(tip(), old, "the push was never acknowledged");
    sandbox.serves("version", "one");
    std::fs::write(sandbox.path("go"), "").unwrap();
    sandbox.push().ok().serves("version", "two");
    sandbox.commit("version", "three").push_refs(&["-o", "skip", "master"]).ok();
    is_silent(&sandbox);
    sandbox.commit("version", "four").push_refs(&["-o", "skip", "master"]).ok().serves("version", "two");
    is_silent(&sandbox);
    // The branch is moved in the repository itself.
    sandbox.commit("version", "five");
    interrupted_push(&sandbox);
    boot(&sandbox).ok().serves("version", "five");
}

#[test]
fn resume_waits_for_a_concurrent_push_and_is_then_a_no_op() {
    let sandbox = sandbox();
    sandbox.config_section(&format!("[steps]\nbuild = '{}'", waits(&sandbox)));
    sandbox.commit("version", "two");
    let mut push = sandbox.push_command(&["master"]);
    let mut push = push.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| sandbox.path("started").exists());
    let mut resume = sandbox.bluegreen_command(&["resume"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(resume.try_wait().unwrap().is_none(), "`resume` did not wait for the lock");
    std::fs::write(sandbox.path("go"), "").unwrap();
    assert!(resume.wait().unwrap().success());
    wait_for_end(&mut push);
    sandbox.serves("version", "two");
    assert_eq!(sandbox.history().len(), 2);
}

#[test]
fn without_a_seen_file_nothing_is_deployed() {
    let sandbox = sandbox();
    sandbox.commit("version", "two");
    interrupted_push(&sandbox);
    // Older versions of the program did not write this file.
    std::fs::remove_file(sandbox.site().join(".bluegreen/seen")).unwrap();
    is_silent(&sandbox);
    sandbox.commit("version", "three");
    interrupted_push(&sandbox);
    boot(&sandbox).ok().serves("version", "three");
    // The deployed branch changes to one whose earlier pushes were ignored.
    sandbox.commit_to("main", "Begin", &[(b"version", crate::support::Node::file("main"))]);
    sandbox.push_refs(&["main"]).ok();
    sandbox.config("branch = \"main\"");
    is_silent(&sandbox);
    sandbox.serves("version", "three");
    let config = std::fs::read_to_string(sandbox.config_path()).unwrap();
    sandbox.raw_config(&config.replace("\"main\"", "\"master\""));
    is_silent(&sandbox);
    // The whole state directory is lost, including the records.
    std::fs::remove_dir_all(sandbox.site().join(".bluegreen")).unwrap();
    sandbox.commit("version", "four");
    interrupted_push(&sandbox);
    is_silent(&sandbox);
    sandbox.bluegreen(&["deploy"]).ok().serves("version", "four");
}

#[test]
fn pending_work_is_reported_with_the_command_that_completes_it() {
    let sandbox = sandbox();
    let status = || -> serde_json::Value {
        serde_json::from_str(sandbox.bluegreen(&["status", "--json"]).ok().output()).unwrap()
    };
    assert_eq!(status()["pending"], serde_json::json!([]));
    sandbox.commit("version", "two");
    interrupted_push(&sandbox);
    let message = "master is at <commit>, which was never deployed";
    sandbox.bluegreen(&["status"]).ok().says(&format!("Pending:  {message}: `bluegreen resume`"));
    assert_eq!(
        (&status()["pending"][0]["kind"], &status()["why"]),
        (&"tip".into(), &serde_json::Value::Null)
    );
    let check = sandbox.bluegreen(&["check"]).warned().says(&format!("warning: {message}"));
    check.says("hint: `bluegreen resume`");

    sandbox.config_section("[steps]\ncheck = '! grep -q fails version'\nverify = 'kill -9 $PPID; sleep 9'");
    drop(sandbox.bluegreen(&["resume"]));
    assert_eq!(status()["pending"][0]["kind"], "publication");
    let message = "the activation of release <release> was interrupted";
    sandbox.bluegreen(&["status"]).ok().says(&format!("Pending:  {message}: `bluegreen resume`"));
    let config = std::fs::read_to_string(sandbox.config_path()).unwrap();
    sandbox.raw_config(&config.replace("kill -9 $PPID; sleep 9", "true"));
    sandbox.bluegreen(&["resume"]).warned();
    assert_eq!(status()["pending"], serde_json::json!([]));

    sandbox.commit("version", "fails").push().not_deployed();
    let why = "step `! grep -q fails version` exited with status 1";
    sandbox
        .bluegreen(&["status"])
        .ok()
        .says(&format!("Branch:   master is at <commit>, which is not live: {why}"));
    assert_eq!((&status()["why"], &status()["pending"]), (&why.into(), &serde_json::json!([])));

    let lock = std::fs::File::create(sandbox.repository().join("refs/heads/master.lock")).unwrap();
    lock.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    let message = "stale git lock `<repository>/refs/heads/master.lock` from before the last boot: git rejects pushes until it is removed";
    sandbox.bluegreen(&["status"]).ok().says(&format!("Pending:  {message}: `bluegreen resume`"));
    sandbox.bluegreen(&["check"]).fails(1).says(&format!("error: {message}"));
}

#[test]
fn an_unreadable_directory_does_not_prevent_the_rest_of_the_recovery() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    let heads = sandbox.repository().join("refs/heads");
    let (closed, lock) = (heads.join("closed"), heads.join("open/x.lock"));
    std::fs::create_dir(&closed).unwrap();
    std::fs::create_dir(heads.join("open")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::create(&lock).unwrap().set_modified(old).unwrap();
    sandbox.owned_by(NOBODY);
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    boot(&sandbox)
        .warned()
        .says("warning: cannot read `<repository>/refs/heads/closed`: permission denied")
        .says("Removed the stale git lock `<repository>/refs/heads/open/x.lock`");
    assert!(!lock.exists());
}

#[test]
fn git_locks_older_than_the_last_boot_are_removed() {
    let sandbox = sandbox();
    let repository = sandbox.repository();
    std::fs::create_dir_all(repository.join("refs/heads/deep/er")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let stale = ["HEAD.lock", "packed-refs.lock", "refs/heads/master.lock", "refs/heads/deep/er/x.lock"];
    for lock in stale {
        std::fs::File::create(repository.join(lock)).unwrap().set_modified(old).unwrap();
    }
    std::fs::File::create(repository.join("refs/heads/new.lock")).unwrap();
    std::fs::create_dir(repository.join("refs/heads/directory.lock")).unwrap();
    symlink("/dev/null", repository.join("refs/heads/link.lock")).unwrap();
    sandbox.commit("version", "two");
    let push = sandbox.push();
    assert!(push.output.contains("master.lock': File exists"), "{}", push.output);
    let told = boot(&sandbox).ok();
    for lock in stale {
        assert!(!repository.join(lock).exists(), "{lock}");
        assert!(told.lines().contains(&format!("Removed the stale git lock `<repository>/{lock}`")));
    }
    assert_eq!(told.lines().len(), stale.len());
    for other in ["new.lock", "directory.lock", "link.lock"] {
        let path = repository.join("refs/heads").join(other);
        assert!(path.symlink_metadata().is_ok(), "{other}");
        if other != "directory.lock" {
            std::fs::remove_file(path).unwrap();
        }
    }
    sandbox.push().ok().serves("version", "two");
}
