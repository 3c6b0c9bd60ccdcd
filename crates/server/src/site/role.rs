//! The role of a server's side, `.bluegreen/role`: whether `enter` or `leave` of `[public]` ran last. The file is also the
//! journal of that change: it is written before the first step, and again after the last one.
//!
//! An interrupted change, of either kind, is undone by `leave`: another side may be running the jobs by then, and a gap
//! without jobs is better than running them twice.

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
    /// True if the server runs the jobs of the public side.
    pub public: bool,
    /// False while the steps run, and after they crash or fail.
    pub complete: bool,
    /// The number of recoveries that tried to leave the role and did not finish.
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

    /// Returns whether the jobs of the public side may run here. Before the first promotion, they run on both sides. If the
    /// role cannot be read, they do not run.
    #[must_use]
    pub fn may_run_jobs(&self) -> bool {
        match (self.role(), self.public_mark()) {
            (Ok(Some(role)), _) => role.public && role.complete,
            (Ok(None), Ok(mark)) => mark.is_none_or(|mark| mark.public),
            _ => false,
        }
    }

    /// Returns whether a release must stay because visitors had it until recently. If that cannot be read, every release
    /// stays.
    #[must_use]
    pub fn is_settling(&self, release: &ReleaseName, settle: Duration) -> bool {
        if settle.is_zero() {
            return false;
        }
        let Ok(text) = self.read_state(SETTLING) else { return true };
        // The file is replaced atomically, so an unparsable one is not ours.
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

    /// Removes the role, because nothing depends on it any longer.
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
