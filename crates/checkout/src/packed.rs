//! The packed blobs of a release, by entry of its listing.

use bluegreen_object_store::{BlobIndex, ObjectId, ObjectStore, PackedBlobs};

use super::index_vec::EntryIndex;
use super::listing::Listing;

/// The blobs that a checkout writes and that packs contain.
#[derive(Debug)]
pub struct PackedEntries {
    pub blobs: PackedBlobs,
    /// The entries whose blobs were requested, in ascending order.
    entries: Vec<EntryIndex>,
}

impl PackedEntries {
    /// Finds the packed blobs of these entries, which are in ascending order.
    pub fn find(objects: &ObjectStore, listing: &Listing, entries: Vec<EntryIndex>, threads: usize) -> Self {
        let ids: Vec<ObjectId> = entries.iter().map(|&entry| listing.id(entry)).collect();
        Self { blobs: objects.find_blobs(&ids, threads), entries }
    }

    /// Returns the entries whose blobs were requested.
    pub fn entries(&self) -> &[EntryIndex] {
        &self.entries
    }

    /// Returns the entry of a requested blob.
    pub fn entry(&self, blob: BlobIndex) -> EntryIndex {
        self.entries[blob.position()]
    }

    /// Returns whether decoding the subtrees yields the blob of an entry.
    pub fn is_in_delta_tree(&self, entry: EntryIndex) -> bool {
        self.entries.binary_search(&entry).is_ok_and(|position| self.blobs.is_in_delta_tree(position))
    }
}
