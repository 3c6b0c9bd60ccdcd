//! The wait for requests in flight at the old side, with a switch that counts as the test wants.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::promote::{Pair, executable, said};

/// A pair whose promotions wait for that time, and whose switch runs `drained` for that command.
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

/// Whether another process can take the lock of blue, which was public.
fn is_locked(pair: &Pair) -> bool {
    let lock = pair.blue.site().join(".bluegreen/lock");
    !Command::new("flock").arg("-n").arg(lock).arg("true").status().unwrap().success()
}

#[test]
fn the_lock_of_the_old_side_is_kept_until_nothing_is_in_flight() {
    let pair = pair("60s", "[ -e \"$here/done\" ] && echo 0 || { echo 2; exit 3; }");
    let promotion = pair.command(&["promote", "--yes"]).spawn().unwrap();
    let started = Instant::now();
    while !pair.file("asked").exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "the switch is not asked");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((pair.public().as_str(), pair.marks()), ("green", [Some(false), Some(true)]));
    assert!(is_locked(&pair), "a push could interrupt the requests");
    pair.write("done", "");
    let (status, text) = said(&promotion.wait_with_output().unwrap());
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("Draining blue: 2 requests in flight, 0 s of at most 1m...\n"), "{text}");
    assert!(text.contains("blue has no requests in flight after "), "{text}");
    assert!(!is_locked(&pair) && !text.contains("warning"), "{text}");
    assert!(fs::read_to_string(pair.file("asked")).unwrap().lines().all(|side| side == "blue"));
}

#[test]
fn the_wait_ends_with_its_time() {
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
fn a_switch_that_cannot_count_is_waited_for_without_a_warning() {
    // The last is a switch that ignores commands that it does not have.
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
fn without_a_time_nothing_is_waited_for() {
    let pair = pair("0s", "exit 3");
    let (status, text) = pair.promote(&[]);
    assert!(status == 0 && !text.contains("Draining") && !pair.file("asked").exists(), "{text}");
    // Neither is a side that was public already, nor one to which the promotion went back.
    pair.configure("\"0s\"", "\"60s\"").write("front.blue", "500");
    assert_eq!(pair.promote(&["green"]).0, 0);
    assert_eq!(pair.promote(&["blue"]).0, 1);
    assert!(!pair.file("asked").exists());
}

#[test]
fn ctrl_c_ends_the_wait_and_not_the_promotion() {
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
    assert!(text.contains("green is public, before it was blue") && !is_locked(&pair), "{text}");
}
