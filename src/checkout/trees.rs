//! Reads the tree objects of a commit before the release is planned, in all threads.
//!
//! A tree that is not found here or is damaged is left to the planner, which reads it by itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use super::tree;
use bluegreen_sys::parallel::for_each_found;

/// The most bytes of trees that are read in advance, and one tree a thread more.
const MAX_AHEAD: usize = 32 << 20;

/// The trees that were found, by id.
#[derive(Debug, Default)]
pub struct Trees {
    /// A tree that is not read yet, or cannot be read, is empty.
    found: HashMap<Vec<u8>, Arc<Vec<u8>>>,
    /// The bytes of all of them.
    held: usize,
}

impl Trees {
    /// Reads the tree `root`, whose id has `id_len` bytes, and all trees below it: each thread starts a reader, and `read`
    /// reads one tree.
    pub fn read<R>(
        root: &[u8],
        id_len: usize,
        threads: usize,
        start: impl Fn() -> R + Sync,
        read: impl Fn(&mut R, &[u8]) -> Option<Arc<Vec<u8>>> + Sync,
    ) -> Self {
        let trees = Mutex::new(Self::default());
        let work = |reader: &mut R, id: Vec<u8>| {
            let data = read(reader, &id).unwrap_or_default();
            let below: Vec<&[u8]> = tree::directories(&data, id_len).collect();
            let mut trees = trees.lock().unwrap_or_else(PoisonError::into_inner);
            trees.held += data.len();
            trees.found.insert(id, Arc::clone(&data));
            if trees.held > MAX_AHEAD {
                return Vec::new();
            }
            // Those that come first in the tree mostly come first in the pack, and the last one here is read next.
            let new = below.iter().rev().filter_map(|id| match trees.found.entry(id.to_vec()) {
                Entry::Occupied(_) => None,
                Entry::Vacant(vacant) => {
                    vacant.insert(Arc::default());
                    Some(id.to_vec())
                }
            });
            new.collect()
        };
        for_each_found(threads, vec![root.to_vec()], start, work);
        trees.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the raw tree object with this id.
    #[must_use]
    pub fn get(&self, id: &[u8]) -> Option<&[u8]> {
        self.found.get(id).map(|tree| tree.as_slice()).filter(|tree| !tree.is_empty())
    }
}
