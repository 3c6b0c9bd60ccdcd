//! SIGKILL at every call of the gate with steps and a shared directory that changes something: what is live is whole
//! and good, nothing shared is lost, and after the next run the branch and the site agree.

use crate::support::TwoVersions;
use crate::support::skip::program_or_skip;
use crate::support::strace::{DISK_CALLS, killed_at_each_change};

/// Calls that start, tell and end children. The C library chooses by which of the first three it starts one.
const CHILD_CALLS: [&str; 5] = ["clone", "clone3", "vfork", "pipe2", "kill"];

#[test]
fn killed_at_every_call_of_the_gate() {
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
            // The next push may be one of what was live before, too.
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
