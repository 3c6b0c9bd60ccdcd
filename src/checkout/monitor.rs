//! The way out of a checkout: what it reports while it works, and the wish to stop it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::run::signals::Stop;

/// Work that is done sooner shows no progress.
const QUIET: Duration = Duration::from_secs(1);

/// Something that a checkout reports while it works.
#[derive(Debug, Clone, Copy)]
pub enum Notice<'a> {
    /// So many files of so many are written.
    Progress {
        /// The files that are written.
        done: u64,
        /// All files.
        total: u64,
    },
    /// The files are written, or never will be: no more progress.
    End,
    /// A filter or git printed this while it converted files.
    Complaint(&'a str),
    /// Files of Git LFS are pointers, for want of their content.
    Pointers(&'a [PathBuf]),
}

/// Listens to a checkout, and knows whether it is to stop.
pub struct Monitor<'a> {
    stop: &'a Stop,
    listener: &'a dyn Fn(&Notice),
    started: Instant,
}

impl<'a> Monitor<'a> {
    /// Begins to measure; `listener` gets every notice.
    #[must_use]
    pub fn new(stop: &'a Stop, listener: &'a dyn Fn(&Notice)) -> Self {
        Self { stop, listener, started: Instant::now() }
    }

    /// Reports how far the work is, once it has lasted; fails where it is to stop.
    pub fn progress(&self, done: u64, total: u64) -> Result<()> {
        if self.started.elapsed() >= QUIET {
            self.notice(Notice::Progress { done, total });
        }
        self.stop.check()
    }

    /// Reports something that does not stop the work.
    pub fn notice(&self, notice: Notice) {
        (self.listener)(&notice);
    }

    /// Asked by what waits for a child.
    #[must_use]
    pub fn stop(&self) -> &'a Stop {
        self.stop
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        self.notice(Notice::End);
    }
}
