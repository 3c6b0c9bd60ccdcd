//! The file `.bluegreen/freeze`: an operator's lock with a reason.

use std::time::SystemTime;

use super::{LockedSite, Site};
use crate::error::{Error, Result};
use bluegreen_protocol::freeze::Freeze;
use bluegreen_text::message;

const FREEZE: &str = "freeze";

impl Site {
    /// Reads the lock; `None` if there is none, or if it has expired. An unreadable file is an error, because the server may be
    /// locked.
    pub fn freeze(&self) -> Result<Option<Freeze>> {
        let Some(text) = self.read_state(FREEZE)? else { return Ok(None) };
        let freeze: Freeze = serde_json::from_slice(&text).map_err(|error| Error::DamagedFreeze {
            path: self.state_path().join(FREEZE),
            problem: message(&error),
        })?;
        Ok((!freeze.is_over(SystemTime::now())).then_some(freeze))
    }
}

impl LockedSite {
    /// Writes the lock, replacing an old one.
    pub fn set_freeze(&self, freeze: &Freeze) -> Result<()> {
        let text = serde_json::to_vec(freeze)
            .map_err(|error| Error::io("write", self.state_path().join(FREEZE))(error.into()))?;
        self.write_state(FREEZE, &text)
    }

    /// Removes the lock, even a damaged one.
    pub fn remove_freeze(&self) -> Result<()> {
        self.state_file(FREEZE).remove()
    }
}
