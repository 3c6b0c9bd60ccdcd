//! The paths of a site, for messages and for reading. Changes use descriptors and the names below.

use std::path::{Path, PathBuf};

use super::Site;
use crate::release::ReleaseName;

pub(super) const CURRENT: &[u8] = b"current";
/// The new `current`, until it is renamed.
pub(super) const NEXT: &[u8] = b".current.next";
pub(super) const RELEASES: &[u8] = b"releases";
pub(super) const STATE: &[u8] = b".bluegreen";
pub(super) const SHARED: &[u8] = b"shared";
/// The prefix of every temporary name; a sweep removes what has it.
pub const INCOMING: &str = ".incoming-";

impl Site {
    /// The site itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The link to the live release.
    #[must_use]
    pub fn current_path(&self) -> PathBuf {
        self.root.join("current")
    }

    /// The directory of all releases, and of temporary directories, which a sweep removes after a crash.
    #[must_use]
    pub fn releases_path(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// A release.
    #[must_use]
    pub fn release_path(&self, name: &ReleaseName) -> PathBuf {
        self.releases_path().join(name.to_string())
    }

    /// The directory of everything that outlives releases.
    #[must_use]
    pub fn shared_path(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// The program's own directory.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        self.root.join(".bluegreen")
    }

    /// The directory of the records and manifests.
    #[must_use]
    pub fn records_path(&self) -> PathBuf {
        self.state_path().join("releases")
    }

    /// The history.
    #[must_use]
    pub fn history_path(&self) -> PathBuf {
        self.state_path().join("history.jsonl")
    }

    /// The log of notices.
    #[must_use]
    pub fn notices_path(&self) -> PathBuf {
        self.state_path().join("notify.log")
    }

    /// The lock.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.state_path().join("lock")
    }

    /// The directory of all logs.
    #[must_use]
    pub fn logs_path(&self) -> PathBuf {
        self.state_path().join("logs")
    }

    /// The log of a release.
    #[must_use]
    pub fn log_path(&self, name: &ReleaseName) -> PathBuf {
        self.logs_path().join(log_name(name))
    }
}

pub(super) fn log_name(release: &ReleaseName) -> String {
    format!("{release}.log")
}
