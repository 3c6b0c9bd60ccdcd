//! `Writing files:  45% (2250/5000)`, as git shows it: only for work that lasts.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::pusher::report::Report;
use crate::run::signals::Stop;

/// Work that is done sooner shows no progress.
const QUIET: Duration = Duration::from_secs(1);

/// How far a checkout is, for the pusher.
#[derive(Debug)]
pub struct Progress<'a> {
    report: &'a Report,
    stop: &'a Stop,
    started: Instant,
}

impl<'a> Progress<'a> {
    /// Begins to measure.
    #[must_use]
    pub fn new(report: &'a Report, stop: &'a Stop) -> Self {
        Self { report, stop, started: Instant::now() }
    }

    /// Shows how far the work is; fails where it is not to go on.
    pub fn show(&self, done: u64, total: u64) -> Result<()> {
        if self.started.elapsed() >= QUIET {
            let percent = (done * 100).checked_div(total).unwrap_or(100);
            self.report.progress(format_args!("Writing files: {percent:>3}% ({done}/{total})"));
        }
        self.stop.check()
    }

    /// Tells of something that does not stop the work.
    pub fn warning(&self, warning: impl Display) {
        self.report.warning(warning);
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.report.end_progress();
    }
}
