//! The journal of a publication, `.bluegreen/publishing`: what has begun and must not stay half done.
//!
//! It is written before the branch moves and `current` flips, and removed once services run and the site is
//! verified. Whoever takes the lock after a crash finds it, and ends what it names.

use bluegreen_object_store::ObjectId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::release::{ReleaseName, previous};
use crate::site::{LockedSite, Site};
use bluegreen_git::push::RefUpdate;

const FILE: &str = "publishing";

/// A publication that has begun.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    release: String,
    /// The release that was live before.
    previous: Option<String>,
    /// True if the release was made for this, and goes if it never becomes live.
    pub is_new: bool,
    /// Ref, old and new id.
    push: Option<(String, ObjectId, ObjectId)>,
    /// The number of runs that began to end it, this one included.
    #[serde(default)]
    pub attempts: u8,
}

impl Entry {
    /// The entry for a release that is to become live instead of `previous`, together with a move of a ref.
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

    /// The release that is to become live.
    #[must_use]
    pub fn release(&self) -> Option<ReleaseName> {
        self.release.parse().ok()
    }

    /// The release that was live before.
    #[must_use]
    pub fn previous(&self) -> Option<ReleaseName> {
        self.previous.as_ref()?.parse().ok()
    }

    /// The move of the ref.
    #[must_use]
    pub fn push(&self) -> Option<RefUpdate> {
        let (name, old, new) = self.push.as_ref()?;
        Some(RefUpdate { old: *old, new: *new, name: name.clone().into_bytes() })
    }
}

/// Records that a publication begins, or that its end does.
pub fn write(site: &LockedSite, entry: &Entry) -> Result<()> {
    let text = serde_json::to_vec(entry)
        .map_err(|error| Error::io("write", site.state_path().join(FILE))(error.into()))?;
    site.write_state(FILE, &text)
}

/// Records that nothing is left to do.
pub fn finish(site: &LockedSite) -> Result<()> {
    site.state_file(FILE).remove()
}

/// The release whose publication has begun. Without the lock it may end at any moment.
pub fn peek(site: &Site) -> Result<Option<ReleaseName>> {
    let entry = site.read_state(FILE)?.and_then(|text| serde_json::from_slice::<Entry>(&text).ok());
    Ok(entry.and_then(|entry| entry.release()))
}

/// Reads the publication that a crash interrupted, if there is one. An entry that cannot be parsed may have been about the
/// release that is live now. So that one is restarted and verified again.
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
