//! A site on disk: its live release, all its releases, and every change to them.
//!
//! A [`Site`] suffices for reading. A change needs a [`LockedSite`], of which only one exists at a time on the machine. No
//! cleanup code has to undo anything: a directory is filled under a temporary name, becomes a release by one rename, and
//! becomes live by another.

mod adopt;
mod assets;
mod freeze;
pub mod history;
pub mod holder;
mod in_use;
mod instance;
mod lock;
mod locked;
pub mod logs;
pub mod outputs;
mod paths;
pub mod public;
pub mod role;
mod staged;
mod state_file;
mod sweep;
pub mod tip_status;

use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

pub use self::lock::Holder;
pub use self::locked::{Activated, LockedSite};
pub use self::paths::INCOMING;
use self::paths::{CURRENT, RELEASES, STATE};
pub use self::staged::{Staged, Withdrawn};
pub use self::state_file::StateFile;
use bluegreen_sys::dir::{Dir, Identity};
use bluegreen_text::timestamp;

use crate::config::SiteConfig;
use crate::error::{Error, Result};
use crate::release::{Record, Release, ReleaseName, sort_by_age};

/// A site whose directory exists.
#[derive(Debug)]
pub struct Site {
    root: PathBuf,
    dir: Dir,
    durable: bool,
}

/// The target of `current`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// There is no `current`.
    Nothing,
    /// A release.
    Release(ReleaseName),
    /// A release that no longer exists.
    Gone(ReleaseName),
    /// A path that is not a release, because an admin changed the symlink.
    Elsewhere(PathBuf),
}

impl Live {
    /// Returns the live release.
    #[must_use]
    pub fn release(&self) -> Option<&ReleaseName> {
        if let Self::Release(name) = self { Some(name) } else { None }
    }

    /// Returns the release that `current` names, whether or not it exists.
    fn name(&self) -> Option<&ReleaseName> {
        if let Self::Release(name) | Self::Gone(name) = self { Some(name) } else { None }
    }
}

impl Site {
    /// Opens the configured site.
    pub fn open(config: &SiteConfig) -> Result<Self> {
        let root = config.root.clone();
        match Dir::open(&root) {
            Ok(dir) => Ok(Self { root, dir, durable: config.durable }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::NoSite(root)),
            Err(error) => Err(Error::io("open", root)(error)),
        }
    }

    /// Reads `current`. Fails if `current` is not a symlink, because no rename could replace it.
    pub fn live(&self) -> Result<Live> {
        let path = self.current_path();
        let target = match self.dir.read_link(CURRENT) {
            Ok(target) => target,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Live::Nothing),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                let kind = if path.is_dir() { "a directory" } else { "a file" };
                return Err(Error::CurrentOccupied { path, kind });
            }
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let target = PathBuf::from(std::ffi::OsStr::from_bytes(&target));
        match self.named_by(&target).map_err(Error::io("read", self.root.join(&target)))? {
            Some(name) if self.has(&name)? => Ok(Live::Release(name)),
            Some(name) => Ok(Live::Gone(name)),
            None => Ok(Live::Elsewhere(target)),
        }
    }

    /// Returns the time of the last activation, RFC 3339, UTC: the ctime of `current`, which each activation creates
    /// anew.
    #[must_use]
    pub fn live_since(&self) -> Option<String> {
        let link = self.current_path().symlink_metadata().ok()?;
        Some(timestamp(link.modified().ok()?))
    }

    /// Finds the release that a symlink in the site points to, by any path to `releases/`.
    fn named_by(&self, target: &Path) -> io::Result<Option<ReleaseName>> {
        let name = target.file_name().and_then(|name| ReleaseName::from_bytes(name.as_bytes()));
        let Some((name, parent)) = name.zip(target.parent()) else { return Ok(None) };
        if parent == Path::new("releases") {
            return Ok(Some(name));
        }
        match self.root.join(parent).metadata() {
            Ok(found) => {
                let releases = self.dir.stat(RELEASES)?;
                Ok((Identity::from(&found) == Identity::from(&releases)).then_some(name))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether a release's directory exists. Any error other than "no such file" is returned.
    pub fn has(&self, name: &ReleaseName) -> Result<bool> {
        let path = self.release_path(name);
        match path.metadata() {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// Returns whether a release's path refers to the directory with this identity.
    fn is_at(&self, name: &ReleaseName, identity: Identity) -> Result<bool> {
        let path = self.release_path(name);
        match path.symlink_metadata() {
            Ok(found) => Ok(Identity::from(&found) == identity),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// Returns whether a release's directory has the inode number in its record; true if the record has none.
    pub fn is_original(&self, release: &Release) -> Result<bool> {
        let path = self.release_path(&release.name);
        let found = path.symlink_metadata().map_err(Error::io("read", path))?;
        let inode = release.record.as_ref().and_then(|record| record.inode);
        Ok(inode.is_none_or(|inode| inode == found.ino()))
    }

    /// Opens `releases/`; `None` before the first deployment.
    fn open_releases(&self) -> Result<Option<Dir>> {
        let path = self.releases_path();
        match self.dir.open_dir(RELEASES) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(match self.dir.read_link(RELEASES) {
                Ok(target) => {
                    let target = PathBuf::from(std::ffi::OsStr::from_bytes(&target));
                    Error::ReleasesLink { path, target }
                }
                Err(_) => Error::io("open", path)(error),
            }),
        }
    }

    /// Lists all releases, oldest first. Other names in `releases/` are ignored.
    pub fn releases(&self) -> Result<Vec<Release>> {
        let Some(dir) = self.open_releases()? else { return Ok(Vec::new()) };
        let names = dir.names().map_err(Error::io("read", self.releases_path()))?;
        let records = self.open_records().ok().flatten();
        let record = |name: &ReleaseName| self.read_record_in(records.as_ref()?, name).ok()?;
        let mut releases: Vec<Release> = names
            .iter()
            .filter(|(_, kind)| matches!(kind, FileType::Directory | FileType::Unknown))
            .filter_map(|(name, _)| ReleaseName::from_bytes(name))
            .map(|name| Release { record: record(&name), name })
            .collect();
        sort_by_age(&mut releases);
        Ok(releases)
    }

    /// Returns the release with this name.
    pub fn release(&self, name: &ReleaseName) -> Result<Release> {
        if self.has(name)? {
            Ok(Release { name: name.clone(), record: self.record(name) })
        } else {
            Err(Error::NoRelease(name.to_string()))
        }
    }

    /// Returns the live release's record; `None` if it is missing or cannot be read.
    #[must_use]
    pub fn live_record(&self, live: &Live) -> Option<Record> {
        self.record(live.release()?)
    }

    /// Returns a release's record; `None` if it is missing or cannot be read.
    fn record(&self, name: &ReleaseName) -> Option<Record> {
        self.read_record(name).ok()?
    }

    /// Reads a release's record; `None` if it is missing or cannot be parsed.
    fn read_record(&self, name: &ReleaseName) -> Result<Option<Record>> {
        let Some(records) = self.open_records()? else { return Ok(None) };
        self.read_record_in(&records, name)
    }

    /// Opens the directory of records; `None` if it does not exist.
    fn open_records(&self) -> Result<Option<Dir>> {
        match self.dir.open_dir(STATE).and_then(|state| state.open_dir(RELEASES)) {
            Ok(records) => Ok(Some(records)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", self.records_path())(error)),
        }
    }

    fn read_record_in(&self, records: &Dir, name: &ReleaseName) -> Result<Option<Record>> {
        let text = StateFile::new(records, self.records_path().join(record_name(name))).read()?;
        Ok(text.and_then(|text| toml::from_str(std::str::from_utf8(&text).ok()?).ok()))
    }
}

fn record_name(name: &ReleaseName) -> String {
    format!("{name}.toml")
}
