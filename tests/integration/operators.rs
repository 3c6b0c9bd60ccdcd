//! Commands during a deployment and after it: `cancel`, `log`, and `status`.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::support::run::spawn;
use crate::support::sandbox::BLUEGREEN;
use crate::support::{Node, Run, Sandbox};
use rustix::process::{Pid, Signal, kill_process};

fn with_steps(steps: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.config_section(&format!("[steps]\n{steps}"));
    sandbox
}

const SLOW: &str = "test ! -e slow || { echo slow work; touch ../../started; sleep 1000; }";

#[track_caller]
fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < Duration::from_secs(20), "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a push with a step that never finishes, and waits until the step runs.
fn slow_push(sandbox: &Sandbox) -> (Child, std::io::PipeReader) {
    let push = spawn(&mut sandbox.push_command(&["master"]));
    wait_for("the step", || sandbox.site().join("started").exists());
    push
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn cancel_stops_a_step_and_keeps_the_live_release() {
    let sandbox = with_steps(&format!("build = '{SLOW}'"));
    sandbox.commit("a", "1").push().ok();
    sandbox.commit("slow", "");
    let (push, reader) = slow_push(&sandbox);
    let status = sandbox.bluegreen(&["status"]).ok();
    let running = format!("process <pid>, since <time>): build: {SLOW}");
    assert!(status.lines().iter().any(|line| line.ends_with(&running)), "{}", status.output());
    let cancel = sandbox.bluegreen(&["cancel"]).ok();
    let lines = cancel.lines();
    assert!(lines[0].starts_with("Cancelling a deployment by ") && lines[0].ends_with("..."), "{lines:?}");
    assert_eq!(lines[1], "Cancelled: blue still serves <commit> (release <release>).");
    Run::finish(&sandbox, push, reader)
        .not_deployed()
        .says("error: cancelled")
        .says("Not deployed: blue still serves <commit> (release <release>).")
        .serves("a", "1");
    assert_eq!(sandbox.releases().len(), 1);
    sandbox.is_tidy();
    assert_eq!(sandbox.history()[1]["error"], "cancelled");
    sandbox.bluegreen(&["cancel"]).ok().says_only(&["Nothing is running."]);
}

#[test]
fn cancel_after_activation_restores_the_previous_release() {
    let sandbox = with_steps(&format!("restart = 'cat version >> ../../restarts'\nverify = '{SLOW}'"));
    sandbox.commit("version", "v1\n").push().ok();
    sandbox.commit("version", "v2\n").commit("slow", "");
    let (push, reader) = slow_push(&sandbox);
    sandbox.serves("version", "v2\n");
    sandbox.bluegreen(&["cancel"]).ok().serves("version", "v1\n");
    Run::finish(&sandbox, push, reader).not_deployed().says("Going back to release <release>...");
    assert_eq!(std::fs::read_to_string(sandbox.site().join("restarts")).unwrap(), "v1\nv2\nv1\n");
}

#[test]
fn a_cancelled_rollback_does_not_mark_its_target_bad() {
    let sandbox = with_steps("verify = 'test ! -e ../../slow || { touch ../../started; sleep 1000; }'");
    sandbox.commit("a", "1").push().ok();
    sandbox.commit("a", "2").push().ok();
    std::fs::write(sandbox.site().join("slow"), "").unwrap();
    let (rollback, reader) = spawn(&mut sandbox.bluegreen_command(&["rollback"]));
    wait_for("the step", || sandbox.site().join("started").exists());
    sandbox.bluegreen(&["cancel"]).ok().serves("a", "2");
    Run::finish(&sandbox, rollback, reader)
        .fails(1)
        .says("Not rolled back: blue still serves <commit> (release <release>).");
    std::fs::remove_file(sandbox.site().join("slow")).unwrap();
    sandbox.bluegreen(&["rollback"]).ok().serves("a", "1");
}

#[test]
fn cancel_reports_that_it_is_too_late() {
    let sandbox = with_steps("restart = 'true'");
    sandbox.commit("a", "1").push().ok();
    let stuck = r#"exec 9<>"$1" && flock 9 &&
                 printf '{"pid": %s, "action": "adopt", "by": {"user": "x"}, "since": "%s", "phase": "x"}' $$ "$3" >"$1" &&
                 : >"$2" && exec sleep 1000"#;
    let ready = sandbox.path("ready");
    let mut shell = sandbox.command("sh");
    let since = sandbox.history()[0]["time"].as_str().unwrap().to_owned();
    shell.args(["-c", stuck, "sh"]).arg(sandbox.site().join(".bluegreen/lock")).arg(&ready).arg(since);
    let mut holder = shell.spawn().unwrap();
    wait_for("the lock", || ready.exists());
    // Make its history entry say that the deployment succeeded.
    let history = sandbox.site().join(".bluegreen/history.jsonl");
    let text = std::fs::read_to_string(&history).unwrap();
    let mut entry = sandbox.history().remove(0);
    entry["by"] = serde_json::json!({"user": "x"});
    std::fs::write(&history, format!("{text}{entry}\n")).unwrap();
    let line = "error: the deployment finished before it could be cancelled: blue still serves <commit> (release <release>)";
    sandbox.bluegreen(&["cancel"]).fails(1).says(line);
    assert!(!holder.wait().unwrap().success());
}

#[test]
fn signals_stop_a_manual_deployment_but_only_term_stops_a_hook() {
    let sandbox = with_steps(&format!("build = '{SLOW}'"));
    sandbox.commit("a", "1").push().ok();
    sandbox.commit("slow", "");
    sandbox.git(&["push", "--quiet", sandbox.repository().to_str().unwrap(), "master:refs/heads/slow"]);
    for by_hand in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (deploy, reader) = spawn(&mut sandbox.bluegreen_command(&["deploy", "slow"]));
        wait_for("the step", || sandbox.site().join("started").exists());
        signal(&deploy, by_hand);
        Run::finish(&sandbox, deploy, reader).fails(1).says("error: cancelled").serves("a", "1");
        std::fs::remove_file(sandbox.site().join("started")).unwrap();
    }
    let line = format!("{} {} refs/heads/master\n", sandbox.id("master~1"), sandbox.id("master"));
    std::fs::write(sandbox.path("line"), line).unwrap();
    let mut hook = sandbox.command(sandbox.hook_path());
    let input = std::fs::File::open(sandbox.path("line")).unwrap();
    let (hook, reader) = spawn(hook.stdin(input));
    wait_for("the step", || sandbox.site().join("started").exists());
    for ignored in [Signal::INT, Signal::HUP, Signal::QUIT] {
        signal(&hook, ignored);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(sandbox.bluegreen(&["status"]).output.contains("): build: "), "the deployment must continue");
    signal(&hook, Signal::TERM);
    Run::finish(&sandbox, hook, reader).fails(1).says("error: cancelled").serves("a", "1");
}

#[test]
fn a_command_that_waits_for_the_lock_can_be_stopped() {
    let sandbox = with_steps(&format!("build = '{SLOW}'"));
    sandbox.commit("slow", "");
    let (push, reader) = slow_push(&sandbox);
    let (mut waiting, waiting_reader) = spawn(&mut sandbox.bluegreen_command(&["deploy", "master"]));
    let mut lines = BufReader::new(waiting_reader).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("Waiting for ")));
    signal(&waiting, Signal::TERM);
    let said: Vec<String> = lines.collect();
    assert_eq!((waiting.wait().unwrap().code(), said[0].as_str()), (Some(1), "error: cancelled"), "{said:?}");
    sandbox.bluegreen(&["cancel"]).ok();
    Run::finish(&sandbox, push, reader).not_deployed();
}

#[test]
fn log_shows_the_newest_or_the_given_release() {
    let sandbox = with_steps("build = 'cat version'");
    sandbox.bluegreen(&["log"]).fails(1).says("error: no log yet");
    sandbox.commit("version", "v1\n").push().ok();
    let first = sandbox.live();
    sandbox.commit("version", "v2\n").push().ok();
    sandbox.bluegreen(&["log"]).ok().says_only(&["--- <time> build: cat version", "v2", "--- done, <time>"]);
    sandbox.bluegreen(&["log", &first]).ok().says("v1");
    sandbox.bluegreen(&["log", "-f"]).ok().says("v2");
    sandbox
        .bluegreen(&["log", "20261122T201500Z-1a2b3c4d5e6f"])
        .fails(1)
        .says("error: release <release> has no log");
}

#[test]
fn log_follows_a_running_deployment_until_it_ends() {
    let sandbox = with_steps(
        "build = 'echo begun; touch ../../begun; while test ! -e ../../go; do sleep 0.02; done; echo ended'",
    );
    sandbox.commit("a", "1");
    let push = spawn(&mut sandbox.push_command(&["master"]));
    wait_for("the step", || sandbox.site().join("begun").exists());
    let (log, log_reader) = spawn(&mut sandbox.bluegreen_command(&["log", "--follow"]));
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(sandbox.site().join("go"), "").unwrap();
    let run = Run::finish(&sandbox, log, log_reader).ok();
    assert_eq!(run.lines()[1..], ["begun", "ended", "--- done, <time>"]);
    Run::finish(&sandbox, push.0, push.1).ok();
}

#[test]
fn check_reports_sudo_commands_that_are_not_allowed() {
    let sandbox = with_steps("restart = ['sudo /usr/sbin/nginx -s reload', 'sudo /bin/true', 'sudo id']");
    let programs = sandbox.path("programs");
    std::fs::create_dir(&programs).unwrap();
    let sudo = programs.join("sudo");
    let script =
        "#!/bin/sh\n[ \"$*\" = '-n -l -- /bin/true' ] && [ \"$LC_ALL$LANGUAGE$SUDO_ASKPASS\" = C ]\n";
    std::fs::write(&sudo, script).unwrap();
    std::fs::set_permissions(&sudo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut check = sandbox.bluegreen_command(&["check"]);
    check.envs([
        ("PATH", &*path),
        ("LC_ALL", "de_DE.UTF-8"),
        ("LANGUAGE", "de"),
        ("SUDO_ASKPASS", "/bin/true"),
    ]);
    Run::new(&sandbox, &mut check)
        .warned()
        .says("warning: step `sudo id` uses `sudo`, but `id` is not an absolute path")
        .says("warning: step `sudo /usr/sbin/nginx -s reload`: `sudo /usr/sbin/nginx -s reload` is not allowed")
        .says("hint: ask an administrator to run `sudo ./install.sh --sudo '/usr/sbin/nginx -s reload'`, or `bluegreen-setup` likewise")
        .never_says("/bin/true");
}

#[test]
fn commands_work_in_a_directory_that_was_removed() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.commit("index.html", "v2").push().ok();
    for arguments in [&["status"][..], &["releases"], &["rollback"], &["deploy"]] {
        let gone = sandbox.path(arguments[0]);
        std::fs::create_dir(&gone).unwrap();
        let mut command = sandbox.command("sh");
        command.current_dir(&gone).args(["-c", "rmdir \"$0\"; exec \"$@\""]).arg(&gone);
        command.arg(BLUEGREEN).arg("-C").arg(sandbox.repository()).args(arguments);
        Run::new(&sandbox, &mut command).ok();
        assert!(!gone.exists());
    }
    sandbox.serves("index.html", "v2");
}

#[test]
fn adopt_warns_about_directories_that_no_release_contains() {
    let sandbox = Sandbox::new();
    let site = sandbox.site();
    for (path, text) in [("index.html", "page"), ("releases/v1.html", "notes"), ("shared/file", "file")] {
        std::fs::create_dir_all(site.join(path).parent().unwrap()).unwrap();
        std::fs::write(site.join(path), text).unwrap();
    }
    sandbox
        .bluegreen(&["adopt"])
        .warned()
        .says("warning: `<site>/releases` stays outside of the release: visitors can no longer request `/releases/`")
        .says("warning: `<site>/shared` stays outside of the release: visitors can no longer request `/shared/`")
        .serves("index.html", "page");
}

#[test]
fn json_contains_raw_text_and_terminal_output_is_escaped() {
    let sandbox = Sandbox::new();
    let subject = "Back\\slash, \u{1b}[2J and \u{202e}reversed \u{e9}";
    sandbox.commit_to("master", subject, &[(b"index.html", Node::file("v1"))]).push().ok();
    let json = |arguments: &[&str]| {
        let text = sandbox.bluegreen(arguments).ok().output().to_owned();
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(json(&["status", "--json"])["subject"], subject);
    assert_eq!(json(&["releases", "--json"])[0]["subject"], subject);
    for command in ["status", "releases"] {
        let run = sandbox.bluegreen(&[command]).ok();
        assert!(
            run.output().contains("Back\\slash, \\u{1b}[2J and \\u{202e}reversed \u{e9}"),
            "{}",
            run.output()
        );
    }
    // The user who pushed, and the target of `current`.
    let history = sandbox.site().join(".bluegreen/history.jsonl");
    let mut entry = sandbox.history().pop().unwrap();
    entry["by"]["user"] = "Ada \u{1b}[31m".into();
    std::fs::write(history, format!("{entry}\n")).unwrap();
    assert_eq!(json(&["history", "--json"])[0]["by"]["user"], "Ada \u{1b}[31m");
    assert!(sandbox.bluegreen(&["history"]).ok().output().contains("Ada \\u{1b}[31m"));
    let elsewhere = sandbox.path("else\u{1b}where");
    std::fs::create_dir(&elsewhere).unwrap();
    let current = sandbox.site().join("current");
    std::fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &current).unwrap();
    assert_eq!(json(&["status", "--json"])["elsewhere"], elsewhere.to_str().unwrap());
    assert!(sandbox.bluegreen(&["status"]).ok().output().contains("else\\u{1b}where"));
}
