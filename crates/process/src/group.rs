//! A child process that leads a process group of its own, so that everything it starts can be signaled with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Signal, kill_process_group};

use super::exit_watch::ExitWatch;
use bluegreen_text::reason;

/// The time in which a killed process must exit. A process in an uninterruptible system call may not.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// A child process and its group. Dropping it kills the group, unless the child was reaped.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    child: Child,
    id: Pid,
    watch: ExitWatch,
    /// True if the child was reaped or abandoned.
    is_done: bool,
}

impl ProcessGroup {
    /// Starts a program as the leader of a new group.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.process_group(0).spawn()?;
        let id = Pid::from_child(&child);
        match ExitWatch::start(id) {
            Ok(watch) => Ok(Self { child, id, watch, is_done: false }),
            Err(error) => {
                if kill(id, Signal::KILL).is_ok() {
                    let _ = child.wait();
                }
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

    /// Sends a signal to the whole group. The child has not been reaped, so its id cannot have been reused. Fails if no
    /// process of the group may be signaled, for example because `sudo` runs as root.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.is_done { Ok(()) } else { kill(self.id, signal) }
    }

    /// Stops caring about a child that did not exit after KILL, and returns the reason. `killed` is the result of sending it.
    pub(super) fn abandon(&mut self, killed: io::Result<()>) -> String {
        self.is_done = true;
        let how = killed.err().map_or_else(|| "it does not exit".into(), |error| reason(&error));
        format!("cannot kill process {}: {how}", self.id)
    }

    /// Collects the exit status of the child, and waits for it if it has not exited yet.
    pub(super) fn reap(&mut self) -> io::Result<ExitStatus> {
        self.is_done = true;
        self.watch.finish();
        self.child.wait()
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let killed = self.signal(Signal::KILL);
        let until = Instant::now() + if killed.is_ok() { KILL_TIMEOUT } else { Duration::ZERO };
        if wait(&mut [PollFd::new(&self.watch, PollFlags::IN)], until) {
            let _ = self.reap();
        } else {
            log::warn!("{}", self.abandon(killed));
        }
    }
}

/// Signals a group. A group that no longer exists is not an error.
fn kill(group: Pid, signal: Signal) -> io::Result<()> {
    match kill_process_group(group, signal) {
        Err(Errno::SRCH) => Ok(()),
        sent => Ok(sent?),
    }
}

/// Polls until a deadline; returns whether a descriptor is ready.
pub(super) fn wait(wanted: &mut [PollFd], until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    retry_on_intr(|| poll(wanted, Some(&timeout))).unwrap_or(0) > 0
}
