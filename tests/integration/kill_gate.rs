//! SIGKILL at every state-changing system call of the gate, with steps and a shared directory. The live
//! release is complete and good, nothing in the shared directory is lost, and after the next run the branch
//! and the site agree.

use crate::support::TwoVersions;
use crate::support::skip::program_or_skip;
use crate::support::strace::{DISK_CALLS, killed_at_each_change};

/// Calls that start, signal, and connect child processes. The C library chooses one of the first three to
/// start a process.
const CHILD_CALLS: [&str; 5] = ["clone", "clone3", "vfork", "pipe2", "kill"];

#[test]
fn killed_at_every_change_of_the_gate() {
    if !program_or_skip("strace") {
        return;
    }
    let two = TwoVersions::with_gate();
    two.sandbox.config("checkout-threads = 1");
    let calls = [&DISK_CALLS[..], &CHILD_CALLS].concat();
    let killed = killed_at_each_change(
        &two.sandbox,
        &calls,
        |new, strace| two.push(new, strace),
        |new, kills, when| {
            two.is_whole(when);
            // The next push may also deploy the version that was live before.
            if kills / 2 % 3 == 0 {
                two.push_works(1 - new, when);
            }
            two.push_works(new, when);
        },
    );
    let is_spawn = |call: &str| CHILD_CALLS[..3].contains(&call);
    assert!(killed.keys().any(|call| is_spawn(call)), "{killed:?}");
    assert!(calls.iter().all(|call| is_spawn(call) || killed.contains_key(call)), "{killed:?}");
}
