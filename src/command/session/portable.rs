//! The part of a session for systems other than Linux, which compiles this for tests only.

use std::io;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use bluegreen_sys::parallel::spawn_alone;
use rustix::process::{Signal, getpid, kill_process};

/// The interval between two checks of the parent.
const PAUSE: Duration = Duration::from_secs(1);

/// Returns the path of this program, or if the system does not report it, the name for a search in `PATH`.
pub fn this_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "bluegreen".into())
}

/// Sends this process TERM after the parent has exited. The check runs in a thread, because the system sends no signal.
pub fn stop_after(parent: u32) -> io::Result<()> {
    let follow = move || {
        wait_for(parent);
        let _ = kill_process(getpid(), Signal::TERM);
    };
    spawn_alone(follow).map(drop)
}

/// Waits until the parent has exited: then this process has another parent.
fn wait_for(parent: u32) {
    while parent_id() == parent {
        sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_parent_is_waited_for() {
        wait_for(std::process::id());
        let waiting = spawn_alone(|| wait_for(parent_id())).unwrap();
        sleep(PAUSE / 10);
        assert!(!waiting.is_finished());
        assert_eq!(this_program(), std::env::current_exe().unwrap());
    }
}
