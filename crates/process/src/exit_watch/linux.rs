//! Waits for the exit of a child process by a pidfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A descriptor that becomes readable when a child process exits.
#[derive(Debug)]
pub(crate) struct ExitWatch(OwnedFd);

impl ExitWatch {
    /// Watches a child that has not been reaped.
    pub(crate) fn start(child: Pid) -> io::Result<Self> {
        Ok(Self(pidfd_open(child, PidfdFlags::empty())?))
    }

    /// Does nothing, because the descriptor does not refer to the child by its id. Call this before reaping it.
    #[expect(clippy::unused_self, reason = "other systems have a thread to wait for")]
    pub(crate) fn finish(&mut self) {}
}

impl AsFd for ExitWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
