//! Reads the tree objects of a commit from the packs before the release is planned: level by level, in all threads.
//!
//! A tree that is not found here or is damaged is left to the planner, which reads it by itself.

use std::collections::HashMap;

use git2::ObjectType;

use super::pack::Packs;
use super::pack_object::PackReader;
use super::parallel::{PIECE, for_each_piece};
use super::tree::{self, Kind};
use crate::error::Result;

/// The most bytes of trees that are read in advance.
const MAX_AHEAD: usize = 32 << 20;

/// The most bytes of a tree, and of all deltas of its chain together.
const MAX_TREE: u64 = 4 << 20;

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
    /// Reads the tree `root`, whose id has `id_len` bytes, and all trees below it.
    pub fn read(packs: &Packs, root: &[u8], id_len: usize, threads: usize) -> Result<Self> {
        let mut trees = Self::default();
        let mut level: Vec<Vec<u8>> = vec![root.to_vec()];
        let mut read = 0;
        while !level.is_empty() && read < MAX_AHEAD {
            // In the order of ids one read of an index serves several of them.
            level.sort_unstable();
            level.dedup();
            let unread = |id| PendingTree { id, data: None, below: Vec::new() };
            let mut pending: Vec<_> = level.drain(..).map(unread).collect();
            let work = |reader: &mut PackReader, _, piece: &mut [PendingTree]| {
                for tree in piece {
                    tree.read(packs, reader, id_len);
                }
                Ok(())
            };
            for_each_piece(threads, PIECE, &mut pending, || Ok(PackReader::default()), work, || Ok(()))?;
            for PendingTree { id, data, below } in pending {
                let Some(data) = data else { continue };
                read += data.len();
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
    fn read(&mut self, packs: &Packs, reader: &mut PackReader, id_len: usize) {
        let location = reader.find(packs, &self.id);
        let read = location.and_then(|location| reader.read(packs, location, MAX_TREE));
        let Some((ObjectType::Tree, data)) = read else { return };
        // The planner says what is wrong with a tree that cannot be parsed.
        let entries = tree::parse(&data, id_len).unwrap_or_default();
        let trees = entries.iter().filter(|entry| entry.kind == Kind::Directory);
        self.below = trees.map(|tree| tree.id.to_vec()).collect();
        self.data = Some(data.to_vec());
    }
}
