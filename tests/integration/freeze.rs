//! `lock` and `unlock`: an operator freezes a server or a side, and every refused command shows the reason.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::promote::{Pair, said};
use crate::support::Sandbox;
use crate::support::sandbox::BLUEGREEN;

const LOCKED: &str = "error: blue is locked by root (since <time>, until <time>): Black Friday";

/// Returns the path of the freeze file.
fn file(sandbox: &Sandbox) -> PathBuf {
    sandbox.site().join(".bluegreen/freeze")
}

/// A server with v1 and v2 deployed, locked for two hours.
fn locked() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.commit("index.html", "v2").push().ok();
    let lock = sandbox.bluegreen(&["lock", "Black", "Friday", "--until", "2h"]).ok();
    assert_eq!(lock.lines(), ["Locked blue: Black Friday, until <time>"]);
    sandbox
}

/// Replaces `root` in an expected line with the user who runs the tests.
fn by_root(line: &str) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).unwrap().unwrap().name;
    line.replace("by root", &format!("by {user}"))
}

fn status(sandbox: &Sandbox) -> serde_json::Value {
    serde_json::from_str(sandbox.bluegreen(&["status", "--json"]).ok().output()).unwrap()
}

#[test]
fn a_push_to_a_locked_server_is_accepted_but_not_deployed() {
    let sandbox = locked();
    let push = sandbox.commit("index.html", "v3").push().not_deployed();
    push.says(&by_root(LOCKED))
        .says("hint: once it is unlocked, run `bluegreen deploy` on blue; `bluegreen unlock` on blue removes the lock")
        .says("Not deployed: blue still serves <commit> (release <release>).")
        .serves("index.html", "v2");
    let why = "master is at <commit>, which is not live: the server was locked: Black Friday";
    sandbox
        .bluegreen(&["status"])
        .ok()
        .says(&format!("Branch:   {why}"))
        .says(&by_root("Lock:     locked by root (since <time>, until <time>): Black Friday"));
    // Neither a boot nor unlocking deploys the pending push.
    sandbox.bluegreen(&["resume", "--boot"]).ok().says_only(&[]);
    sandbox.bluegreen(&["unlock"]).ok().says_only(&[
        "Unlocked blue: Black Friday",
        "master is at <commit>, which is not live (the server was locked: Black Friday): `bluegreen deploy` on blue deploys it.",
    ]);
    sandbox.bluegreen(&["resume", "--boot"]).ok().says_only(&[]).serves("index.html", "v2");
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v3");
    sandbox.bluegreen(&["unlock"]).ok().says_only(&["blue is not locked."]);
    let history = sandbox.history();
    let actions: Vec<_> = history.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["deploy", "deploy", "lock", "deploy", "unlock", "deploy"]);
    assert_eq!(history[2]["lock"]["reason"], "Black Friday");
    assert_eq!((&history[2]["outcome"], &history[4]["outcome"]), (&"done".into(), &"done".into()));
    assert!(history[3]["error"].as_str().unwrap().contains("is locked by"), "{history:?}");
    sandbox.bluegreen(&["history"]).ok().output().contains("Black Friday, until 20").then_some(()).unwrap();
}

#[test]
fn the_gate_rejects_pushes_while_locked() {
    let sandbox = Sandbox::new();
    symlink(BLUEGREEN, sandbox.repository().join("hooks/proc-receive")).unwrap();
    sandbox.git_in(&sandbox.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.bluegreen(&["lock", "Black Friday", "--until", "2h"]).ok();
    let before = sandbox.tip();
    let push = sandbox.commit("index.html", "v2").push().fails(1);
    assert!(
        push.output().contains("! [remote rejected] master -> master (blue is locked by "),
        "{}",
        push.output()
    );
    push.says("hint: push again once it is unlocked; `bluegreen unlock` on blue removes the lock")
        .says(&by_root(LOCKED))
        .serves("index.html", "v1");
    assert_eq!(sandbox.tip(), before);
    sandbox.bluegreen(&["unlock"]).ok().says_only(&["Unlocked blue: Black Friday"]);
    sandbox.push().ok().serves("index.html", "v2");
}

#[test]
fn deploy_and_rollback_are_refused_unless_forced() {
    let sandbox = locked();
    let hint = "hint: run `bluegreen unlock` on blue, or override the lock with `--force`";
    for command in ["deploy", "rollback"] {
        sandbox.bluegreen(&[command]).fails(1).says(&by_root(LOCKED)).says(hint).serves("index.html", "v2");
    }
    let overridden = by_root(&LOCKED.replace("error:", "warning:")) + "; `--force` overrides it";
    sandbox.bluegreen(&["rollback", "--force"]).warned().says(&overridden).serves("index.html", "v1");
    sandbox.bluegreen(&["deploy", "--force"]).warned().says(&overridden).serves("index.html", "v2");
    sandbox
        .bluegreen(&["deploy", "--dry-run"])
        .warned()
        .says(&by_root(&LOCKED.replace("error:", "warning:")));
    assert!(file(&sandbox).exists(), "`--force` must not remove the lock");
}

#[test]
fn every_status_command_shows_the_lock() {
    let sandbox = locked();
    let lock = &status(&sandbox)["lock"];
    assert_eq!(lock["reason"], "Black Friday");
    assert!(
        lock["by"]["user"].is_string() && lock["since"].is_string() && lock["until"].is_string(),
        "{lock}"
    );
    sandbox.bluegreen(&["check"]).warned().says("hint: `bluegreen unlock` removes the lock");
    let metrics = sandbox.bluegreen(&["metrics"]).ok();
    assert!(
        metrics.output().lines().any(|line| line.starts_with("bluegreen_frozen{") && line.ends_with("} 1"))
    );
    assert!(metrics.output().contains("reason=\"Black Friday\",by=\""), "{}", metrics.output());
    assert!(metrics.output().contains("\nbluegreen_freeze_until_timestamp_seconds{"));
    let public = sandbox.bluegreen(&["public"]).ok();
    assert!(public.lines()[1].ends_with(": Black Friday"), "{}", public.output());
    let public: serde_json::Value =
        serde_json::from_str(sandbox.bluegreen(&["public", "--json"]).ok().output()).unwrap();
    assert_eq!(public["lock"]["reason"], "Black Friday");

    sandbox.bluegreen(&["unlock"]).ok();
    assert_eq!(status(&sandbox)["lock"], serde_json::Value::Null);
    let metrics = sandbox.bluegreen(&["metrics"]).ok();
    assert!(
        metrics.output().lines().any(|line| line.starts_with("bluegreen_frozen{") && line.ends_with("} 0"))
    );
    sandbox.bluegreen(&["check"]).warned().never_says("locked");
}

#[test]
fn an_expired_lock_can_be_replaced() {
    let sandbox = locked();
    sandbox
        .bluegreen(&["lock", "the incident"])
        .fails(1)
        .says(&by_root(LOCKED))
        .says("hint: run `bluegreen unlock` first, or replace the lock with `--force`");
    sandbox.bluegreen(&["lock", "--force", "the incident"]).ok().says("Locked blue: the incident");
    assert_eq!(status(&sandbox)["lock"]["until"], serde_json::Value::Null);
    // Simulate an expired lock.
    let text = fs::read_to_string(file(&sandbox)).unwrap();
    fs::write(file(&sandbox), text.replace("\"until\":null", "\"until\":\"2026-01-01T00:00:00Z\"")).unwrap();
    assert_eq!(status(&sandbox)["lock"], serde_json::Value::Null);
    sandbox.commit("index.html", "v3").push().ok().serves("index.html", "v3");
    sandbox.bluegreen(&["lock", "again"]).ok();
    sandbox.commit("index.html", "v4").push().not_deployed();

    let usage = |arguments: &[&str], problem: &str| {
        let run = sandbox.bluegreen(&[&["lock"], arguments].concat()).fails(2);
        assert!(run.output().contains(problem), "{}", run.output());
    };
    usage(&["x", "--until", "2001-01-01T00:00:00Z"], "it is in the past");
    usage(&["x", "--until", "tomorrow"], "expected a duration like \"2h\", or a time with its zone");
    usage(&["a\nb"], "invalid reason, expected one line of at most 200 characters");
    usage(&["x", "--side", "blue"], "`--side` is for a clone");
}

#[test]
fn a_damaged_lock_counts_as_locked() {
    let sandbox = locked();
    for damage in [&b"{\"reason\""[..], b"", b"\xff\xfe"] {
        fs::write(file(&sandbox), damage).unwrap();
        let problem = "cannot read `<site>/.bluegreen/freeze`, so the server counts as locked";
        let run = sandbox.commit("index.html", "v3").push().not_deployed();
        assert!(
            run.lines().iter().any(|line| line.starts_with(&format!("error: {problem}"))),
            "{}",
            run.output()
        );
        run.says("hint: run `bluegreen unlock` to remove it").serves("index.html", "v2");
        sandbox.bluegreen(&["rollback"]).fails(1).serves("index.html", "v2");
        sandbox.bluegreen(&["check"]).fails(1).says("hint: run `bluegreen unlock` to remove it");
        sandbox.bluegreen(&["lock", "x"]).fails(1);
        let status = sandbox.bluegreen(&["status"]).warned();
        assert!(status.output().contains("Lock:     locked by unknown (since unknown): cannot read "));
    }
    // A symlink counts as damaged, whatever its target.
    fs::remove_file(file(&sandbox)).unwrap();
    symlink("/dev/null", file(&sandbox)).unwrap();
    sandbox.bluegreen(&["deploy"]).fails(1).serves("index.html", "v2");
    sandbox.bluegreen(&["unlock"]).ok();
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v3");
}

#[test]
fn a_boot_does_not_deploy_a_pending_push_while_locked() {
    let sandbox = locked();
    // As if the power failed after git moved the branch and before the hook ran.
    let clone = sandbox.commit("index.html", "v3").clone_path();
    let fetch = ["fetch", "--quiet", clone.to_str().unwrap(), "master:master"];
    sandbox.git_in(&sandbox.repository(), &fetch);
    let stays = "warning: master is at <commit>, which was never deployed, and stays so: blue is locked by root \
                 (since <time>, until <time>): Black Friday";
    sandbox.bluegreen(&["resume", "--boot"]).warned().says(&by_root(stays)).serves("index.html", "v2");
    sandbox.bluegreen(&["resume", "--boot"]).ok().says_only(&[]);
    let unlock = sandbox.bluegreen(&["unlock"]).ok();
    assert!(unlock.lines()[1].ends_with(": `bluegreen deploy` on blue deploys it."), "{}", unlock.output());
    sandbox.bluegreen(&["resume", "--boot"]).ok().serves("index.html", "v2");
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v3");
}

#[test]
fn a_side_is_locked_from_the_clone_and_cannot_be_promoted() {
    let pair = Pair::new();
    pair.by_ssh("");
    let lock = ["lock", "--side", "green", "Black Friday; $(touch pwned) 'x'", "--until", "2h"];
    let (code, text) = said(&pair.command(&lock).output().unwrap());
    assert_eq!(
        (code, text.contains("green: Locked green: Black Friday; $(touch pwned) 'x', until 20")),
        (0, true),
        "{text}"
    );
    // Green is not public. A locked side is never promoted, even with `--force`.
    for arguments in [&["green"][..], &["blue"], &["green", "--force"]] {
        let text = pair.fails(arguments, " is locked by ");
        assert!(
            text.contains(
                "hint: wait until the lock ends, or run `bluegreen unlock --side green`, then promote again"
            ),
            "{text}"
        );
        assert_eq!(pair.marks(), [None, None]);
    }
    let (_, text) = said(&pair.command(&["public"]).output().unwrap());
    assert!(text.contains("warning: green is locked by ") && text.contains(": Black Friday; "), "{text}");
    let output = pair.command(&["public", "--json"]).output().unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        rows[0]["lock"].is_null() && rows[1]["lock"]["reason"].as_str().unwrap().starts_with("Black"),
        "{rows}"
    );

    // The server rejects a second lock, and the command for the side reports that.
    let (code, text) = said(&pair.command(&["lock", "--side", "green", "again"]).output().unwrap());
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("error: cannot lock 1 of 1 server of green") && text.contains("is locked by"),
        "{text}"
    );
    let (code, text) = said(&pair.command(&["unlock", "--side", "green"]).output().unwrap());
    assert_eq!((code, text.contains("green: Unlocked green: Black Friday")), (0, true), "{text}");
    assert_eq!(pair.promote(&["green"]).0, 0);
    assert_eq!(said(&pair.command(&["unlock", "--side", "red"]).output().unwrap()).0, 2);
    assert!(!pair.blue.clone_path().join("pwned").exists() && !pair.blue.path("home/pwned").exists());
}

#[test]
fn a_lock_between_check_and_hold_stops_the_promotion() {
    let pair = Pair::new();
    let lock = format!("bluegreen -C '{}' lock raced", pair.blue.repository().display());
    pair.by_ssh(&format!(
        "case $last in 'bluegreen hold'*)
            while read -r line; do
                [ \"$line\" != lock ] || [ -e \"$here/raced\" ] || {{ touch \"$here/raced\"; {lock} >&2; }}
                echo \"$line\"
            done | sh -c \"$last\"
            exit ;;
        esac"
    ));
    let text = pair.fails(&["green"], " is locked by ");
    assert!(text.contains(": raced"), "{text}");
    assert_eq!(pair.marks(), [None, None]);
}
