//! A site's lock, and its holder.
//!
//! The lock is an flock, which the kernel releases when its process exits for any reason. There are no stale locks, and
//! the file is never removed. Its contents name the holder.

use std::cell::RefCell;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::paths::{RELEASES, STATE};
use super::{LockedSite, Site};
use crate::error::{Error, Result};
pub use bluegreen_protocol::status::Holder;
use bluegreen_sys::dir::Dir;

const LOCK: &[u8] = b"lock";

/// The interval between attempts to take the lock.
const RETRY: Duration = Duration::from_millis(20);

impl Site {
    /// Returns the current holder of the lock, if any.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        let mut file = File::open(self.lock_path()).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => read_holder(&mut file),
            _ => None,
        }
    }

    /// Takes the lock, waiting up to `timeout`. If it has to wait, it calls `announce` once with the holder, and `go_on`
    /// repeatedly; an error from `go_on` ends the wait.
    pub fn lock(
        self,
        holder: Holder,
        timeout: Duration,
        announce: impl FnOnce(&str),
        go_on: impl Fn() -> Result<()>,
    ) -> Result<LockedSite> {
        let make = |parent: &Dir, name: &[u8], mode| {
            let path = self.root.join(std::ffi::OsStr::from_bytes(name));
            parent.open_or_create_dir(name, mode).map_err(Error::io("create", path))
        };
        let state = make(&self.dir, STATE, 0o700)?;
        let records = make(&state, RELEASES, 0o700)?;
        match self.dir.create_dir(RELEASES, 0o755) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", self.releases_path())(error));
            }
            _ => {}
        }
        let releases = self.open_releases()?.ok_or_else(|| Error::NoSite(self.root.clone()))?;
        let path = self.lock_path();
        let lock = state.open_file(LOCK, OFlags::RDWR | OFlags::CREATE).map_err(Error::io("open", &path))?;
        let start = Instant::now();
        let mut announce = Some(announce);
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let name = || {
                read_holder_retrying(&path)
                    .map_or_else(|| "another process".into(), |other| other.to_string())
            };
            if start.elapsed() >= timeout {
                return Err(Error::Locked { holder: name(), waited: timeout });
            }
            if let Some(announce) = announce.take() {
                announce(&name());
            }
            go_on()?;
            thread::sleep(RETRY);
        }
        let _ = write_holder(&lock, &holder);
        Ok(LockedSite { site: self, state, records, releases, lock, holder: RefCell::new(holder) })
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Reads the holder's entry. Retries, because the holder writes it just after taking the lock.
fn read_holder_retrying(path: &Path) -> Option<Holder> {
    (0..10).find_map(|_| {
        let holder = File::open(path).ok().and_then(|mut file| read_holder(&mut file));
        if holder.is_none() {
            thread::sleep(RETRY);
        }
        holder
    })
}

pub(super) fn write_holder(mut lock: &File, holder: &Holder) -> io::Result<()> {
    use std::io::Seek;
    let text = serde_json::to_string(holder)?;
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(text.as_bytes())
}
