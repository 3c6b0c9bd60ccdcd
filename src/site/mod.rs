//! The site on the disk: what is live, which releases there are, and every change to them.
//!
//! Looking needs a [`Site`]; changing needs a [`LockedSite`], of which there is one at a time on the
//! whole machine. Nothing here has to be undone by clean-up code: a release is filled under a name
//! that is never live, becomes a release by a rename, and becomes live by another one.

pub mod history;
pub mod holder;
mod lock;
mod locked;
pub mod logs;
mod staged;

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

pub use self::lock::Holder;
pub use self::locked::LockedSite;
pub use self::staged::{Recycled, Staged};
use crate::config::SiteConfig;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::git::id::CommitId;
use crate::release::{Record, Release, ReleaseName};

const CURRENT: &[u8] = b"current";
/// The next `current`, for the moment between its making and the rename.
const NEXT: &[u8] = b".current.next";
const RELEASES: &[u8] = b"releases";
const STATE: &[u8] = b".bluegreen";
const SHARED: &[u8] = b"shared";
const INCOMING: &str = ".incoming-";

/// A site whose directory exists.
#[derive(Debug)]
pub struct Site {
    root: PathBuf,
    dir: Dir,
    durable: bool,
}

/// What `current` leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// There is no `current`.
    Nothing,
    /// A release.
    Release(ReleaseName),
    /// A release that is gone.
    Gone(ReleaseName),
    /// Something that is no release: an admin's own link.
    Elsewhere(PathBuf),
}

impl Live {
    /// The live release.
    #[must_use]
    pub fn release(&self) -> Option<&ReleaseName> {
        if let Self::Release(name) = self { Some(name) } else { None }
    }
}

impl Site {
    /// Opens the site that a config names.
    pub fn open(config: &SiteConfig) -> Result<Self> {
        let root = config.root.clone();
        match Dir::open(&root) {
            Ok(dir) => Ok(Self { root, dir, durable: config.durable }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::NoSite(root)),
            Err(error) => Err(Error::io("open", root)(error)),
        }
    }

    /// Its directory's path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a release.
    #[must_use]
    pub fn release_path(&self, name: &ReleaseName) -> PathBuf {
        self.root.join("releases").join(name.to_string())
    }

    /// Where a temporary directory is on the file system of the releases, and is swept after a crash.
    #[must_use]
    pub fn scratch_path(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// The path of the history.
    #[must_use]
    pub fn history_path(&self) -> PathBuf {
        self.state_path().join("history.jsonl")
    }

    /// The path of the lock.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.state_path().join("lock")
    }

    fn state_path(&self) -> PathBuf {
        self.root.join(".bluegreen")
    }

    /// What is live. A `current` that no rename can replace is an error.
    pub fn live(&self) -> Result<Live> {
        let path = self.root.join("current");
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
        let relative = target.strip_prefix(&self.root).unwrap_or(&target);
        let name = relative
            .strip_prefix("releases")
            .ok()
            .and_then(|name| ReleaseName::from_bytes(name.as_os_str().as_bytes()));
        match name {
            Some(name) if self.release_path(&name).is_dir() => Ok(Live::Release(name)),
            Some(name) => Ok(Live::Gone(name)),
            None => Ok(Live::Elsewhere(target)),
        }
    }

    /// All releases, oldest first. Other names in `releases/` are nobody's business.
    pub fn releases(&self) -> Result<Vec<Release>> {
        let path = self.root.join("releases");
        let names = match self.dir.open_dir(RELEASES).and_then(|dir| dir.names()) {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let mut releases: Vec<Release> = names
            .iter()
            .filter(|(_, kind)| matches!(kind, FileType::Directory | FileType::Unknown))
            .filter_map(|(name, _)| ReleaseName::from_bytes(name))
            .map(|name| Release { record: self.record(&name), name })
            .collect();
        releases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(releases)
    }

    /// A release by its name.
    pub fn release(&self, name: &ReleaseName) -> Result<Release> {
        if self.release_path(name).is_dir() {
            Ok(Release { name: name.clone(), record: self.record(name) })
        } else {
            Err(Error::NoRelease(name.to_string()))
        }
    }

    /// The live commit, where it is known.
    #[must_use]
    pub fn commit(&self, live: &Live) -> Option<CommitId> {
        Some(self.record(live.release()?)?.commit)
    }

    /// Whether what is live is a release that did not fail its verification.
    #[must_use]
    pub fn is_good(&self, live: &Live) -> bool {
        live.release().and_then(|name| self.release(name).ok()).is_some_and(|release| release.is_good())
    }

    fn record(&self, name: &ReleaseName) -> Option<Record> {
        let path = self.state_path().join("releases").join(format!("{name}.toml"));
        toml::from_str(&std::fs::read_to_string(path).ok()?).ok()
    }
}
