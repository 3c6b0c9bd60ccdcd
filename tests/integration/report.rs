//! Output to the pusher never blocks a deployment, whether the reader disconnected or stopped reading.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::run::spawn;
use crate::support::{Run, Sandbox};

/// Waits until the live release has this content.
#[track_caller]
fn wait_until_served(sandbox: &Sandbox, content: &str) {
    let start = Instant::now();
    while std::fs::read_to_string(sandbox.current("index.html")).ok().as_deref() != Some(content) {
        assert!(start.elapsed() < Duration::from_secs(30), "timed out waiting for `{content}`");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns hook input that makes the program print about 600 kB before it deploys.
fn long_output(sandbox: &Sandbox) -> String {
    let id = sandbox.id("master");
    let name = "x".repeat(100);
    let mut talk: Vec<String> =
        (0..4000).map(|number| format!("{id} {id} refs/tags/{name}{number}")).collect();
    talk.push(format!("{id} {id} refs/heads/master"));
    talk.join("\n")
}

#[test]
fn a_client_that_dies_during_hook_output_does_not_stop_the_deployment() {
    let sandbox = Sandbox::new();
    // Refs are reported in order of their names, so the deployed branch comes last.
    sandbox.config("branch = \"zzz\"").commit("index.html", "v1");
    let (id, name) = (sandbox.id("master"), "x".repeat(150));
    let refs: Vec<String> =
        (0..3000).map(|number| format!("create refs/heads/a{name}{number} {id}\n")).collect();
    let mut update = sandbox.git_command(&sandbox.clone_path());
    assert!(
        crate::support::sandbox::feed(update.args(["update-ref", "--stdin"]), refs.concat().as_bytes())
            .status
            .success()
    );
    let mut push = sandbox.push_command(&["refs/heads/*:refs/heads/*", "master:refs/heads/zzz"]);
    let (mut client, reader) = spawn(&mut push);
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    while !line.contains("successfully received") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the hook printed nothing");
    }
    client.kill().unwrap();
    client.wait().unwrap();
    drop(reader);
    wait_until_served(&sandbox, "v1");
    // Its lock is free again, and the next push is as fast as usual.
    let start = Instant::now();
    sandbox
        .config("lock-timeout = \"20s\"")
        .commit("index.html", "v2")
        .push_refs(&["master:refs/heads/zzz"])
        .ok()
        .serves("index.html", "v2");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_stalled_reader_delays_but_does_not_fail_the_deployment() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push_refs(&["master:refs/heads/topic"]).ok();
    sandbox.git_in(&sandbox.repository(), &["update-ref", "refs/heads/master", &sandbox.id("master")]);
    let talk = long_output(&sandbox);
    let mut hook = sandbox.command(sandbox.hook_path());
    hook.env("GIT_DIR", ".").current_dir(sandbox.repository()).stdin(Stdio::piped());
    let (mut child, reader) = spawn(&mut hook);
    let start = Instant::now();
    child.stdin.take().unwrap().write_all(talk.as_bytes()).unwrap();
    // The pipe stays open but unread, as when a git client dies.
    wait_until_served(&sandbox, "v1");
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    drop(reader);
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let sandbox = Sandbox::new();
    for version in ["v1", "v2"] {
        sandbox.commit("index.html", version);
        sandbox.git_in(&sandbox.repository(), &["fetch", "--quiet", "../clone", "+master:master"]);
        let line = long_output(&sandbox);
        let mut hook = sandbox.command(sandbox.hook_path());
        hook.env("GIT_DIR", ".").current_dir(sandbox.repository()).stdin(Stdio::piped());
        let (mut child, reader) = spawn(&mut hook);
        drop(reader);
        child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "a closed pipe is not a failure");
        sandbox.serves("index.html", version);
    }
}

#[test]
fn initially_closed_streams_are_not_an_error() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push_refs(&["master:refs/heads/topic"]).ok();
    let hook = sandbox.hook_path();
    let repository = sandbox.repository();
    for (number, closed) in [">&-", "2>&-", ">&- 2>&-", "<&-"].into_iter().enumerate() {
        let script = format!("exec {} deploy topic {closed}", hook.display());
        let mut shell = sandbox.command("sh");
        let run =
            Run::new(&sandbox, shell.args(["-c", &script]).current_dir(&repository).stdin(Stdio::null()));
        assert!(run.status.success(), "{closed}: {} {}", run.status, run.output);
        let _ = run.ok().serves("index.html", "v1");
        assert_eq!(sandbox.releases().len(), number + 1, "{closed}");
        sandbox.serves_checkout("master").is_tidy();
    }
    for command in ["releases", "status", "history", "--help"] {
        let call = format!("{} {command}", hook.display());
        let script = format!("{{ {call}; echo piped $? >&2; }} | true; {call} >&-; echo closed $? >&2");
        let mut shell = sandbox.command("sh");
        let run = Run::new(&sandbox, shell.args(["-c", &script]).current_dir(&repository));
        assert_eq!(run.output, "piped 0\nclosed 0\n", "{command}");
        let _ = run.ok();
    }
}

#[test]
fn terminal_and_hangup_signals_do_not_stop_a_hook() {
    use rustix::process::{Pid, Signal, kill_process};
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let lock = crate::support::lock::HeldLock::take(&sandbox);
    sandbox.commit("index.html", "v2");
    sandbox.git_in(&sandbox.repository(), &["fetch", "--quiet", "../clone", "+master:master"]);
    let mut hook = sandbox.command(sandbox.hook_path());
    hook.env("GIT_DIR", ".").current_dir(sandbox.repository()).stdin(Stdio::piped());
    let (mut child, reader) = spawn(&mut hook);
    let id = sandbox.id("master");
    child.stdin.take().unwrap().write_all(format!("{id} {id} refs/heads/master\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("Waiting for")));
    let pid = Pid::from_child(&child);
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::PIPE] {
        kill_process(pid, signal).unwrap();
    }
    // It has left its parent's process group.
    assert_eq!(rustix::process::getpgid(Some(pid)).unwrap(), pid);
    drop(lock);
    assert!(lines.any(|line| line == "Git hooks deploy complete."));
    assert!(child.wait().unwrap().success());
    sandbox.serves("index.html", "v2");
}

#[test]
fn messages_are_json_objects_on_request() {
    let sandbox = Sandbox::new();
    sandbox.config("[steps]\nbuild = \"printf 'one\\\\033[2J\\\\n'\"\ncheck = \"false\"");
    sandbox.commit("index.html", "v1").push().not_deployed();
    let output = sandbox
        .command(crate::support::sandbox::BLUEGREEN)
        .args(["--log-format", "json", "-C"])
        .arg(sandbox.repository())
        .arg("deploy")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let objects: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let has = |level: &str, words: &str| {
        objects
            .iter()
            .any(|object| object["level"] == level && object["message"].as_str().unwrap().contains(words))
    };
    assert!(has("info", "Step build: printf"), "{text}");
    assert!(has("output", "one\u{1b}[2J"), "{text}");
    assert!(has("error", "step `false` exited with status 1"), "{text}");
    assert!(has("hint", ""), "{text}");
}
