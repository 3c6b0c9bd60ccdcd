//! [`Staged`]: a release under construction. It is filled, placed, and sealed, and removed if it does not become live.

use std::io::{self, ErrorKind};
use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

use bluegreen_sys::dir::{Dir, Identity};
use bluegreen_sys::parallel::spawn;
use bluegreen_text::{bytes, count};
use rustix::fs::{Mode, fchmod};
use rustix::process::geteuid;

use super::LockedSite;
use super::in_use::Search;
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

    /// Opens a release whose unchanged files the next one can reuse.
    #[must_use]
    pub fn open_to_recycle(&self, name: ReleaseName) -> Option<Recycled> {
        if !self.is_recyclable(&name) {
            return None;
        }
        let dir = self.releases.open_inside(name.to_string().as_bytes()).ok()?;
        let manifest = self.manifest(&name)?;
        let is_flushed = self.read_record(&name).ok()?.is_some_and(|record| record.flushed);
        Some(Recycled { name, dir, manifest, is_flushed })
    }

    /// Renames a release to a temporary name, so that its files can be reused. Its records stay until
    /// [`Withdrawn::take_over`], because [`Withdrawn::put_back`] may restore it.
    pub fn withdraw_to_recycle(&self, recycled: Recycled) -> Result<Withdrawn<'_>> {
        let at = self.withdraw(&recycled.name)?;
        Ok(Withdrawn { site: self, at, recycled })
    }

    /// Creates the empty directory of a new release.
    pub fn stage(&self) -> Result<Staged<'_>> {
        let at = self.free_incoming()?;
        let path = self.releases_path().join(&at);
        self.releases.make_dir(at.as_bytes(), 0o755).map_err(Error::io("make", &path))?;
        let dir = self.releases.open_dir(at.as_bytes()).map_err(Error::io("open", &path))?;
        let identity = dir.identity().map_err(Error::io("read", path))?;
        Ok(Staged { site: self, dir, identity, at, name: None, done: false })
    }

    /// Fails if the file system has not enough space for new files of these sizes.
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

    /// Returns an unused temporary name. Leftovers that could not be swept may use the first ones.
    pub(super) fn free_incoming(&self) -> Result<String> {
        for attempt in std::process::id().. {
            let name = format!("{INCOMING}{:06}", attempt % 1_000_000);
            let path = self.releases_path().join(&name);
            if !self.releases.contains(name.as_bytes()).map_err(Error::io("read", path))? {
                return Ok(name);
            }
        }
        Err(Error::io("find a name in", self.releases_path())(ErrorKind::AlreadyExists.into()))
    }
}

/// A release whose unchanged files the next one reuses.
#[derive(Debug)]
pub struct Recycled {
    name: ReleaseName,
    dir: Dir,
    /// Its contents as they were written.
    pub manifest: Manifest,
    /// Whether its files are on the disk.
    is_flushed: bool,
}

/// A recycled release under a temporary name. Dropping it removes the files that the new release did not reuse.
#[derive(Debug)]
#[must_use = "dropping it removes the release"]
pub struct Withdrawn<'a> {
    site: &'a LockedSite,
    at: String,
    recycled: Recycled,
}

impl Withdrawn<'_> {
    /// Returns the contents of the release as they were written.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.recycled.manifest
    }

    /// Returns whether the files of the release are on the disk.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.recycled.is_flushed
    }

    /// Runs `work` while another thread searches for processes that still use the release and could write to files that the
    /// new release reuses. Returns whether there is such a process. No new one can enter the renamed directory.
    pub fn search_users_during<T>(&self, work: impl FnOnce() -> T) -> (T, bool) {
        let search = match Search::new(&self.at) {
            Ok(search) => search,
            Err(error) => {
                log::warn!("cannot read which processes use {}: {error}", self.recycled.name);
                return (work(), true);
            }
        };
        thread::scope(|scope| {
            // Skipping other users' processes is faster than starting a thread, but root inspects them all. At a limit of
            // processes, this thread does the search after the work.
            let is_long = geteuid().is_root();
            let searching = is_long.then(|| spawn(scope, || search.finds_user()).ok()).flatten();
            let (result, is_found) = (work(), search.finds_user());
            let join =
                |thread: ScopedJoinHandle<_>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            let is_found = searching.is_some_and(join) || is_found;
            (result, is_found || search.finds_new_user().unwrap_or(true))
        })
    }

    /// Removes the release's records, and returns the files that the new release can reuse.
    pub fn take_over(&self) -> Result<Source<'_>> {
        self.site.remove_records(&self.recycled.name)?;
        self.site.remove_log(&self.recycled.name)?;
        Ok(Source { root: &self.recycled.dir, manifest: &self.recycled.manifest })
    }

    /// Restores the release under its own name.
    pub fn put_back(self) {
        let Self { site, at, recycled } = &self;
        let name = recycled.name.to_string();
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
#[must_use = "dropping it removes the release that is being made"]
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
