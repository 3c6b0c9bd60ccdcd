//! SIGKILL at any time: the live release is the old one or the new one, complete. Every release marked good
//! is complete, and the next push works without intervention.

use std::process::Stdio;
use std::time::Instant;

use crate::support::skip::program_or_skip;
use crate::support::strace::{DISK_CALLS, killed_at_each_change};
use crate::support::{Run, TwoVersions};

#[test]
fn killed_at_random_times() {
    let two = TwoVersions::with_hook(200);
    let rounds =
        std::env::var("BLUEGREEN_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(150_u32);
    let start = Instant::now();
    for turn in 0..4 {
        two.push_works(turn % 2, "nothing");
    }
    let mut usual = start.elapsed() / 4;
    let (mut done, mut cut) = (0, 0);
    for round in 0..rounds {
        let new = round as usize % 2;
        two.move_branch(new);
        let mut hook = two.command(&[], two.sandbox.hook_path(), &[]);
        let mut child =
            hook.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), two.line(new).as_bytes()).unwrap();
        // The expected duration adapts to the load, so that two thirds of the kills interrupt a deployment.
        // Multiples of the golden ratio cover the duration evenly for any number of rounds.
        let part = f64::from(round) * 0.618_033_988_75 % 1.0;
        let when = format!("a kill in round {round}, {part:.3} of {usual:?}");
        std::thread::sleep(usual.mul_f64(part));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            done += 1;
            usual = usual.mul_f64(0.95);
        } else {
            cut += 1;
            usual = usual.mul_f64(1.02);
        }
        two.is_whole(&when);
        // In half of the rounds, the next push deploys the other commit.
        two.push_works(if round % 4 < 2 { new } else { 1 - new }, &when);
        if round % 4 >= 2 {
            two.push_works(new, &when);
        }
    }
    assert!(cut >= rounds / 3, "only {cut} of {} hooks were interrupted", cut + done);
}

#[test]
fn killed_at_every_file_system_change() {
    if !program_or_skip("strace") {
        return;
    }
    let two = TwoVersions::with_hook(10);
    // A single thread makes the order of calls deterministic.
    two.sandbox.config("checkout-threads = 1");
    // Another command can read who holds the lock.
    let calls = [&DISK_CALLS[..], &["flock"]].concat();
    let killed = killed_at_each_change(
        &two.sandbox,
        &calls,
        |new, strace| {
            // A kill may discard the release that would be recycled. Files written within one clock tick
            // count as modified, so it takes several pushes until each makes the same calls again.
            for turn in 0..6 {
                two.push_works(if turn % 2 == 0 { new } else { 1 - new }, "nothing");
            }
            two.push(new, strace)
        },
        |new, _, when| {
            two.is_whole(when);
            two.push_works(new, when);
        },
    );
    // So few files are flushed one by one.
    let is_killed = |call: &&str| *call == "syncfs" || killed.contains_key(*call);
    assert!(calls.iter().all(is_killed), "{killed:?}");
}

#[test]
fn a_killed_rollback_leaves_either_release_live() {
    if !program_or_skip("strace") {
        return;
    }
    let two = TwoVersions::with_hook(5);
    let killed = killed_at_each_change(
        &two.sandbox,
        &DISK_CALLS,
        |_, strace| {
            two.push_works(1, "a rollback");
            Run::new(&two.sandbox, &mut two.command(strace, two.sandbox.hook_path(), &["rollback"]))
        },
        |_, _, when| two.is_whole(when),
    );
    assert!(killed.len() > 5, "{killed:?}");
    two.push_works(0, "a killed rollback");
}
