//! Removes the leftovers of a crash, and surplus releases. Unknown files stay.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bluegreen_sys::dir::Identity;

use super::paths::{INCOMING, NEXT};
use super::{Live, LockedSite};
use crate::error::{Error, Result};
use crate::release::{Record, ReleaseName, State};

impl LockedSite {
    /// Removes the leftovers of a crash: partially filled directories, releases whose steps never completed, and temporary
    /// files. Returns an error for each leftover that cannot be removed, which is harmless.
    pub fn sweep(&self, live: &Live) -> Result<Vec<Error>> {
        let mut leftovers = Vec::new();
        if self.dir.read_link(NEXT).is_ok() {
            let path = self.root.join(OsStr::from_bytes(NEXT));
            leftovers.extend(self.dir.remove(NEXT).map_err(Error::io("remove", path)).err());
        }
        for release in self.releases()? {
            let unfinished = release.record.filter(|record| record.state == State::Staged);
            if let Some(record) = unfinished
                && live.name() != Some(&release.name)
            {
                leftovers.extend(self.sweep_unfinished(&release.name, &record).err());
            }
        }
        for (name, _) in self.releases.names().map_err(Error::io("read", self.releases_path()))? {
            if name.starts_with(INCOMING.as_bytes()) {
                log::info!("sweeping {}", name.escape_ascii());
                leftovers.extend(self.clear(&name).err());
            }
        }
        let records = self.records_path();
        for (name, _) in self.records.names().map_err(Error::io("read", &records))? {
            leftovers.extend(self.sweep_record(&name).err());
        }
        Ok(leftovers)
    }

    /// Removes a release whose steps never completed. If its path now refers to another directory, that one stays.
    fn sweep_unfinished(&self, name: &ReleaseName, record: &Record) -> Result<()> {
        let text = name.to_string();
        let stat = self.releases.stat(text.as_bytes()).map_err(Error::io("read", self.release_path(name)))?;
        if record.inode.is_some_and(|inode| inode != stat.st_ino) {
            self.remove_records(name)?;
            return Err(Error::Replaced(text));
        }
        self.clear(text.as_bytes())
    }

    /// Removes a file in `.bluegreen/releases/` if it is temporary or its release no longer exists.
    fn sweep_record(&self, name: &[u8]) -> Result<()> {
        let stem = name.rsplitn(2, |&byte| byte == b'.').last().unwrap_or(name);
        let is_leftover = name.starts_with(INCOMING.as_bytes())
            || match ReleaseName::from_bytes(stem) {
                Some(release) => !self.has(&release)?,
                None => false,
            };
        if !is_leftover {
            return Ok(());
        }
        let path = self.records_path().join(OsStr::from_bytes(name));
        self.records.remove(name).map_err(Error::io("remove", path))
    }

    /// Removes a release and its log. Fails, and changes nothing, if the release contains a mount point.
    pub fn remove(&self, name: &ReleaseName) -> Result<()> {
        self.remove_release(name)?;
        self.remove_log(name)
    }

    /// Removes a release. It is renamed first, so that a partially removed directory never looks like a release.
    fn remove_release(&self, name: &ReleaseName) -> Result<()> {
        let at = self.withdraw(name)?;
        self.remove_records(name)?;
        self.clear(at.as_bytes())
    }

    /// Gives a release a temporary name, which is returned. After a crash, a sweep removes it with its records.
    pub(super) fn withdraw(&self, name: &ReleaseName) -> Result<String> {
        let (text, at) = (name.to_string(), self.free_incoming()?);
        self.refuse_mounts(text.as_bytes())?;
        self.releases
            .rename(text.as_bytes(), &self.releases, at.as_bytes())
            .map_err(Error::io("remove", self.release_path(name)))?;
        Ok(at)
    }

    /// Removes a release that never became live, if its path still refers to the directory that was filled. Its log stays. If
    /// it cannot be removed, it is marked as unfinished for a later sweep.
    pub(super) fn discard(&self, name: &ReleaseName, filled: Identity) -> Result<()> {
        if !self.is_at(name, filled)? {
            return self.remove_records(name);
        }
        let removed = self.remove_release(name);
        if removed.is_err()
            && let Some(record) = self.record(name)
        {
            self.write_record(name, &Record { state: State::Staged, ..record })?;
        }
        removed
    }

    /// Removes an entry of `releases/` recursively. Fails, and removes nothing, if it contains a mount point.
    pub(super) fn clear(&self, name: &[u8]) -> Result<()> {
        self.refuse_mounts(name)?;
        self.releases.remove(name).or_else(|error| {
            // A file system may have been mounted since the first check. This error then names the mount point.
            self.refuse_mounts(name)?;
            Err(Error::io("remove", self.path_in_releases(name))(error))
        })
    }

    fn refuse_mounts(&self, name: &[u8]) -> Result<()> {
        let path = self.path_in_releases(name);
        match self.releases.find_mount(&[name]).map_err(Error::io("look for mounts in", &path))? {
            Some(mount) => Err(Error::Mounted { path, mount }),
            None => Ok(()),
        }
    }

    fn path_in_releases(&self, name: &[u8]) -> PathBuf {
        self.releases_path().join(OsStr::from_bytes(name))
    }
}
