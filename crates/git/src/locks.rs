//! Stale lock files of git. git creates a lock file and removes it when it is done. After a power failure, lock files stay,
//! and git refuses every change to the files that they lock.
//!
//! A lock file from before the last boot is stale, because the git process that created it no longer exists. Other lock
//! files stay. If the clock was set since the boot, the lock file of a running git may look older than it is, but that one
//! disappears within a second.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use bluegreen_sys::dir::Dir;
use nix::unistd::{SysconfVar, sysconf};
use rustix::fs::FileType;
use rustix::time::{ClockId, clock_gettime};

use super::Repository;
use super::error::{Error, Result};

/// The directories of a repository that can contain lock files, and whether their subdirectories can, too.
const PLACES: [(&str, bool); 5] =
    [("", false), ("refs", true), ("objects/info", true), ("objects/pack", false), ("reftable", false)];

/// The time for which a lock file must stay unchanged before it is removed. A running git holds one for milliseconds.
const PAUSE: Duration = Duration::from_secs(1);

/// A lock file from before the last boot.
struct Stale {
    dir: Dir,
    name: Vec<u8>,
    path: PathBuf,
    inode: u64,
}

impl Repository {
    /// Returns git's lock files from before the last boot, and what could not be read.
    #[must_use]
    pub fn stale_locks(&self) -> (Vec<PathBuf>, Vec<Error>) {
        let mut errors = Vec::new();
        let found = self.find_stale_locks(&mut errors);
        (found.into_iter().map(|lock| lock.path).collect(), errors)
    }

    /// Removes them. Returns the path of each, or why it could not be read or removed.
    #[must_use]
    pub fn remove_stale_locks(&self) -> Vec<Result<PathBuf>> {
        let remove = |lock: Stale| {
            lock.dir.remove(&lock.name).map_err(Error::io("remove", &lock.path))?;
            Ok(lock.path)
        };
        let mut errors = Vec::new();
        let found = self.find_stale_locks(&mut errors);
        if found.is_empty() {
            return errors.into_iter().map(Err).collect();
        }
        thread::sleep(PAUSE);
        errors.clear();
        let is_the_same = |lock: &Stale| {
            found.iter().any(|before| (before.inode, &before.path) == (lock.inode, &lock.path))
        };
        let stale = self.find_stale_locks(&mut errors);
        errors.into_iter().map(Err).chain(stale.into_iter().filter(is_the_same).map(remove)).collect()
    }

    /// Finds them. A directory that cannot be read does not hide those in the others.
    fn find_stale_locks(&self, errors: &mut Vec<Error>) -> Vec<Stale> {
        // If the time of the boot is unknown, no lock file counts as stale.
        let Some(boot) = booted() else { return Vec::new() };
        let mut found = Vec::new();
        for (place, is_deep) in PLACES {
            let path = self.path().join(place);
            collect(Dir::open(&path), &path, is_deep, boot, &mut found, errors);
        }
        found
    }
}

fn collect(
    dir: io::Result<Dir>,
    path: &Path,
    is_deep: bool,
    boot: SystemTime,
    found: &mut Vec<Stale>,
    errors: &mut Vec<Error>,
) {
    let read = || -> io::Result<()> {
        let dir = dir?;
        for (name, kind) in dir.names()? {
            let path = path.join(OsStr::from_bytes(&name));
            if kind == FileType::Directory && is_deep {
                collect(dir.open_dir(&name), &path, is_deep, boot, found, errors);
            } else if name.ends_with(b".lock")
                && let Some(inode) = older(&dir, &name, boot)?
            {
                found.push(Stale { dir: dir.try_clone()?, name, path, inode });
            }
        }
        Ok(())
    };
    match read() {
        // A running git may have just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => errors.push(Error::io("read", path)(error)),
        Ok(()) => {}
    }
}

/// Returns the inode of a file that was last written before a point in time.
fn older(dir: &Dir, name: &[u8], instant: SystemTime) -> io::Result<Option<u64>> {
    let stat = match dir.stat(name) {
        // A running git may have just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        stat => stat?,
    };
    let since = |seconds: i64, nanoseconds: u64| {
        Some(SystemTime::UNIX_EPOCH + Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?))
    };
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    // Times before 1970 are older than any boot.
    let is_older = since(stat.st_mtime, stat.st_mtime_nsec).is_none_or(|written| written < instant);
    Ok((is_file && is_older).then_some(stat.st_ino))
}

/// Returns the time of the boot, or slightly earlier. Inside a container, this is when its first process started, if that
/// is visible.
fn booted() -> Option<SystemTime> {
    // In this order, a delay between the two calls makes the result earlier, never later.
    let now = SystemTime::now();
    let uptime = clock_gettime(ClockId::Boottime);
    let uptime = Duration::new(uptime.tv_sec.try_into().ok()?, uptime.tv_nsec.try_into().ok()?);
    let first = std::fs::read_to_string("/proc/1/stat").ok().and_then(|stat| started(&stat));
    Some(now - uptime + first.unwrap_or_default())
}

/// Returns the time from the kernel's start to that of a process, the 22nd field of its `stat` (proc(5)). The second field,
/// the name, is in parentheses and may contain any character.
fn started(stat: &str) -> Option<Duration> {
    let ticks: u64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let a_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|&ticks| ticks > 0)?;
    Some(Duration::from_millis(ticks.checked_mul(1000)? / a_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_stands_behind_its_name() {
        let stat = "1 (a) b (c) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 250 9 9 9";
        assert_eq!(started(stat), Some(Duration::from_millis(2500)));
        assert_eq!(started("1 (init"), None);
        let now = SystemTime::now();
        assert!(booted().unwrap() < now && booted().unwrap() > SystemTime::UNIX_EPOCH);
    }
}
