//! The mark `.bluegreen/public`: whether this side is public, as recorded by the last promotion.

use super::{LockedSite, Site};
use crate::error::{Error, Result};
pub use bluegreen_protocol::status::PublicMark;

const PUBLIC: &str = "public";

impl Site {
    /// Reads the mark; `None` before the first promotion. An unreadable mark is an error, because the side may be public.
    pub fn public_mark(&self) -> Result<Option<PublicMark>> {
        let Some(text) = self.read_state(PUBLIC)? else { return Ok(None) };
        let failed = Error::io("read", self.state_path().join(PUBLIC));
        serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into()))
    }
}

impl LockedSite {
    /// Writes the mark. An unchanged mark keeps its time. A damaged mark is replaced.
    pub fn mark_public(&self, public: bool, now: &str) -> Result<()> {
        if self.public_mark().is_ok_and(|mark| mark.is_some_and(|mark| mark.public == public)) {
            return Ok(());
        }
        if !public {
            self.begin_settling()?;
        }
        let mark = PublicMark { public, since: now.to_owned() };
        let text = serde_json::to_vec(&mark)
            .map_err(|error| Error::io("write", self.state_path().join(PUBLIC))(error.into()))?;
        self.write_state(PUBLIC, &text)
    }
}
