//! A release that is being made: where it is filled, how it gets its place, and that nothing is left
//! of it unless it becomes one.

use std::io::ErrorKind;

use rustix::fs::{Mode, fchmod};
use rustix::process::geteuid;

use super::locked::manifest_name;
use super::{INCOMING, LockedSite};
use crate::checkout::Destination;
use crate::checkout::manifest::Manifest;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::release::{Record, ReleaseName};
use crate::text::{bytes, count};

impl LockedSite {
    /// A release that can be turned into another one: it is known what it held, and its root is a
    /// directory of ours.
    #[must_use]
    pub fn recycle(&self, name: ReleaseName) -> Option<Recycled> {
        let dir = self.releases.open_dir(name.to_string().as_bytes()).ok()?;
        let stat = dir.own_stat().ok()?;
        let is_ours = stat.st_mode & 0o7777 == 0o755 && stat.st_uid == geteuid().as_raw();
        let manifest = self.manifest(&name).filter(|_| is_ours)?;
        Some(Recycled { name, dir, manifest })
    }

    /// Makes room for a new release: in a recycled one, or else in an empty directory.
    pub fn stage(&self, recycled: Option<Recycled>) -> Result<Staged<'_>> {
        let at = self.free_incoming()?;
        let path = self.root.join("releases").join(&at);
        let (dir, manifest) = if let Some(old) = recycled {
            let name = old.name.to_string();
            self.releases
                .rename(name.as_bytes(), &self.releases, at.as_bytes())
                .map_err(Error::io("recycle", path))?;
            self.remove_records(&old.name)?;
            self.remove_log(&old.name)?;
            (old.dir, Some(old.manifest))
        } else {
            self.releases.make_dir(at.as_bytes(), 0o755).map_err(Error::io("make", &path))?;
            (self.releases.open_dir(at.as_bytes()).map_err(Error::io("open", path))?, None)
        };
        Ok(Staged { site: self, dir, at, manifest, name: None, done: false })
    }

    /// Refuses a release that the file system has no room for, before anything is written; `sizes` are
    /// those of its new files.
    pub fn refuse_full_disk(&self, sizes: impl Iterator<Item = u64>) -> Result<()> {
        let space = self.dir.free_space().map_err(Error::io("read", &self.root))?;
        let block = space.f_frsize.max(512);
        let (mut inodes, mut needed) = (0, 0_u64);
        for size in sizes {
            inodes += 1;
            needed = needed.saturating_add(size.div_ceil(block).saturating_mul(block));
        }
        let free = space.f_bavail.saturating_mul(block);
        let refused = |needed, free| Err(Error::NoSpace { path: self.root.clone(), needed, free });
        if needed > free {
            return refused(bytes(needed), bytes(free));
        }
        // Some file systems make inodes as they need them, and say that they have none at all.
        if space.f_files > 0 && inodes > space.f_favail {
            return refused(count(inodes, "inode"), count(space.f_favail, "inode"));
        }
        Ok(())
    }

    /// A name for a directory that is being filled; one that could not be swept stays in its place.
    pub(super) fn free_incoming(&self) -> Result<String> {
        for attempt in std::process::id().. {
            let name = format!("{INCOMING}{:06}", attempt % 1_000_000);
            let path = self.root.join("releases").join(&name);
            if !self.releases.contains(name.as_bytes()).map_err(Error::io("read", path))? {
                return Ok(name);
            }
        }
        Err(Error::io("find a name in", self.root.join("releases"))(ErrorKind::AlreadyExists.into()))
    }
}

/// A release that is to be turned into another one.
#[derive(Debug)]
pub struct Recycled {
    name: ReleaseName,
    dir: Dir,
    /// What it held when it was written.
    pub manifest: Manifest,
}

/// A release that is being made. Whatever ends it before [`Staged::keep`] removes it.
#[derive(Debug)]
#[must_use = "dropping it removes the release that is being made"]
pub struct Staged<'a> {
    site: &'a LockedSite,
    dir: Dir,
    manifest: Option<Manifest>,
    at: String,
    name: Option<ReleaseName>,
    done: bool,
}

impl Staged<'_> {
    /// The directory to fill.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The same for a checkout.
    #[must_use]
    pub fn destination(&self) -> Destination<'_> {
        Destination {
            root: &self.dir,
            path: self.site.root().join("releases").join(&self.at),
            recycled: self.manifest.as_ref(),
            clock: &self.site.records,
        }
    }

    /// Gives the release its name and place; its record says that it is not ready.
    pub fn place(&mut self, name: &ReleaseName, record: &Record, manifest: &Manifest) -> Result<()> {
        let path = self.site.release_path(name);
        let text = name.to_string();
        // The record comes first: a release without one is not ours to judge.
        self.name = Some(name.clone());
        self.site.write_record(name, record)?;
        self.site.write_file(&manifest_name(name), false, |file| manifest.write(file))?;
        fchmod(&self.dir, Mode::from_raw_mode(0o755))
            .map_err(|error| Error::io("change", &path)(error.into()))?;
        self.site
            .releases
            .rename(self.at.as_bytes(), &self.site.releases, text.as_bytes())
            .map_err(Error::io("place", path))?;
        self.at = text;
        Ok(())
    }

    /// Makes the release durable, and only then ready. On a disk that lost a write `syncfs` fails, and
    /// with it the deployment.
    pub fn seal(&self, name: &ReleaseName, record: &Record) -> Result<()> {
        if self.site.durable {
            let path = self.site.release_path(name);
            self.dir.sync_file_system().map_err(Error::io("flush", path))?;
        }
        self.site.write_record(name, record)
    }

    /// Lets the release stay: it is live.
    pub fn keep(mut self) {
        self.done = true;
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let removed = self.site.releases.remove(self.at.as_bytes()).map_err(Error::io("remove", &self.at));
        let forgotten = self.name.as_ref().map_or(Ok(()), |name| self.site.remove_records(name));
        if let Err(error) = removed.and(forgotten) {
            log::warn!("{error}; the next deployment tries again");
        }
    }
}
