//! Reads single objects of packs, as opposed to all blobs of a release ([`super::delta_tree`]).
//!
//! A delta chain is followed no further than git creates one, and no object larger than the caller's limit is
//! decompressed. So a damaged pack costs neither endless time nor unbounded memory.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use super::delta::{self, DeltaHeader};
use super::header::Representation;
use super::{Buffers, Location, Packs};
use crate::stream::StreamError;
use bluegreen_git_types::{ObjectId, ObjectKind};

/// The maximum length of a delta chain: git's own limit for `pack.depth`.
pub(crate) const MAX_CHAIN: usize = 4095;

/// The size at which the cache of bases is cleared, in bytes.
const MAX_CACHED: usize = 8 << 20;

/// A reader of objects, for one thread. It caches objects that may be the bases of others.
#[derive(Default)]
pub(crate) struct PackReader {
    buffers: Buffers,
    cache: HashMap<Location, PackedObject>,
    /// The size of all cached objects, in bytes.
    cached: usize,
}

/// The type and the size of an object.
pub(crate) struct ObjectHeader {
    pub kind: ObjectKind,
    /// In bytes.
    pub size: u64,
}

/// A decoded object.
#[derive(Clone)]
pub(crate) struct PackedObject {
    pub kind: ObjectKind,
    pub content: Arc<Vec<u8>>,
}

/// A delta on the way from an object to its nearest known base.
struct Delta {
    location: Location,
    content: Vec<u8>,
}

impl PackReader {
    pub(crate) fn find(&mut self, packs: &Packs, id: ObjectId) -> Option<Location> {
        packs.find(id, &mut self.buffers)
    }

    /// Reads the type and the size of an object. Returns `None` if its delta chain does not end in a whole object.
    pub(crate) fn header(&mut self, packs: &Packs, location: Location) -> Option<ObjectHeader> {
        let (mut at, mut size) = (location, None);
        for _ in 0..=MAX_CHAIN {
            let header = packs.header(at, &mut self.buffers)?;
            if let Representation::Whole(kind) = header.representation {
                return Some(ObjectHeader { kind, size: size.unwrap_or(header.size) });
            }
            if size.is_none() {
                size = Some(packs.delta_header(at, header.len, &mut self.buffers)?.result_size);
            }
            at = packs.base(at, header.representation, &mut self.buffers)?;
        }
        None
    }

    /// Reads an object. Returns `None` if it is damaged, or if it, one of its bases, or all its deltas together exceed
    /// `limit` bytes.
    pub(crate) fn read(&mut self, packs: &Packs, location: Location, limit: u64) -> Option<PackedObject> {
        let mut deltas: Vec<Delta> = Vec::new();
        let mut rest = limit;
        let mut at = location;
        let mut object = loop {
            if let Some(base) = self.cache.get(&at) {
                break base.clone();
            }
            let header = packs.header(at, &mut self.buffers)?;
            rest = rest.checked_sub(header.size).filter(|_| deltas.len() <= MAX_CHAIN)?;
            let mut inflated = vec![0; header.size as usize];
            packs.inflate(at, header.len, None, &mut inflated, &mut self.buffers)?;
            if let Representation::Whole(kind) = header.representation {
                break self.keep(at, kind, inflated);
            }
            deltas.push(Delta { location: at, content: inflated });
            at = packs.base(at, header.representation, &mut self.buffers)?;
        };
        for Delta { location, content: delta } in deltas.into_iter().rev() {
            let size = DeltaHeader::parse(&delta)?.result_size;
            let mut result = vec![0; Some(size).filter(|size| *size <= limit)? as usize];
            delta::apply(&object.content, &delta, &mut result)?;
            object = self.keep(location, object.kind, result);
        }
        Some(object)
    }

    /// Copies the content of a blob of this size. Returns `None` unless it is stored as a whole.
    pub(crate) fn copy(
        &mut self,
        packs: &Packs,
        id: ObjectId,
        size: u64,
        to: &mut dyn Write,
    ) -> Option<Result<(), StreamError>> {
        packs.copy(self.find(packs, id)?, size, &mut self.buffers, to)
    }

    fn keep(&mut self, location: Location, kind: ObjectKind, content: Vec<u8>) -> PackedObject {
        if self.cached > MAX_CACHED {
            self.cache.clear();
            self.cached = 0;
        }
        self.cached += content.len();
        let object = PackedObject { kind, content: Arc::new(content) };
        self.cache.insert(location, object.clone());
        object
    }
}
