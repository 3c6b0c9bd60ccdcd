//! The list of converted files in a release's manifest.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::listing::NONE;

/// The entries that git converted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Converted {
    /// The attributes and settings that applied. If they are equal, equal blobs are converted equally.
    pub fingerprint: ByteBuf,
    /// The entries, in order.
    pub entries: Vec<u32>,
    /// The Git LFS pointers that were deployed because their content is missing, in order.
    pub pointers: Vec<u32>,
}

impl Converted {
    /// Returns whether an entry is converted.
    #[must_use]
    pub fn contains(&self, entry: u32) -> bool {
        self.entries.binary_search(&entry).is_ok()
    }

    /// Returns whether an entry is one of the [pointers](Self::pointers).
    #[must_use]
    pub fn is_pointer(&self, entry: u32) -> bool {
        self.pointers.binary_search(&entry).is_ok()
    }

    /// Adds the entries that an `old` conversion with the same fingerprint converted. `same_in_old` contains, for each entry, the
    /// equal entry in the old release, or [`NONE`].
    pub fn keep(&mut self, same_in_old: &[u32], old: &Self) {
        let kept = (0_u32..).zip(same_in_old).filter(|(_, same)| **same != NONE && old.contains(**same));
        self.entries.extend(kept.map(|(entry, _)| entry));
        self.entries.sort_unstable();
        self.entries.dedup();
    }
}
