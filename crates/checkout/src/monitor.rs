//! [`Monitor`]: receives progress and warnings from a checkout, and cancels it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::error::Result;
use bluegreen_process::signals::Stop;

/// The time after which progress is shown.
const PROGRESS_DELAY: Duration = Duration::from_secs(1);

/// A report of a checkout about its work.
#[derive(Debug, Clone, Copy)]
pub enum Notice<'a> {
    /// The progress of writing files.
    Progress {
        /// The files that are written.
        done: u64,
        /// All files.
        total: u64,
    },
    /// The checkout has ended. No more progress follows.
    End,
    /// A line that git or a filter printed while it converted files.
    Complaint(&'a str),
    /// The files of Git LFS that are pointers because their content is missing.
    Pointers(&'a [PathBuf]),
}

/// The connection of a checkout to its caller.
pub struct Monitor<'a> {
    stop: &'a Stop,
    listener: &'a dyn Fn(&Notice),
    started: Instant,
}

impl<'a> Monitor<'a> {
    /// Starts the clock for progress. `listener` receives every notice.
    #[must_use]
    pub fn new(stop: &'a Stop, listener: &'a dyn Fn(&Notice)) -> Self {
        Self { stop, listener, started: Instant::now() }
    }

    /// Reports progress after the first second. Fails if the checkout is cancelled.
    pub fn progress(&self, done: u64, total: u64) -> Result<()> {
        if self.started.elapsed() >= PROGRESS_DELAY {
            self.notice(Notice::Progress { done, total });
        }
        Ok(self.stop.check()?)
    }

    /// Reports something that does not stop the work.
    pub fn notice(&self, notice: Notice) {
        (self.listener)(&notice);
    }

    /// The request to stop, for code that waits for a child process.
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
