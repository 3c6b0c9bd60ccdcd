//! Child processes with deadlines, cancellation, and bounded output, and the signals that stop this program.
//!
//! On Linux, nothing here uses threads: each child process has pipes and a descriptor of its own, which one `poll` waits for.
//! Other systems need a thread for that descriptor.

#![cfg_attr(
    all(test, target_os = "linux"),
    expect(clippy::duplicate_mod, reason = "`portable` compiles the engine again")
)]

#[cfg(target_os = "linux")]
pub mod ancestors;
mod child;
pub mod dialog;
#[cfg_attr(target_os = "linux", path = "exit_watch/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "exit_watch/portable.rs")]
mod exit_watch;
mod group;
#[cfg(all(test, target_os = "linux"))]
mod portable;
pub mod signals;

pub use self::child::{
    Captured, End, Limits, Task, command, keep_end, output, run, run_with_stdin, wait_any,
};
