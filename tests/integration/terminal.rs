//! Untrusted text printed to a terminal: it is escaped everywhere, and its length is bounded.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Node, Sandbox};

/// Sequences that a terminal would act on: a window title, a cleared screen, reordered text, and C1 controls.
const HOSTILE: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\u{202e}txt\u{2066}\u{200f}\u{9b}31m";

/// Asserts that an output contains nothing that controls a terminal.
#[track_caller]
fn is_harmless(output: &str) {
    // For a push, only the program's own lines.
    let is_push = output.contains("remote: ");
    let lines: Vec<&str> = output.lines().filter(|line| !is_push || line.starts_with("remote: ")).collect();
    let output = lines.join("\n");
    let found: Vec<char> = output
        .chars()
        .filter(|character| character.is_control() && !"\n\r\t".contains(*character))
        .chain(output.chars().filter(|character| "\u{202e}\u{2066}\u{200f}".contains(*character)))
        .collect();
    assert!(found.is_empty(), "{found:?} in {output:?}");
}

#[test]
fn the_installer_removes_control_sequences_also_those_that_a_removal_creates() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/install.sh")).unwrap();
    let function = text.lines().find(|line| line.starts_with("clean()")).unwrap();
    let mut child = std::process::Command::new("sh")
        .args(["-c", &format!("{function}; clean")])
        .env("LC_ALL", "C")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a\xc2\x01\x9b2J\n\xc2\xc2\x9b\x9bx\ty\n\xc3\xbc\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"a2J\nx\ty\n\xc3\xbc\n");
}

#[test]
fn control_sequences_are_escaped_in_every_output() {
    let sandbox = Sandbox::new();
    sandbox.config_section(
        "[steps]\nbuild = 'cat said; printf \"\\n\\033[32mgreen\\033[0m\\n\"'\n\
         check = 'test ! -e bad || { cat said; false; }'",
    );
    let file = (&b"said"[..], Node::file(HOSTILE));
    sandbox.commit_to("master", &format!("Subject {HOSTILE}"), &[file]);
    let pushed = sandbox.push().ok().says("  green");
    is_harmless(pushed.output());
    for command in [&["log"][..], &["status"], &["releases"], &["deploy", "--dry-run"]] {
        is_harmless(sandbox.bluegreen(command).ok().output());
    }
    for command in ["status", "releases", "history"] {
        let output = sandbox.bluegreen(&[command, "--json"]).ok().output().to_owned();
        is_harmless(&output);
        serde_json::from_str::<serde_json::Value>(&output).unwrap();
    }
    let log = sandbox.bluegreen(&["log"]).ok();
    assert!(log.output().contains("\\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{202e}txt"), "{}", log.output());
    assert!(log.output().contains("\ngreen\n"), "colors are left out: {}", log.output());
    sandbox.commit("bad", "");
    is_harmless(sandbox.push().not_deployed().output());
    is_harmless(sandbox.bluegreen(&["history"]).ok().output());
    let name = format!("refs/heads/{}", "\u{202e}\u{200f}");
    is_harmless(sandbox.push_refs(&[&format!("master:{name}")]).ok().output());
    is_harmless(sandbox.bluegreen(&["deploy", HOSTILE]).fails(1).output());
    is_harmless(sandbox.bluegreen(&["rollback", HOSTILE]).fails(1).output());
}

/// Adds a history entry with an error of this length, as a version without limits could have written it.
fn add_long_error(sandbox: &Sandbox, length: usize) {
    let mut entry = sandbox.history().pop().unwrap();
    entry["outcome"] = "failed".into();
    entry["error"] = "x".repeat(length).into();
    entry["by"]["ssh"] = "y".repeat(length).into();
    let path = sandbox.site().join(".bluegreen/history.jsonl");
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    writeln!(file, "{entry}").unwrap();
}

#[test]
fn history_shows_errors_of_any_length() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    for length in [65_535, 65_536, 300_000] {
        add_long_error(&sandbox, length);
    }
    let output = sandbox.bluegreen(&["history"]).ok().output().to_owned();
    assert_eq!(output.lines().count(), 5);
    assert!(output.lines().all(|line| line.len() < 2000));
    sandbox.bluegreen(&["history", "--json"]).ok();
}

#[test]
fn a_notice_about_a_long_error_is_truncated() {
    let sandbox = Sandbox::new();
    sandbox.site_config("submodules = 'fetch'");
    sandbox.config_section("[notify]\nrun = 'printf %s \"$BLUEGREEN_NOTICE\" > notice; cat > line'");
    // Git rejects the URL, and the message contains it.
    let modules = format!("[submodule \"x\"]\n\tpath = x\n\turl = \"-{}\"\n", "u".repeat(300_000));
    sandbox.commit("index.html", "v1");
    sandbox.commit_nodes(&[(b".gitmodules", Node::file(&modules)), (b"x", Node::Submodule)]);
    let pushed = sandbox.push().not_deployed().never_says("warning: notice");
    assert!(pushed.lines().iter().all(|line| line.len() < 2000));
    let notice = fs::read_to_string(sandbox.site().join("notice")).unwrap();
    assert!(notice.starts_with("blue: deployment of ") && notice.len() < 4000, "{}", notice.len());
    let line = fs::read_to_string(sandbox.site().join("line")).unwrap();
    assert!(line.len() < 4000, "{}", line.len());
    sandbox.bluegreen(&["history"]).ok();
    sandbox.bluegreen(&["status"]).ok();
}

#[test]
fn the_history_entry_sent_by_a_promotions_client_is_bounded() {
    let sandbox = Sandbox::new();
    sandbox.config_section("[notify]\nrun = 'printf %s \"$BLUEGREEN_NOTICE\" > notice'");
    sandbox.commit("index.html", "v1").push().ok();
    let mut entry = sandbox.history().pop().unwrap();
    entry["action"] = "promote".into();
    entry["error"] = "x".repeat(20_000).into();
    let side = "s".repeat(10_000);
    entry["promotion"] = serde_json::json!({ "from": side, "to": side, "requests": 1, "failures": 0 });
    let lines = format!("record {entry}\nnotify\n");
    let held = sandbox.run_with_input(&mut sandbox.bluegreen_command(&["hold"]), lines.as_bytes()).ok();
    assert!(held.output().contains("{\"notified\":[]}"), "{}", held.output());
    assert!(fs::read(sandbox.site().join("notice")).unwrap().len() < 4000);
    sandbox.bluegreen(&["history"]).ok();
}

#[test]
fn log_shows_the_release_that_failed_verification() {
    let sandbox = Sandbox::new();
    sandbox.config_section(
        "[steps]\nrestart = 'cat version'\nverify = 'test ! -e broken || { echo down; false; }'",
    );
    sandbox.commit("version", "v1").push().ok();
    sandbox.commit("version", "v2").commit("broken", "").push().not_deployed();
    sandbox.bluegreen(&["log"]).ok().says("v2").says("down").never_says("v1");
    sandbox.bluegreen(&["log", "--follow"]).ok().says("down");
    // A rollback counts as a separate attempt.
    let live = sandbox.live();
    sandbox.commit_nodes(&[(b"broken", Node::Nothing), (b"version", Node::file("v3"))]).push().ok();
    sandbox.bluegreen(&["rollback", &live]).ok();
    sandbox.bluegreen(&["log"]).ok().says("v1").never_says("v3");
}

#[test]
fn colors_are_used_only_on_terminals() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let mut plain = sandbox.bluegreen_command(&["deploy", "nothing"]);
    let output = crate::support::Run::new(&sandbox, &mut plain).fails(1).output().to_owned();
    assert!(!output.contains('\u{1b}'), "{output}");
    for (name, is_colored) in [("CLICOLOR_FORCE", true), ("NO_COLOR", false)] {
        let mut command = sandbox.bluegreen_command(&["deploy", "nothing"]);
        let output = command.env("TERM", "xterm").env(name, "1").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.contains("\u{1b}[31merror:\u{1b}[0m"), is_colored, "{name}: {text}");
        let output = sandbox.bluegreen_command(&["history"]).env(name, "1").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.contains("\u{1b}[32mlive\u{1b}[0m"), is_colored, "{name}: {text}");
    }
    // A hook's output goes to git, regardless of the server's environment.
    let mut push = sandbox.commit("index.html", "v2").push_command(&["master"]);
    push.env("CLICOLOR_FORCE", "1");
    let mut file = fs::metadata(sandbox.config_path()).unwrap().permissions();
    file.set_mode(0o666);
    fs::set_permissions(sandbox.config_path(), file).unwrap();
    let output = String::from_utf8(push.output().unwrap().stderr).unwrap();
    assert!(output.contains("remote: error: ") && !output.contains("\u{1b}[31m"), "{output}");
}
