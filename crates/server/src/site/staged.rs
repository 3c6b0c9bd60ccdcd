//! [`Staged`]: a release under construction. It is filled, placed, and sealed, and removed if it does not become live.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::panic::resume_unwind;
use std::thread;

use bluegreen_sys::dir::{Dir, Identity};
use bluegreen_sys::parallel::spawn;
use bluegreen_text::{bytes, count};
use rustix::fs::{Mode, fchmod};

use super::LockedSite;
use super::in_use::is_in_use;
use super::paths::INCOMING;
use crate::error::{Error, Result};
use crate::release::{Record, ReleaseName};
use bluegreen_checkout::manifest::Manifest;
use bluegreen_checkout::recycle::Source;
use bluegreen_checkout::{Destination, Written};

impl LockedSite {
    /// Returns whether a release can be recycled: it has a manifest, and nothing is mounted in it.
    pub fn is_recyclable(&self, name: &ReleaseName) -> bool {
        let text = name.to_string();
        self.releases.open_inside(text.as_bytes()).is_ok()
            && matches!(self.releases.find_mount(&[text.as_bytes()]), Ok(None))
            && self.has_manifest(name)
    }

    /// Renames a release to a temporary name, so that the next one can reuse its unchanged files. Returns `None` if the
    /// release has no manifest or contains a mount point. Its records stay until [`Withdrawn::take_over`], because
    /// [`Withdrawn::put_back`] may restore it.
    pub fn withdraw_to_recycle(&self, name: ReleaseName) -> Option<Withdrawn<'_>> {
        if !self.has_manifest(&name) {
            return None;
        }
        let dir = self.releases.open_inside(name.to_string().as_bytes()).ok()?;
        let is_flushed = self.read_record(&name).ok()?.is_some_and(|record| record.flushed);
        let withdrawn =
            self.withdraw(&name).inspect_err(|error| log::info!("{name} is not recycled: {error}"));
        Some(Withdrawn { site: self, at: withdrawn.ok()?, name, dir, is_flushed })
    }

    /// Creates the empty directory of a new release.
    pub fn stage(&self) -> Result<Staged<'_>> {
        let at = self.free_incoming()?;
        let path = self.releases_path().join(&at);
        self.releases.create_dir(at.as_bytes(), 0o755).map_err(Error::io("create", &path))?;
        let dir = self.releases.open_dir(at.as_bytes()).map_err(Error::io("open", &path))?;
        let identity = dir.identity().map_err(Error::io("read", path))?;
        Ok(Staged { site: self, dir, identity, at, name: None, done: false })
    }

    /// Fails if the file system lacks the space for new files of these sizes.
    pub fn refuse_full_disk(&self, sizes: impl Iterator<Item = u64>) -> Result<()> {
        let space = self.releases.free_space().map_err(Error::io("read", self.releases_path()))?;
        let block = space.f_frsize.max(512);
        let (mut inodes, mut needed) = (0, 0_u64);
        for size in sizes {
            inodes += 1;
            needed = needed.saturating_add(size.div_ceil(block).saturating_mul(block));
        }
        let free = space.f_bavail.saturating_mul(block);
        let refused = |needed, free| Err(Error::NoSpace { path: self.releases_path(), needed, free });
        if needed > free {
            return refused(bytes(needed), bytes(free));
        }
        // File systems that allocate inodes dynamically report a total of 0.
        if space.f_files > 0 && inodes > space.f_favail {
            return refused(count(inodes, "inode"), count(space.f_favail, "inode"));
        }
        Ok(())
    }

    /// Returns an unused temporary name. It is random, because [`is_in_use`] takes a process of another site's deployment for
    /// one of this site if both use the same name.
    pub(super) fn free_incoming(&self) -> Result<String> {
        let first = RandomState::new().build_hasher().finish() % 1_000_000;
        for number in (first..1_000_000).chain(0..first) {
            let name = format!("{INCOMING}{number:06}");
            let path = self.releases_path().join(&name);
            if !self.releases.contains(name.as_bytes()).map_err(Error::io("read", path))? {
                return Ok(name);
            }
        }
        Err(Error::io("find a name in", self.releases_path())(ErrorKind::AlreadyExists.into()))
    }
}

/// A recycled release under a temporary name. Dropping it removes the files that the new release did not reuse.
#[derive(Debug)]
#[must_use = "dropping it removes the release"]
pub struct Withdrawn<'a> {
    site: &'a LockedSite,
    at: String,
    name: ReleaseName,
    dir: Dir,
    /// Whether its files are on the disk.
    is_flushed: bool,
}

impl Withdrawn<'_> {
    /// Reads the contents of the release as they were written.
    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.site.release_path(&self.name);
        let invalid = || Error::io("read the manifest of", path)(ErrorKind::InvalidData.into());
        self.site.manifest(&self.name).ok_or_else(invalid)
    }

    /// Returns whether the files of the release are on the disk.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.is_flushed
    }

    /// Runs `work` while another thread searches for processes that still use the release and could write to files that the
    /// new release reuses. Returns whether there is such a process. No new one can enter the renamed directory.
    pub fn search_users_during<T>(&self, work: impl FnOnce() -> T) -> (T, bool) {
        let (at, name) = (&self.at, &self.name);
        let search = || {
            is_in_use(at).unwrap_or_else(|error| {
                log::warn!("cannot read which processes use {name}: {error}");
                true
            })
        };
        thread::scope(|scope| {
            let searching = spawn(scope, search);
            let result = work();
            let is_found = match searching {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                // At a limit of processes.
                Err(_) => search(),
            };
            (result, is_found)
        })
    }

    /// Removes the release's records, and returns the files that the new release can reuse.
    pub fn take_over<'s>(&'s self, manifest: &'s Manifest) -> Result<Source<'s>> {
        self.site.remove_records(&self.name)?;
        self.site.remove_log(&self.name)?;
        Ok(Source { root: &self.dir, manifest })
    }

    /// Restores the release under its own name.
    pub fn put_back(self) {
        let Self { site, at, .. } = &self;
        let name = self.name.to_string();
        if let Err(error) = site.releases.rename_new(at.as_bytes(), &site.releases, name.as_bytes()) {
            log::warn!("cannot restore release {name}: {error}");
        }
    }
}

impl Drop for Withdrawn<'_> {
    fn drop(&mut self) {
        // Does nothing if the release was put back.
        if let Err(error) = self.site.clear(self.at.as_bytes()) {
            log::warn!("{error}; the next deployment tries again");
        }
    }
}

/// A release under construction. Dropping it before [`Staged::keep`] removes it.
#[derive(Debug)]
#[must_use = "dropping it removes the incomplete release"]
pub struct Staged<'a> {
    site: &'a LockedSite,
    dir: Dir,
    identity: Identity,
    at: String,
    name: Option<ReleaseName>,
    done: bool,
}

impl Staged<'_> {
    /// Returns the directory to fill.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Returns the arguments of a checkout: the directory to fill, and the recycled release.
    #[must_use]
    pub fn destination<'s>(&'s self, recycled: Option<Source<'s>>) -> Destination<'s> {
        Destination {
            root: &self.dir,
            path: self.site.releases_path().join(&self.at),
            recycled,
            clock: &self.site.releases,
        }
    }

    /// Writes the release's record with the state `staged`, and renames the directory to its final name.
    pub fn place(&mut self, name: &ReleaseName, record: &Record, manifest: &Manifest) -> Result<()> {
        let path = self.site.release_path(name);
        let text = name.to_string();
        // The record comes first, because a release without a record is never removed.
        self.name = Some(name.clone());
        self.write_record(name, record)?;
        self.site.write_manifest(name, manifest)?;
        self.open_to_readers().map_err(Error::io("change", &path))?;
        self.site
            .releases
            .rename(self.at.as_bytes(), &self.site.releases, text.as_bytes())
            .map_err(Error::io("place", path))?;
        self.at = text;
        Ok(())
    }

    /// Flushes the release to disk, and then records it as ready. If the disk lost a write, flushing fails, and so does the
    /// deployment.
    pub fn seal(&self, name: &ReleaseName, record: &Record, written: &Written) -> Result<()> {
        self.refuse_replaced()?;
        if self.site.durable {
            let flushed = match &written.unflushed {
                Some(unflushed) => unflushed
                    .flush(&written.manifest.listing, &self.dir)
                    .and_then(|()| self.site.flush_manifest(name)),
                None => self.flush(),
            };
            flushed.map_err(Error::io("flush", self.site.release_path(name)))?;
        }
        self.write_record(name, &Record { flushed: self.site.durable, ..record.clone() })
    }

    /// Fails if the release's path no longer refers to the directory that was filled: a step may have moved it.
    pub fn refuse_replaced(&self) -> Result<()> {
        match &self.name {
            Some(name) if !self.site.is_at(name, self.identity)? => Err(Error::Replaced(name.to_string())),
            _ => Ok(()),
        }
    }

    fn write_record(&self, name: &ReleaseName, record: &Record) -> Result<()> {
        let lasts = self.dir.has_lasting_inodes().map_err(Error::io("read", self.site.release_path(name)))?;
        self.site
            .write_record(name, &Record { inode: lasts.then_some(self.identity.inode), ..record.clone() })
    }

    /// Sets the release's mode to 0755, independent of the umask, and preserves an inherited set-group-id bit.
    fn open_to_readers(&self) -> io::Result<()> {
        let mode = self.dir.own_stat()?.st_mode & 0o7777;
        let wanted = 0o755 | mode & Mode::SGID.bits();
        if mode == wanted { Ok(()) } else { Ok(fchmod(&self.dir, Mode::from_raw_mode(wanted))?) }
    }

    /// Flushes the file system of the release, and that of the records if they differ.
    fn flush(&self) -> io::Result<()> {
        self.dir.sync_file_system()?;
        let is_shared = self.site.state.identity()?.device == self.identity.device;
        if is_shared { Ok(()) } else { self.site.state.sync_file_system() }
    }

    /// Keeps the release, because it is live.
    pub fn keep(mut self) {
        self.done = true;
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let removed = match &self.name {
            Some(name) if self.at == name.to_string() => self.site.discard(name, self.identity),
            Some(name) => self.site.clear(self.at.as_bytes()).and_then(|()| self.site.remove_records(name)),
            None => self.site.clear(self.at.as_bytes()),
        };
        if let Err(error) = removed {
            log::warn!("{error}; the next deployment tries again");
        }
    }
}
