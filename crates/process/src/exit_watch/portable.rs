//! Waits for the exit of a child process in a thread, for systems without pidfds. Linux compiles this for tests only.

use std::io::{self, PipeReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread::JoinHandle;

use bluegreen_sys::parallel::spawn_alone;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// A descriptor that becomes readable when a child process exits: a pipe into which the thread then writes.
#[derive(Debug)]
pub(crate) struct ExitWatch {
    exited: PipeReader,
    thread: Option<JoinHandle<()>>,
}

impl ExitWatch {
    /// Watches a child that has not been reaped.
    pub(crate) fn start(child: Pid) -> io::Result<Self> {
        let (exited, mut writer) = io::pipe()?;
        let thread = spawn_alone(move || {
            // The child stays a zombie, so that its id is not reused.
            let exit = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            if let Err(error) = retry_on_intr(|| waitid(WaitId::Pid(child), exit)) {
                log::warn!("cannot wait for process {}: {error}", child.as_raw_nonzero());
            }
            // Closing the pipe is not sufficient: without pipe2(2), a child that another thread starts can inherit it.
            let _ = writer.write_all(b"x");
        })?;
        Ok(Self { exited, thread: Some(thread) })
    }

    /// Waits for the child to exit. Call this before reaping it, because the thread refers to the child by its id.
    pub(crate) fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The thread only writes, so its result has no meaning.
            let _ = thread.join();
        }
    }
}

impl AsFd for ExitWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.exited.as_fd()
    }
}
