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

    /// Returns the entries whose blobs were requested, with the sizes of those that are in packs.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = (EntryIndex, Option<u64>)> {
        let size = |position| self.blobs.size(BlobIndex::new(position));
        self.entries.iter().enumerate().map(move |(position, entry)| (*entry, size(position)))
    }

    /// Returns the entry of a requested blob.
    pub fn entry(&self, blob: BlobIndex) -> EntryIndex {
        self.entries[blob.position()]
    }

    /// Returns whether decoding the subtrees yields the blob of an entry.
    pub fn is_in_delta_tree(&self, entry: EntryIndex) -> bool {
        let position = self.entries.binary_search(&entry);
        position.is_ok_and(|position| self.blobs.is_in_delta_tree(BlobIndex::new(position)))
    }
}
