//! The paths of a site, for messages and for reading. Changes use directory descriptors and the names below.

use std::path::{Path, PathBuf};

use super::Site;
use crate::release::ReleaseName;

pub(super) const CURRENT: &[u8] = b"current";
/// The new `current` before the rename.
pub(super) const NEXT: &[u8] = b".current.next";
pub(super) const RELEASES: &[u8] = b"releases";
pub(super) const STATE: &[u8] = b".bluegreen";
pub(super) const SHARED: &[u8] = b"shared";
/// The prefix of temporary names, which a sweep removes.
pub const INCOMING: &str = ".incoming-";

impl Site {
    /// Returns the site's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of the symlink to the live release.
    #[must_use]
    pub fn current_path(&self) -> PathBuf {
        self.root.join("current")
    }

    /// Returns the directory of releases and temporary directories.
    #[must_use]
    pub fn releases_path(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// Returns the path of a release.
    #[must_use]
    pub fn release_path(&self, name: &ReleaseName) -> PathBuf {
        self.releases_path().join(name.to_string())
    }

    /// Returns the directory of data that outlives releases.
    #[must_use]
    pub fn shared_path(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// Returns the directory of this program's own files.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        self.root.join(".bluegreen")
    }

    /// Returns the directory of records and manifests.
    #[must_use]
    pub fn records_path(&self) -> PathBuf {
        self.state_path().join("releases")
    }

    /// Returns the path of the history.
    #[must_use]
    pub fn history_path(&self) -> PathBuf {
        self.state_path().join("history.jsonl")
    }

    /// Returns the path of the log of `[notify]`.
    #[must_use]
    pub fn notices_path(&self) -> PathBuf {
        self.state_path().join("notify.log")
    }

    /// Returns the path of the lock file.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.state_path().join("lock")
    }

    /// Returns the directory of logs.
    #[must_use]
    pub fn logs_path(&self) -> PathBuf {
        self.state_path().join("logs")
    }

    /// Returns the path of a release's log.
    #[must_use]
    pub fn log_path(&self, name: &ReleaseName) -> PathBuf {
        self.logs_path().join(log_name(name))
    }
}

pub(super) fn log_name(release: &ReleaseName) -> String {
    format!("{release}.log")
}
