//! A latch: threads wait until another one has opened it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;
use bluegreen_process::signals::Stop;

/// The time between two checks for a stop.
const TICK: Duration = Duration::from_millis(100);

/// A latch that is closed until it is opened once.
#[derive(Debug, Default)]
pub struct Latch {
    opened: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Latch {
    /// Opens the latch for good.
    pub fn open(&self) {
        *self.lock() = Some(Instant::now());
        self.changed.notify_all();
    }

    /// Returns when the latch was opened, if it is open.
    #[must_use]
    pub fn opened(&self) -> Option<Instant> {
        *self.lock()
    }

    /// Waits until the latch is open, or a stop is requested.
    pub fn wait(&self, stop: Option<&Stop>) -> Result<()> {
        let mut opened = self.lock();
        while opened.is_none() {
            stop.map_or(Ok(()), Stop::check)?;
            opened = self.changed.wait_timeout(opened, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
