//! The part of a session that only Linux has.

use std::io;
use std::path::PathBuf;

use rustix::process::{Signal, set_parent_process_death_signal};

/// Returns the path of this program, which works even if its file was replaced.
pub fn this_program() -> PathBuf {
    "/proc/self/exe".into()
}

/// Requests TERM for when the parent exits.
pub fn stop_after(_parent: u32) -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::TERM))?)
}
