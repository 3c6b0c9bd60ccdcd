//! Hostile servers, hostile clones, and exhausted limits: the client stays bounded, ends in time, and leaves visitors at
//! one side.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::promote::{Pair, said};
use crate::support::Sandbox;
use crate::support::sandbox::BLUEGREEN;

/// Starts `hold` on a server, with open pipes.
fn hold(server: &Sandbox) -> Child {
    let mut command = server.bluegreen_command(&["hold"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a process; returns whether it has exited in time.
fn exits(child: &mut Child, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Fills the pipe that nobody reads, with requests that are answered.
fn flood(child: &mut Child) {
    let input = child.stdin.as_mut().unwrap();
    for _ in 0..1000 {
        input.write_all(b"status\n").unwrap();
    }
}

#[test]
fn a_hold_whose_client_does_not_read_ends_with_its_lease_and_by_a_signal() {
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
    assert!(exits(&mut holds[0], Duration::from_secs(5)), "TERM does not end it");
    assert!(holds[1].try_wait().unwrap().is_none(), "the lease is longer");
    assert!(exits(&mut holds[1], Duration::from_secs(30)), "the lease does not end it");
    leased.commit("index.html", "v2").push().ok().serves("index.html", "v2");
}

#[test]
fn requests_of_a_hold_are_bounded_and_checked() {
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
fn endless_responses_of_a_server_end_the_promotion() {
    let pair = Pair::new();
    pair.by_ssh(
        "case $(cat \"$here/evil\" 2>/dev/null):$last:$host in
            status:*status*:*@green) exec yes ;;
            hold:*hold*:*@green) exec tr '\\0' x </dev/zero ;;
            lines:*hold*:*@green) exec yes '\"x\"' ;;
            key:*status*:*@green) printf '@@@@\\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\\n@@@@\\n' >&2; exit 255 ;;
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
        assert!(started.elapsed() < Duration::from_secs(40), "{evil}: {:?}", started.elapsed());
    }
    pair.write("evil", "key").fails(
        &[],
        "by ssh: the host key of green changed\nhint: if you expect a new host key: `ssh-keygen -R green`",
    );
}

#[test]
fn a_server_that_does_not_respond_is_named_within_a_second() {
    let pair = Pair::new();
    pair.by_ssh("case $last:$host in *status*:*@green) sleep 2.5 ;; esac");
    let (status, text) = pair.promote(&[]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("Waiting for green to respond, 1 s...\n"), "{text}");
}

#[test]
fn brackets_in_a_path_are_sent_as_they_are() {
    let pair = Pair::new();
    pair.configure("healthy = 1", "healthy = 1\npaths = ['/?filter[tag]=x', '/[1-3]', '/{a,b}']");
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
}

#[test]
fn public_lists_the_side_that_ssh_cannot_reach() {
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
fn a_program_of_a_clone_runs_only_once_the_clone_is_trusted() {
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
    assert_eq!(run(&["public"]).0, 0, "the answer is remembered");
    write("# changed");
    assert_eq!(run(&["public"]).0, 2, "another program is another question");
    // A config that the user names is trusted.
    let config = clone.join(".promote.toml");
    assert_eq!(run(&["public", "--config", config.to_str().unwrap()]).0, 0);
}

#[test]
fn force_says_that_the_check_failed() {
    let pair = Pair::new();
    let (status, text) =
        said(&pair.write("green.status", "500").command(&["promote", "--yes", "--force"]).output().unwrap());
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    assert!(text.contains("warning: green failed its check; continuing because of --force"), "{text}");
    assert!(!text.contains("Checked green"), "{text}");
}

/// A user of this test alone: the limit counts all processes of a user.
const USER: u32 = 61_234;

#[test]
fn a_limit_of_processes_leaves_one_side_public_and_never_a_panic() {
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
    assert!(done > 0, "no limit was high enough");
}
