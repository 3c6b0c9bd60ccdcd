//! SIGKILL at any instant: what is live is the old release or the new one, whole, no release that counts as
//! good is less than whole, and the next push works without help.

use std::process::Stdio;
use std::time::Instant;

use crate::support::skip::program_or_skip;
use crate::support::strace::{DISK_CALLS, killed_at_each_change};
use crate::support::{Run, TwoVersions};

#[test]
fn killed_at_a_random_instant() {
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
        // The usual duration follows the load of the machine, so that two thirds are cut off in the midst.
        // A sequence that fills the whole duration evenly, whatever the number of rounds.
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
        // Half of the time the next push is of the other commit.
        two.push_works(if round % 4 < 2 { new } else { 1 - new }, &when);
        if round % 4 >= 2 {
            two.push_works(new, &when);
        }
    }
    assert!(cut >= rounds / 3, "only {cut} of {} hooks were cut off", cut + done);
}

#[test]
fn killed_at_every_call_that_changes_the_file_system() {
    if !program_or_skip("strace") {
        return;
    }
    let two = TwoVersions::with_hook(10);
    // In one thread the calls are the same ones each time.
    two.sandbox.config("checkout-threads = 1");
    // Another command sees who holds the lock.
    let calls = [&DISK_CALLS[..], &["flock"]].concat();
    let killed = killed_at_each_change(
        &two.sandbox,
        &calls,
        |new, strace| {
            // A kill may cost the release that is recycled. What is written in one tick of the clock counts as changed, so
            // that it takes some pushes until each makes the same calls again.
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
    assert!(calls.iter().all(|call| killed.contains_key(call)), "{killed:?}");
}

#[test]
fn a_killed_rollback_leaves_one_of_two_releases() {
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
