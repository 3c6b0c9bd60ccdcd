//! The process that holds a site's lock, found and signaled by another process.
//!
//! A process id can be reused at any moment. The process is therefore opened as a pidfd before checking that it has the
//! lock file open.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Error, Result};
use crate::site::{Holder, Site};

/// A process that changes a site.
#[derive(Debug)]
pub struct HoldingProcess {
    /// Its entry in the lock file.
    pub holder: Holder,
    process: OwnedFd,
}

impl HoldingProcess {
    /// Finds the process that holds a site's lock, if any.
    pub fn find(site: &Site) -> Result<Option<Self>> {
        let Some(holder) = site.holder() else { return Ok(None) };
        let failed = |error: Errno| Error::io("find", format!("process {}", holder.pid))(error.into());
        let Some(pid) = i32::try_from(holder.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) if site.holder().is_none() => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if has_open(pid, &site.lock_path()) {
            Ok(Some(Self { holder, process }))
        } else if site.holder().is_none() {
            Ok(None)
        } else {
            // This process does not have the lock open: the holder runs in another PID namespace.
            Err(failed(Errno::SRCH))
        }
    }

    /// Sends it TERM.
    pub fn stop(&self) -> Result<()> {
        match pidfd_send_signal(&self.process, Signal::TERM) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::io("stop", format!("process {}", self.holder.pid))(error.into())),
        }
    }

    /// Waits until it exits; returns false if it is still running after `timeout`.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: 0 };
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        retry_on_intr(|| poll(&mut ended, Some(&timeout))).unwrap_or(0) > 0
    }
}

/// Returns whether a process has a file open.
fn has_open(pid: Pid, file: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    let Some(wanted) = identity(file) else { return false };
    let Ok(descriptors) = Path::new(&format!("/proc/{}/fd", pid.as_raw_nonzero())).read_dir() else {
        return false;
    };
    descriptors.flatten().any(|descriptor| identity(&descriptor.path()) == Some(wanted))
}
