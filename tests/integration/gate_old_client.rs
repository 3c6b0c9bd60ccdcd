//! The gate and a client without `report-status-v2`, implemented by hand.

use std::fmt::Write as _;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::support::Sandbox;
use crate::support::sandbox::BLUEGREEN;

/// Pushes the clone's master as an old client would: one command, with only the capability `report-status`.
fn push(sandbox: &Sandbox, old: &str) -> String {
    let new = sandbox.id("master");
    let mut receive = Command::new("git")
        .arg("receive-pack")
        .arg(sandbox.repository())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let command = format!("{old} {new} refs/heads/master\0 report-status");
    let mut request = String::new();
    write!(request, "{:04x}{command}0000", command.len() + 4).unwrap();
    let mut stdin = receive.stdin.take().unwrap();
    stdin.write_all(request.as_bytes()).unwrap();
    stdin.write_all(&sandbox.git_bytes(&["pack-objects", "--all", "--stdout", "-q"])).unwrap();
    drop(stdin);
    let output = receive.wait_with_output().unwrap();
    // The ref advertisement comes first and ends with a flush packet. The report follows.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text[text.find("unpack ok").unwrap_or_else(|| panic!("no report: {text}"))..].to_owned()
}

#[test]
fn an_old_client_receives_ok_or_the_reason() {
    let sandbox = Sandbox::new();
    symlink(BLUEGREEN, sandbox.repository().join("hooks/proc-receive")).unwrap();
    sandbox.git_in(&sandbox.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
    let none = "0".repeat(40);
    sandbox.commit("index.html", "v1");
    let report = push(&sandbox, &none);
    assert!(report.contains("ok refs/heads/master"), "{report}");
    assert!(!report.contains("option "), "an old client does not support option lines: {report}");
    sandbox.serves("index.html", "v1");
    let old = sandbox.id("master");
    sandbox.commit_tree(&[(b"passwd", crate::support::Node::link("/etc/passwd"))]);
    let report = push(&sandbox, &old);
    assert!(report.contains("ng refs/heads/master symlink passwd points outside the release"), "{report}");
    sandbox.serves("index.html", "v1");
    let tip = sandbox.git_in(&sandbox.repository(), &["rev-parse", "master"]);
    assert_eq!(tip.trim(), old);
}
