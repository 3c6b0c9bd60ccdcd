//! The tree objects of a commit, read from its packs before they are planned: level by level, in all threads.
//!
//! Whatever is not found here, or is damaged, the planner reads from the object database.

use std::collections::HashMap;
use std::rc::Rc;

use super::delta;
use super::pack::{Base, Buffers, Packs, Place};
use super::parallel::{PIECE, for_each_piece};
use super::tree::{self, Kind};
use crate::error::Result;

/// The most bytes of trees that are read ahead, and the most that a thread keeps of their bases.
const MAX_AHEAD: usize = 32 << 20;
const MAX_BASES: usize = 8 << 20;

/// The longest chain of deltas, as git's own limit on `pack.depth`.
const MAX_CHAIN: usize = 4095;

/// The most bytes of a tree, and of all deltas that it is made of.
const MAX_TREE: u64 = 4 << 20;

/// The trees that were found, by id.
#[derive(Debug, Default)]
pub struct Trees {
    found: HashMap<Vec<u8>, Vec<u8>>,
}

/// A tree that is being read.
struct Wanted {
    id: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The ids of the trees in it.
    below: Vec<Vec<u8>>,
}

/// The part of one thread.
#[derive(Default)]
struct Hand {
    buffers: Buffers,
    /// Trees that others may be made of.
    bases: HashMap<Place, Rc<[u8]>>,
    held: usize,
}

impl Trees {
    /// Reads the tree `root`, whose id has `id_len` bytes, and all trees below it.
    pub fn read(packs: &Packs, root: &[u8], id_len: usize, threads: usize) -> Result<Self> {
        let mut trees = Self::default();
        let mut level: Vec<Vec<u8>> = vec![root.to_vec()];
        let mut read = 0;
        while !level.is_empty() && read < MAX_AHEAD {
            // Neighbours share what is read of an index.
            level.sort_unstable();
            level.dedup();
            let wanted = |id| Wanted { id, data: None, below: Vec::new() };
            let mut wanted: Vec<_> = level.drain(..).map(wanted).collect();
            let work = |hand: &mut Hand, _, piece: &mut [Wanted]| {
                for wanted in piece {
                    wanted.read(packs, hand, id_len);
                }
                Ok(())
            };
            for_each_piece(threads, PIECE, &mut wanted, || Ok(Hand::default()), work, || Ok(()))?;
            for Wanted { id, data, below } in wanted {
                let Some(data) = data else { continue };
                read += data.len();
                level.extend(below);
                trees.found.insert(id, data);
            }
            level.retain(|id| !trees.found.contains_key(id));
        }
        Ok(trees)
    }

    /// The raw tree object of this id.
    #[must_use]
    pub fn get(&self, id: &[u8]) -> Option<&[u8]> {
        self.found.get(id).map(Vec::as_slice)
    }
}

impl Wanted {
    fn read(&mut self, packs: &Packs, hand: &mut Hand, id_len: usize) {
        let place = packs.find(&self.id, &mut hand.buffers);
        let Some(data) = place.and_then(|place| hand.tree(packs, place)) else { return };
        // The planner says what is wrong with a tree that cannot be parsed.
        let entries = tree::parse(&data, id_len).unwrap_or_default();
        let trees = entries.iter().filter(|entry| entry.kind == Kind::Directory);
        self.below = trees.map(|tree| tree.id.to_vec()).collect();
        self.data = Some(data.to_vec());
    }
}

impl Hand {
    fn tree(&mut self, packs: &Packs, place: Place) -> Option<Rc<[u8]>> {
        let mut deltas: Vec<(Place, Vec<u8>)> = Vec::new();
        let mut read = 0;
        let mut at = place;
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
            let base = match header.base {
                Base::Tree => break self.keep(at, packed),
                Base::Whole | Base::Other => return None,
                Base::Offset(offset) => Place { offset, ..at },
                Base::Id(id) => packs.find_near(at.pack, &id, &mut self.buffers)?,
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

    fn keep(&mut self, place: Place, tree: Vec<u8>) -> Rc<[u8]> {
        if self.held > MAX_BASES {
            self.bases.clear();
            self.held = 0;
        }
        self.held += tree.len();
        let tree = Rc::from(tree);
        self.bases.insert(place, Rc::clone(&tree));
        tree
    }
}
