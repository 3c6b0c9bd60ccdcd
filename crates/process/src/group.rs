//! A child process that leads a process group of its own, so that everything it starts can be signaled with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, kill_process_group};

use super::exit_watch::ExitWatch;

/// A child process and its group. Dropping it kills the group, unless the child was reaped.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    child: Child,
    id: Pid,
    watch: ExitWatch,
    is_reaped: bool,
}

impl ProcessGroup {
    /// Starts a program as the leader of a new group.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.process_group(0).spawn()?;
        let id = Pid::from_child(&child);
        match ExitWatch::start(id) {
            Ok(watch) => Ok(Self { child, id, watch, is_reaped: false }),
            Err(error) => {
                kill(id, Signal::KILL);
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Takes the write end of the child's standard input, if it is a pipe.
    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Returns a descriptor that becomes readable when the child exits.
    pub(super) fn exited(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    /// Returns whether the child has exited.
    pub(super) fn has_exited(&self) -> bool {
        wait(&mut [PollFd::new(&self.watch, PollFlags::IN)], Instant::now())
    }

    /// Sends a signal to the whole group. The child has not been reaped, so its id cannot have been reused.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.is_reaped {
            kill(self.id, signal);
        }
    }

    /// Collects the exit status of the child, and waits for it if it has not exited yet.
    pub(super) fn reap(&mut self) -> io::Result<ExitStatus> {
        self.is_reaped = true;
        self.watch.finish();
        self.child.wait()
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.signal(Signal::KILL);
            let _ = self.reap();
        }
    }
}

/// Signals a group. A group that no longer exists is not an error.
fn kill(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

/// Polls until a deadline; returns whether a descriptor is ready.
pub(super) fn wait(wanted: &mut [PollFd], until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    retry_on_intr(|| poll(wanted, Some(&timeout))).unwrap_or(0) > 0
}
