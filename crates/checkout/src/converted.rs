//! The list of converted files in a release's manifest.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::index_vec::{EntryIndex, IndexVec};

/// The entries that git converted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Converted {
    /// The attributes and settings that applied. If they are equal, equal blobs are converted equally.
    pub fingerprint: ByteBuf,
    /// The entries, in order.
    pub entries: Vec<EntryIndex>,
    /// The Git LFS pointers that were deployed because their content is missing, in order.
    pub pointers: Vec<EntryIndex>,
}

impl Converted {
    /// Returns whether an entry is converted.
    #[must_use]
    pub fn contains(&self, entry: EntryIndex) -> bool {
        self.entries.binary_search(&entry).is_ok()
    }

    /// Returns whether an entry is one of the [pointers](Self::pointers).
    #[must_use]
    pub fn is_pointer(&self, entry: EntryIndex) -> bool {
        self.pointers.binary_search(&entry).is_ok()
    }

    /// Adds the entries that an `old` conversion with the same fingerprint converted. `same_in_old` contains, for each entry, the
    /// equal entry in the old release, if any.
    pub fn keep(&mut self, same_in_old: &IndexVec<EntryIndex, Option<EntryIndex>>, old: &Self) {
        let is_kept = |same: &Option<EntryIndex>| same.is_some_and(|same| old.contains(same));
        let kept = same_in_old.iter_enumerated().filter(|(_, same)| is_kept(same));
        self.entries.extend(kept.map(|(entry, _)| entry));
        self.entries.sort_unstable();
        self.entries.dedup();
    }
}
