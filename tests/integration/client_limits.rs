//! Hostile servers, hostile clones, and exhausted limits: the client's memory and run time stay bounded, and
//! visitors keep getting one side.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::promote::{Pair, said};
use crate::support::Sandbox;
use crate::support::sandbox::BLUEGREEN;

/// Starts `hold` on a server, with piped standard streams.
fn hold(server: &Sandbox) -> Child {
    let mut command = server.bluegreen_command(&["hold"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a process and returns whether it exited before the timeout.
pub(crate) fn exits(child: &mut Child, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Fills the child's output pipe by sending requests and reading no responses.
fn flood(child: &mut Child) {
    let input = child.stdin.as_mut().unwrap();
    for _ in 0..1000 {
        input.write_all(b"status\n").unwrap();
    }
}

#[test]
fn a_hold_with_an_unresponsive_client_ends_on_lease_expiry_or_signal() {
    let (signalled, leased) = (Sandbox::new(), Sandbox::new());
    let mut holds = [&signalled, &leased].map(|server| {
        server.commit("index.html", "v1").push().ok();
        hold(server)
    });
    for hold in &mut holds {
        flood(hold);
    }
    thread::sleep(Duration::from_secs(3));
    kill_process(Pid::from_child(&holds[0]), Signal::TERM).unwrap();
    assert!(exits(&mut holds[0], Duration::from_secs(5)), "SIGTERM did not stop the hold");
    // By itself, so that the lock is free and the history has its line; the signal is caught.
    assert_eq!(holds[0].wait().unwrap().code(), Some(1), "not by the signal");
    assert!(holds[1].try_wait().unwrap().is_none(), "the hold exited before its lease expired");
    assert!(exits(&mut holds[1], Duration::from_secs(30)), "the hold outlived its lease");
    leased.commit("index.html", "v2").push().ok().serves("index.html", "v2");
}

#[test]
fn hold_requests_are_bounded_and_validated() {
    let server = Sandbox::new();
    server.commit("index.html", "v1").push().ok();
    let mut endless = hold(&server);
    let _ = endless.stdin.as_mut().unwrap().write_all(&vec![b'x'; 100_000]);
    assert!(exits(&mut endless, Duration::from_secs(10)));
    let mut text = String::new();
    endless.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("error: a request of more than 65536 bytes"), "{text}");

    let mut hold = hold(&server);
    let mut lines = BufReader::new(hold.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"held\""));
    let entry = |action: &str, error: &str| {
        format!(
            r#"record {{"time":"2026-11-22T20:15:00Z","action":"{action}","by":{{"user":"mallory"}},"release":null,"old":null,
            "new":null,"seconds":1.0,"outcome":"failed","error":"{error}",
            "promotion":{{"from":"blue","to":"green","requests":1,"failures":1}}}}"#
        )
        .replace('\n', "")
    };
    let mut input = hold.stdin.take().unwrap();
    let long = "x".repeat(50_000);
    for line in [entry("deploy", "no"), "record {}".into(), entry("promote", &long)] {
        writeln!(input, "{line}").unwrap();
    }
    let replies: Vec<String> = lines.by_ref().take(3).map(Result::unwrap).collect();
    assert!(replies[0].contains("does not describe a promotion"), "{replies:?}");
    assert!(replies[1].contains("invalid history entry"), "{replies:?}");
    assert_eq!(replies[2], "{\"recorded\":true}");
    drop(input);
    assert!(hold.wait().unwrap().success());
    let entry = server.history().pop().unwrap();
    assert_eq!(entry["error"].as_str().unwrap().chars().count(), 1000);
    assert_ne!(entry["by"]["user"], "mallory");
}

#[test]
fn endless_server_output_aborts_the_promotion() {
    let pair = Pair::new();
    pair.by_ssh(
        "case $(cat \"$here/evil\" 2>/dev/null):$last:$host in
            status:*--standby*:*@green) exit 2 ;;
            status:*status*:*@green) exec yes ;;
            hold:*hold*:*@green) exec tr '\\0' x </dev/zero ;;
            lines:*hold*:*@green) exec yes '\"x\"' ;;
            key:*:*@green) printf '@@@@\\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\\n@@@@\\n' >&2; exit 255 ;;
        esac",
    );
    for (evil, problem) in [
        ("status", "it printed more than 1.0 MB"),
        ("hold", "it sent a line of more than 1.0 MB"),
        ("lines", "unknown variant `x`"),
    ] {
        let started = Instant::now();
        pair.write("evil", evil).fails(&[], "error: invalid response from `deploy@green:");
        let (_, text) = pair.promote(&[]);
        assert!(text.contains(problem), "{evil}: {text}");
        assert!(started.elapsed() < Duration::from_secs(300), "{evil}: {:?}", started.elapsed());
    }
    pair.write("evil", "key").fails(
        &[],
        "by ssh: the host key of green changed\nhint: if you expect a new host key: `ssh-keygen -R green`",
    );
}

#[test]
fn an_unresponsive_server_is_reported_within_a_second() {
    let pair = Pair::new();
    pair.by_ssh("case $last:$host in *hold*:*@green) sleep 2.5 ;; esac");
    let (status, text) = pair.promote(&[]);
    assert_eq!(status, 0, "{text}");
    // If this machine is slow, the line also names blue.
    let is_told = |line: &str| line.starts_with("Waiting for ") && line.ends_with("green to respond, 1 s...");
    assert!(text.lines().any(is_told), "{text}");
}

#[test]
fn brackets_in_a_path_are_sent_verbatim() {
    let pair = Pair::new();
    pair.configure("healthy = 1", "healthy = 1\npaths = ['/?filter[tag]=x', '/[1-3]', '/{a,b}']");
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
}

#[test]
fn public_lists_a_side_that_ssh_cannot_reach() {
    let pair = Pair::new();
    let blue = pair.blue.repository().display().to_string();
    pair.configure(&format!("ssh = \"{blue}\""), "ssh = \"deploy@blue:app\"");
    let run = |arguments: &[&str]| {
        let ssh = "printf 'ssh: connect to host blue: No route to host\\n' >&2; exit 255 #";
        pair.command(arguments).env("GIT_SSH_COMMAND", ssh).output().unwrap()
    };
    let output = run(&["public", "--json"]);
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |side: &str| rows.as_array().unwrap().iter().find(|row| row["side"] == side).unwrap().clone();
    let blue = row("blue");
    assert_eq!(
        (&blue["is_public"], &blue["is_reachable"], &blue["healthy"]),
        (&true.into(), &false.into(), &true.into())
    );
    assert_eq!((&blue["url"], &row("green")["is_reachable"]), (&"deploy@blue:app".into(), &true.into()));
    let (status, text) = said(&run(&["public"]));
    assert_eq!(status, 1, "{text}");
    let line = text.lines().find(|line| line.starts_with("blue")).unwrap();
    assert!(line.contains("deploy@blue:app  yes") && line.contains("No route to host"), "{line}");
}

#[test]
fn programs_from_a_clone_run_only_if_the_clone_is_trusted() {
    let pair = Pair::new();
    let clone = pair.file("clone");
    pair.green.git(&["clone", "--quiet", pair.green.clone_path().to_str().unwrap(), clone.to_str().unwrap()]);
    fs::rename(pair.file("promote.toml"), clone.join(".promote.toml")).unwrap();
    fs::rename(pair.file("switch"), clone.join("switch")).unwrap();
    let switch = fs::read_to_string(clone.join("switch")).unwrap();
    let write = |extra: &str| {
        let here = format!("here={}\ntouch \"$here/ran\"\n{extra}", pair.file("").display());
        fs::write(clone.join("switch"), switch.replace("here=$(dirname \"$0\")", &here)).unwrap();
    };
    write("");
    let run = |arguments: &[&str]| {
        let mut command = pair.green.command(BLUEGREEN);
        command.args(arguments).current_dir(&clone).stdin(Stdio::null());
        said(&command.output().unwrap())
    };
    for arguments in [&["public"][..], &["promote", "--dry-run"], &["promote", "--yes"]] {
        let (status, text) = run(arguments);
        assert_eq!(status, 2, "{text}");
        assert!(
            text.contains("is not trusted, and it uses the program `") && text.contains("with `--trust`"),
            "{text}"
        );
        assert!(!pair.file("ran").exists(), "{arguments:?}");
    }
    assert_eq!(run(&["public", "--trust"]).0, 0);
    assert_eq!(run(&["public"]).0, 0, "the trust decision was not stored");
    write("# changed");
    assert_eq!(run(&["public"]).0, 2, "trust carried over to another program");
    // A config named on the command line is trusted.
    let config = clone.join(".promote.toml");
    assert_eq!(run(&["public", "--config", config.to_str().unwrap()]).0, 0);
}

#[test]
fn a_repository_inside_a_clone_runs_nothing() {
    let pair = Pair::new();
    let clone = pair.file("clone");
    pair.green.git(&["clone", "--quiet", pair.green.clone_path().to_str().unwrap(), clone.to_str().unwrap()]);
    // The names by which git finds `evil.git`, from the clone and from a directory of it.
    fs::create_dir(clone.join("sub")).unwrap();
    pair.green.git_in(&clone, &["init", "--quiet", "--bare", "evil.git"]);
    pair.write(
        "clone/evil.git/hooks/pre-receive",
        &format!("#!/bin/sh\ntouch {}", pair.file("ran").display()),
    );
    crate::promote::executable(&clone.join("evil.git/hooks/pre-receive"));
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let blue = format!("\"{}\"", pair.blue.repository().display());
    let file = format!("file://{}", clone.join("evil.git").display());
    for (directory, url) in [("", "./evil.git"), ("", "evil"), ("sub", "../evil.git"), ("", &file)] {
        pair.write("clone/.promote.toml", &config.replace(&blue, &format!("\"{url}\"")));
        for arguments in [&["push", "blue"][..], &["lock", "--side", "blue", "x"], &["public", "--trust"]] {
            let mut command = pair.green.command(BLUEGREEN);
            command.args(arguments).current_dir(clone.join(directory)).stdin(Stdio::null());
            let (status, text) = said(&command.output().unwrap());
            let problem = format!("the repository `{url}` is inside the clone");
            assert!(status == 2 && text.contains(&problem) && text.contains("hint: move it"), "{text}");
            assert!(!pair.file("ran").exists(), "{arguments:?}");
        }
    }
    // The operator has named this one.
    let config = clone.join(".promote.toml");
    let mut command = pair.green.command(BLUEGREEN);
    command.args(["push", "blue", "--config"]).arg(config).current_dir(&clone);
    let (_, text) = said(&command.output().unwrap());
    assert!(pair.file("ran").exists(), "{text}");
}

#[test]
fn force_reports_the_failed_check() {
    let pair = Pair::new();
    let (status, text) =
        said(&pair.write("green.status", "500").command(&["promote", "--yes", "--force"]).output().unwrap());
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    assert!(text.contains("warning: green failed its check; continuing because of --force"), "{text}");
    assert!(!text.contains("Checked green"), "{text}");
}

/// A user that only this test uses, because the limit counts all processes of a user.
const USER: u32 = 61_234;

#[test]
fn a_process_limit_causes_no_panic_and_leaves_one_side_public() {
    if !nix::unistd::Uid::effective().is_root() {
        crate::support::skip::skip("needs root, to run as a user without other processes");
        return;
    }
    let pair = Pair::new();
    let own = |pair: &Pair| {
        pair.blue.owned_by(USER);
        pair.green.owned_by(USER);
        for entry in fs::read_dir(pair.file("")).unwrap() {
            std::os::unix::fs::chown(entry.unwrap().path(), Some(USER), Some(USER)).unwrap();
        }
        std::os::unix::fs::chown(pair.file(""), Some(USER), Some(USER)).unwrap();
    };
    let mut done = 0;
    for limit in 1..=64 {
        pair.write("public", "blue\n");
        own(&pair);
        let mut command = Command::new("setpriv");
        let id = USER.to_string();
        command.args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "prlimit",
            &format!("--nproc={limit}"),
            BLUEGREEN,
        ]);
        command.args(["promote", "--yes", "green", "--config"]).arg(pair.file("promote.toml"));
        command.env("HOME", pair.file("")).env("XDG_STATE_HOME", pair.file("state")).stdin(Stdio::null());
        let (status, text) = said(&command.output().unwrap());
        assert!(!text.contains("panicked"), "{limit}: {text}");
        let public = pair.public();
        match status {
            0 => assert_eq!(public, "green", "{limit}: {text}"),
            1 | 2 => assert_eq!(public, "blue", "{limit}: {text}"),
            3 => assert!(text.contains("Promoted, but something failed afterwards"), "{limit}: {text}"),
            _ => panic!("{limit}: {status}: {text}"),
        }
        done += u64::from(status == 0);
    }
    assert!(done > 0, "no promotion succeeded under any limit");
}
