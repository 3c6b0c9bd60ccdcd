//! The files of a release that were converted, as its manifest has them.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::listing::NONE;

/// The entries that git wrote instead of us, and the reasons for it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Converted {
    /// All that decided how. Where it is the same, a file of the same id is converted the same way.
    pub circumstances: ByteBuf,
    /// The entries, in order.
    pub entries: Vec<u32>,
    /// Files of Git LFS that are pointers for want of their content, in order.
    pub pointers: Vec<u32>,
}

impl Converted {
    /// Returns whether an entry is converted.
    #[must_use]
    pub fn contains(&self, entry: u32) -> bool {
        self.entries.binary_search(&entry).is_ok()
    }

    /// Returns whether an entry is a pointer of Git LFS without its content.
    #[must_use]
    pub fn is_pointer(&self, entry: u32) -> bool {
        self.pointers.binary_search(&entry).is_ok()
    }

    /// Adds what an `old` conversion under the same circumstances has done. `same_in_old` gives for each
    /// entry the same one there, or [`NONE`].
    pub fn keep(&mut self, same_in_old: &[u32], old: &Self) {
        let kept = (0_u32..).zip(same_in_old).filter(|(_, same)| **same != NONE && old.contains(**same));
        self.entries.extend(kept.map(|(entry, _)| entry));
        self.entries.sort_unstable();
        self.entries.dedup();
    }
}
