//! The journal of an activation, `.bluegreen/publishing`.
//!
//! It is written before the branch moves and `current` is replaced, and removed once the services run and the site is
//! verified. After a crash, the next holder of the lock reads it and completes the activation.

use bluegreen_object_store::ObjectId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::release::{ReleaseName, previous};
use crate::site::{LockedSite, Site};
use bluegreen_git::push::RefUpdate;

const FILE: &str = "publishing";

/// An activation in progress.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    release: String,
    /// The release that was live before.
    previous: Option<String>,
    /// True if the release is new, and is removed if it never becomes live.
    pub is_new: bool,
    /// The ref, its old id, and its new id.
    push: Option<(String, ObjectId, ObjectId)>,
    /// The number of runs that tried to complete it, including this one.
    #[serde(default)]
    pub attempts: u8,
}

impl Entry {
    /// Creates the entry for a release that replaces `previous`, optionally together with a ref update.
    #[must_use]
    pub fn new(
        release: &ReleaseName,
        previous: Option<&ReleaseName>,
        is_new: bool,
        push: Option<&RefUpdate>,
    ) -> Self {
        let push = push.map(|push| {
            let name = String::from_utf8_lossy(&push.name).into_owned();
            (name, push.old, push.new)
        });
        Self {
            release: release.to_string(),
            previous: previous.map(ToString::to_string),
            is_new,
            push,
            attempts: 0,
        }
    }

    /// Returns the release to activate.
    #[must_use]
    pub fn release(&self) -> Option<ReleaseName> {
        self.release.parse().ok()
    }

    /// Returns the release that was live before.
    #[must_use]
    pub fn previous(&self) -> Option<ReleaseName> {
        self.previous.as_ref()?.parse().ok()
    }

    /// Returns the ref update.
    #[must_use]
    pub fn push(&self) -> Option<RefUpdate> {
        let (name, old, new) = self.push.as_ref()?;
        Some(RefUpdate { old: *old, new: *new, name: name.clone().into_bytes() })
    }
}

/// Records that an activation begins, or that its recovery does.
pub fn write(site: &LockedSite, entry: &Entry) -> Result<()> {
    let text = serde_json::to_vec(entry)
        .map_err(|error| Error::io("write", site.state_path().join(FILE))(error.into()))?;
    site.write_state(FILE, &text)
}

/// Records that the activation is complete.
pub fn finish(site: &LockedSite) -> Result<()> {
    site.state_file(FILE).remove()
}

/// Returns the release whose activation is in progress. Without the lock, it may complete at any moment.
pub fn peek(site: &Site) -> Result<Option<ReleaseName>> {
    let entry = site.read_state(FILE)?.and_then(|text| serde_json::from_slice::<Entry>(&text).ok());
    Ok(entry.and_then(|entry| entry.release()))
}

/// Reads the activation that a crash interrupted, if any. An unparsable entry may concern the live release, so that one
/// is restarted and verified again.
pub fn read(site: &LockedSite) -> Result<Option<Entry>> {
    let Some(text) = site.state_file(FILE).read()? else { return Ok(None) };
    let parsed = serde_json::from_slice(&text).ok().filter(|entry: &Entry| entry.release().is_some());
    if parsed.is_some() {
        return Ok(parsed);
    }
    log::warn!("`{FILE}` is damaged");
    let Some(live) = site.live()?.release().cloned() else { return finish(site).map(|()| None) };
    let releases = site.releases()?;
    let older = previous(&releases, Some(&live)).map(|release| &release.name);
    Ok(Some(Entry::new(&live, older, true, None)))
}
