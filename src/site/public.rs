//! The mark `.bluegreen/public`: whether this side is public, as the last promotion recorded it.

use super::{LockedSite, Site};
use crate::error::{Error, Result};
pub use crate::protocol::status::PublicMark;

const PUBLIC: &str = "public";

impl Site {
    /// Reads the mark; `None` before the first promotion.
    #[must_use]
    pub fn public_mark(&self) -> Option<PublicMark> {
        serde_json::from_slice(&self.read_state(PUBLIC).ok()??).ok()
    }
}

impl LockedSite {
    /// Writes the mark. If nothing changes, the old mark stays, with its time.
    pub fn mark_public(&self, public: bool, now: &str) -> Result<()> {
        if self.public_mark().is_some_and(|mark| mark.public == public) {
            return Ok(());
        }
        let mark = PublicMark { public, since: now.to_owned() };
        let text = serde_json::to_vec(&mark)
            .map_err(|error| Error::io("write", self.state_path().join(PUBLIC))(error.into()))?;
        self.write_state(PUBLIC, &text)
    }
}
