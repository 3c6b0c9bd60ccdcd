//! Reads the tree objects of a commit before the release is planned: level by level, in all threads.
//!
//! A tree that is not found here or is damaged is left to the planner, which reads it by itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::parallel::{PIECE, for_each_piece};
use super::tree::{self, Kind};
use crate::error::Result;

/// The most bytes of trees that are read in advance, and one tree a thread more.
const MAX_AHEAD: usize = 32 << 20;

/// The trees that were found, by id.
#[derive(Debug, Default)]
pub struct Trees {
    found: HashMap<Vec<u8>, Vec<u8>>,
}

/// A tree that is being read.
struct PendingTree {
    id: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The ids of the trees in it.
    below: Vec<Vec<u8>>,
}

impl Trees {
    /// Reads the tree `root`, whose id has `id_len` bytes, and all trees below it: each thread starts a reader, and `read`
    /// reads one tree.
    pub fn read<R>(
        root: &[u8],
        id_len: usize,
        threads: usize,
        start: impl Fn() -> R + Sync,
        read: impl Fn(&mut R, &[u8]) -> Option<Vec<u8>> + Sync,
    ) -> Result<Self> {
        let mut trees = Self::default();
        let mut level: Vec<Vec<u8>> = vec![root.to_vec()];
        let held = AtomicUsize::new(0);
        while !level.is_empty() {
            // In the order of ids one read of an index serves several of them.
            level.sort_unstable();
            level.dedup();
            let unread = |id| PendingTree { id, data: None, below: Vec::new() };
            let mut pending: Vec<_> = level.drain(..).map(unread).collect();
            let work = |reader: &mut R, _, piece: &mut [PendingTree]| {
                for tree in piece {
                    if held.load(Ordering::Relaxed) < MAX_AHEAD {
                        tree.data = read(reader, &tree.id);
                        tree.find_trees(id_len);
                        held.fetch_add(tree.data.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
                    }
                }
                Ok(())
            };
            for_each_piece(threads, PIECE, &mut pending, || Ok(start()), work, || Ok(()))?;
            for PendingTree { id, data, below } in pending {
                let Some(data) = data else { continue };
                level.extend(below);
                trees.found.insert(id, data);
            }
            level.retain(|id| !trees.found.contains_key(id));
        }
        Ok(trees)
    }

    /// Gives the raw tree object with this id.
    #[must_use]
    pub fn get(&self, id: &[u8]) -> Option<&[u8]> {
        self.found.get(id).map(Vec::as_slice)
    }
}

impl PendingTree {
    fn find_trees(&mut self, id_len: usize) {
        // The planner says what is wrong with a tree that cannot be parsed.
        let entries = tree::parse(self.data.as_deref().unwrap_or_default(), id_len).unwrap_or_default();
        let trees = entries.iter().filter(|entry| entry.kind == Kind::Directory);
        self.below = trees.map(|tree| tree.id.to_vec()).collect();
    }
}
