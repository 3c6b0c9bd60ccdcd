//! Child processes with deadlines, cancellation, and bounded output, and the signals that stop this program.
//!
//! Nothing here uses threads: each child process has pipes and a descriptor of its own, which one `poll` waits for.

mod child;
pub mod dialog;
mod group;
pub mod signals;

pub use self::child::{
    Captured, End, Limits, Task, command, keep_end, output, run, run_with_stdin, wait_any,
};
