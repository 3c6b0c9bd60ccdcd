//! Reads the tree objects of a commit from the packs before the release is planned: level by level, in all threads.
//!
//! A tree that is not found here or is damaged is left to the planner, which reads it from the object database.

use std::collections::HashMap;
use std::rc::Rc;

use super::delta;
use super::pack::{Buffers, Location, ObjectType, Packs};
use super::parallel::{PIECE, for_each_piece};
use super::tree::{self, Kind};
use crate::error::Result;

/// The most bytes of trees that are read ahead, and the most that a thread keeps of their bases.
const MAX_AHEAD: usize = 32 << 20;
const MAX_BASES: usize = 8 << 20;

/// The length of the longest delta chain: git's own limit on `pack.depth`.
const MAX_CHAIN: usize = 4095;

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

/// The state of one thread.
#[derive(Default)]
struct Worker {
    buffers: Buffers,
    /// Trees that may be the base of others.
    bases: HashMap<Location, Rc<[u8]>>,
    held: usize,
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
            let work = |worker: &mut Worker, _, piece: &mut [PendingTree]| {
                for tree in piece {
                    tree.read(packs, worker, id_len);
                }
                Ok(())
            };
            for_each_piece(threads, PIECE, &mut pending, || Ok(Worker::default()), work, || Ok(()))?;
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
    fn read(&mut self, packs: &Packs, worker: &mut Worker, id_len: usize) {
        let location = packs.find(&self.id, &mut worker.buffers);
        let Some(data) = location.and_then(|location| worker.tree(packs, location)) else { return };
        // The planner says what is wrong with a tree that cannot be parsed.
        let entries = tree::parse(&data, id_len).unwrap_or_default();
        let trees = entries.iter().filter(|entry| entry.kind == Kind::Directory);
        self.below = trees.map(|tree| tree.id.to_vec()).collect();
        self.data = Some(data.to_vec());
    }
}

impl Worker {
    fn tree(&mut self, packs: &Packs, location: Location) -> Option<Rc<[u8]>> {
        let mut deltas: Vec<(Location, Vec<u8>)> = Vec::new();
        let mut read = 0;
        let mut at = location;
        let mut tree = loop {
            if let Some(base) = self.bases.get(&at) {
                break Rc::clone(base);
            }
            let header = packs.header(at, &mut self.buffers)?;
            read += header.size;
            if read > MAX_TREE || deltas.len() > MAX_CHAIN {
                return None;
            }
            let mut packed = vec![0; header.size as usize];
            packs.inflate(at, header.len, &mut packed, &mut self.buffers)?;
            let base = match header.kind {
                ObjectType::Tree => break self.keep(at, packed),
                ObjectType::Blob | ObjectType::Other => return None,
                ObjectType::OfsDelta(offset) => Location { offset, ..at },
                ObjectType::RefDelta(id) => packs.find_near(at.pack, &id, &mut self.buffers)?,
            };
            deltas.push((at, packed));
            at = base;
        };
        for (at, delta) in deltas.into_iter().rev() {
            let (_, size, _) = delta::sizes(&delta).filter(|(_, size, _)| *size <= MAX_TREE)?;
            let mut result = vec![0; size as usize];
            delta::apply(&tree, &delta, &mut result)?;
            tree = self.keep(at, result);
        }
        Some(tree)
    }

    fn keep(&mut self, location: Location, tree: Vec<u8>) -> Rc<[u8]> {
        if self.held > MAX_BASES {
            self.bases.clear();
            self.held = 0;
        }
        self.held += tree.len();
        let tree = Rc::from(tree);
        self.bases.insert(location, Rc::clone(&tree));
        tree
    }
}
