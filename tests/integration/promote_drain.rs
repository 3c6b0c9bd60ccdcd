//! Draining the old side: a promotion waits for its in-flight requests, which a switch in the test counts.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::promote::{Pair, executable, said};

/// A pair whose promotions drain for up to `drain`, and whose switch runs `drained` to count requests.
fn pair(drain: &str, drained: &str) -> Pair {
    let pair = Pair::new();
    pair.configure("switch = ", &format!("drain = \"{drain}\"\nswitch = "));
    let text = format!(
        "#!/bin/sh\nhere=$(dirname \"$0\")\ncase $1 in show) cat \"$here/public\" ;; set) echo \"$2\" >\"$here/public\" ;;\n\
         drained) echo \"$2\" >>\"$here/asked\"; {drained} ;; esac\n"
    );
    pair.write("switch", &text);
    executable(&pair.file("switch"));
    pair
}

/// Returns whether another process holds the lock of blue, the side that was public.
fn is_locked(pair: &Pair) -> bool {
    let lock = pair.blue.site().join(".bluegreen/lock");
    !Command::new("flock").arg("-n").arg(lock).arg("true").status().unwrap().success()
}

#[test]
fn the_old_side_stays_locked_until_no_request_is_in_flight() {
    let pair = pair("60s", "[ -e \"$here/done\" ] && echo 0 || { echo 2; exit 3; }");
    let promotion = pair.command(&["promote", "--yes"]).spawn().unwrap();
    let started = Instant::now();
    while !pair.file("asked").exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "timed out waiting for the switch");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((pair.public().as_str(), pair.marks()), ("green", [Some(false), Some(true)]));
    assert!(is_locked(&pair), "a push could interrupt in-flight requests");
    pair.write("done", "");
    let (status, text) = said(&promotion.wait_with_output().unwrap());
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("Draining blue: 2 requests in flight, 0 s of at most 1m...\n"), "{text}");
    assert!(text.contains("blue has no requests in flight after "), "{text}");
    assert!(!is_locked(&pair) && !text.contains("warning"), "{text}");
    assert!(fs::read_to_string(pair.file("asked")).unwrap().lines().all(|side| side == "blue"));
}

#[test]
fn draining_stops_at_its_timeout() {
    for (drained, said) in [
        ("echo 7; exit 3", "warning: blue still has 7 requests in flight after 1s\nhint: "),
        ("exit 3", "warning: blue still has 1 request in flight after 1s\nhint: "),
        (
            "echo 'error: no socket' >&2; exit 1",
            "warning: cannot confirm that blue has no requests in flight: the switch's `drained blue` exited with status 1: no socket\nhint: ",
        ),
    ] {
        let pair = pair("1s", drained);
        let (status, text) = pair.promote(&[]);
        assert!(status == 0 && text.contains(said) && pair.public() == "green", "{text}");
    }
}

#[test]
fn a_switch_that_cannot_count_waits_without_a_warning() {
    // The last one is a switch that ignores unknown commands.
    for drained in ["exit 2", "echo 'error: wrong usage' >&2; exit 2", ":"] {
        let pair = pair("1s", drained);
        let started = Instant::now();
        let (status, text) = pair.promote(&[]);
        assert_eq!(status, 0, "{text}");
        assert!(text.contains("Draining blue: the switch cannot count requests in flight, "), "{text}");
        assert!(started.elapsed() >= Duration::from_secs(1) && !text.contains("warning"), "{text}");
    }
}

#[test]
fn draining_is_disabled_by_default() {
    let pair = pair("0s", "exit 3");
    let (status, text) = pair.promote(&[]);
    assert!(status == 0 && !text.contains("Draining") && !pair.file("asked").exists(), "{text}");
    // No drain follows if the side was already public, or if the promotion was reverted.
    pair.configure("\"0s\"", "\"60s\"").write("front.blue", "500");
    assert_eq!(pair.promote(&["green"]).0, 0);
    assert_eq!(pair.promote(&["blue"]).0, 1);
    assert!(!pair.file("asked").exists());
}

#[test]
fn ctrl_c_stops_draining_but_not_the_promotion() {
    let pair = pair("60s", "echo 1; exit 3");
    let promotion = pair.command(&["promote", "--yes"]).spawn().unwrap();
    while !pair.file("asked").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    Command::new("kill").args(["-INT", &promotion.id().to_string()]).status().unwrap();
    let (status, text) = said(&promotion.wait_with_output().unwrap());
    assert!(status == 0 && pair.public() == "green", "{text}");
    assert!(text.contains("warning: stopped waiting for requests in flight at blue: cancelled\n"), "{text}");
    assert!(text.contains("green is public instead of blue") && !is_locked(&pair), "{text}");
}
