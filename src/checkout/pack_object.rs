//! Reads single objects of packs: those that are not read together with all others of a release.
//!
//! A chain of deltas is followed no further than git makes one, and no object is made that is larger than the caller
//! wants. So a damaged pack takes neither endless time nor memory.

use std::collections::HashMap;
use std::sync::Arc;

use git2::ObjectType;

use super::delta;
use super::pack::{Buffers, Location, Packs, Representation};

/// The length of the longest chain of deltas: git's own limit on `pack.depth`.
pub const MAX_CHAIN: usize = 4095;

/// The most bytes of objects that are kept because they may be the base of others.
const MAX_BASES: usize = 8 << 20;

/// A reader of objects, for one thread. It keeps the bases that it meets.
#[derive(Default)]
pub struct PackReader {
    buffers: Buffers,
    bases: HashMap<Location, (ObjectType, Arc<Vec<u8>>)>,
    /// The bytes of these bases.
    held: usize,
}

impl PackReader {
    /// Looks an object up.
    pub fn find(&mut self, packs: &Packs, id: &[u8]) -> Option<Location> {
        packs.find(id, &mut self.buffers)
    }

    /// Reads the type and the size of an object. Gives `None` if its chain never ends or leads to no object.
    pub fn header(&mut self, packs: &Packs, location: Location) -> Option<(ObjectType, u64)> {
        let (mut at, mut size) = (location, None);
        for _ in 0..=MAX_CHAIN {
            let header = packs.header(at, &mut self.buffers)?;
            if let Representation::Whole(kind) = header.representation {
                return Some((kind, size.unwrap_or(header.size)));
            }
            if size.is_none() {
                size = Some(packs.delta_sizes(at, header.len, &mut self.buffers)?.1);
            }
            at = packs.base(at, header.representation, &mut self.buffers)?;
        }
        None
    }

    /// Reads an object. Gives `None` if it is damaged, or if more than `limit` bytes have to be decompressed or made for it
    /// at a time.
    pub fn read(
        &mut self,
        packs: &Packs,
        location: Location,
        limit: u64,
    ) -> Option<(ObjectType, Arc<Vec<u8>>)> {
        let mut deltas: Vec<(Location, Vec<u8>)> = Vec::new();
        let mut rest = limit;
        let mut at = location;
        let (kind, mut content) = loop {
            if let Some((kind, base)) = self.bases.get(&at) {
                break (*kind, Arc::clone(base));
            }
            let header = packs.header(at, &mut self.buffers)?;
            rest = rest.checked_sub(header.size).filter(|_| deltas.len() <= MAX_CHAIN)?;
            let mut packed = vec![0; header.size as usize];
            packs.inflate(at, header.len, usize::MAX, &mut packed, &mut self.buffers)?;
            if let Representation::Whole(kind) = header.representation {
                break (kind, self.keep(at, kind, packed));
            }
            deltas.push((at, packed));
            at = packs.base(at, header.representation, &mut self.buffers)?;
        };
        for (at, delta) in deltas.into_iter().rev() {
            let (_, size, _) = delta::sizes(&delta).filter(|(_, size, _)| *size <= limit)?;
            let mut result = vec![0; size as usize];
            delta::apply(&content, &delta, &mut result)?;
            content = self.keep(at, kind, result);
        }
        Some((kind, content))
    }

    fn keep(&mut self, location: Location, kind: ObjectType, content: Vec<u8>) -> Arc<Vec<u8>> {
        if self.held > MAX_BASES {
            self.bases.clear();
            self.held = 0;
        }
        self.held += content.len();
        let content = Arc::new(content);
        self.bases.insert(location, (kind, Arc::clone(&content)));
        content
    }
}
