//! The role of a server's side, `.bluegreen/role`: whether `enter` or `leave` of `[public]` ran last. It is also the
//! journal of that change: it is written before the first step, and again after the last one.
//!
//! A change that was interrupted is undone by `leave`, whatever it was: another side may run the jobs by now, and no jobs
//! are better than two sets of them.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Live, LockedSite, Site};
use crate::error::{Error, Result};
use crate::release::ReleaseName;
use bluegreen_text::timestamp;

const ROLE: &str = "role";
const SETTLING: &str = "settling";

/// The role of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// True if it runs what only the public side runs.
    pub public: bool,
    /// False while the steps run, and after a crash or a failure in them.
    pub complete: bool,
    /// The number of times that a recovery began to leave the role, and none of them finished.
    #[serde(default)]
    pub attempts: u8,
}

/// The release that visitors had until the side stopped being public.
#[derive(Debug, Serialize, Deserialize)]
struct Settling {
    release: String,
    since: String,
}

impl Site {
    /// Reads the role; `None` before the first promotion that changed it.
    pub fn role(&self) -> Result<Option<Role>> {
        let Some(text) = self.read_state(ROLE)? else { return Ok(None) };
        let failed = Error::io("read", self.state_path().join(ROLE));
        serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into()))
    }

    /// Returns whether this side is public, for steps: "yes", "no", or "unknown". The role is known earlier than the
    /// mark.
    #[must_use]
    pub fn public_word(&self) -> &'static str {
        let word = |public| if public { "yes" } else { "no" };
        match (self.role(), self.public_mark()) {
            (Ok(Some(Role { public, complete: true, .. })), _) => word(public),
            (Ok(None), Ok(Some(mark))) => word(mark.public),
            _ => "unknown",
        }
    }

    /// Returns whether what only the public side runs may run here. Before the first promotion it runs on both sides. It
    /// does not run if that cannot be read.
    #[must_use]
    pub fn may_run_jobs(&self) -> bool {
        match (self.role(), self.public_mark()) {
            (Ok(Some(role)), _) => role.public && role.complete,
            (Ok(None), Ok(mark)) => mark.is_none_or(|mark| mark.public),
            _ => false,
        }
    }

    /// Returns whether visitors had a release until a short time ago, so that it must stay as it is. If that cannot be
    /// read, every release stays.
    #[must_use]
    pub fn is_settling(&self, release: &ReleaseName, settle: Duration) -> bool {
        if settle.is_zero() {
            return false;
        }
        let Ok(text) = self.read_state(SETTLING) else { return true };
        // A file that cannot be parsed is not ours: it is written whole or not at all.
        let settling = text.and_then(|text| serde_json::from_slice::<Settling>(&text).ok());
        settling.is_some_and(|settling| {
            let since = humantime::parse_rfc3339(&settling.since).ok();
            // A clock that was set back must not keep a release forever.
            let age = since.map(|since| SystemTime::now().duration_since(since).unwrap_or_default());
            settling.release == release.to_string() && age.is_some_and(|age| age <= settle)
        })
    }
}

impl LockedSite {
    /// Writes the role.
    pub fn write_role(&self, role: &Role) -> Result<()> {
        let text = serde_json::to_vec(role)
            .map_err(|error| Error::io("write", self.state_path().join(ROLE))(error.into()))?;
        self.write_state(ROLE, &text)
    }

    /// Forgets the role, because nothing depends on it any more.
    pub fn forget_role(&self) -> Result<()> {
        self.state_file(ROLE).remove()
    }

    /// Records that visitors had the live release until now.
    pub fn begin_settling(&self) -> Result<()> {
        let Live::Release(release) = self.live()? else { return Ok(()) };
        let settling = Settling { release: release.to_string(), since: timestamp(SystemTime::now()) };
        let text = serde_json::to_vec(&settling)
            .map_err(|error| Error::io("write", self.state_path().join(SETTLING))(error.into()))?;
        self.write_state(SETTLING, &text)
    }
}
