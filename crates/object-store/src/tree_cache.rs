//! Reads the tree objects of a commit in advance, in parallel.
//!
//! A tree that is missing or damaged is not cached. The code that needs it reads it again and reports the error.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use bluegreen_sys::parallel::for_each_found;

use crate::tree;
use bluegreen_git_types::ObjectId;

/// The size at which the cache stops growing, in bytes. Each thread may exceed it by one tree.
const MAX_BYTES: usize = 32 << 20;

/// Tree objects by id.
#[derive(Debug, Default)]
pub(crate) struct TreeCache {
    /// A tree that is not read yet, or cannot be read, is empty.
    trees: HashMap<ObjectId, Arc<Vec<u8>>>,
    /// The size of all trees, in bytes.
    bytes: usize,
}

impl TreeCache {
    /// Reads the tree `root` and all trees below it. `start` creates the reader of a thread, and `read` reads one tree.
    pub(crate) fn read<R>(
        root: ObjectId,
        threads: usize,
        start: impl Fn() -> R + Sync,
        read: impl Fn(&mut R, ObjectId) -> Option<Arc<Vec<u8>>> + Sync,
    ) -> Self {
        let cache = Mutex::new(Self::default());
        let work = |reader: &mut R, id: ObjectId| {
            let data = read(reader, id).unwrap_or_default();
            let subtrees: Vec<ObjectId> = tree::subtrees(&data, root.format()).collect();
            let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.bytes += data.len();
            cache.trees.insert(id, data);
            if cache.bytes > MAX_BYTES {
                return Vec::new();
            }
            // The last item is read next. The first subtrees of a tree mostly come first in the pack.
            let new = subtrees.into_iter().rev().filter(|&id| match cache.trees.entry(id) {
                Entry::Occupied(_) => false,
                Entry::Vacant(vacant) => {
                    vacant.insert(Arc::default());
                    true
                }
            });
            new.collect()
        };
        for_each_found(threads, vec![root], start, work);
        cache.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: ObjectId) -> Option<&[u8]> {
        self.trees.get(&id).map(|tree| tree.as_slice()).filter(|tree| !tree.is_empty())
    }
}
