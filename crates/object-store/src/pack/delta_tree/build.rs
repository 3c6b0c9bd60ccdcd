//! Finds blobs in packs: looks their ids up in the indexes, and reads their headers, then the headers of their bases, level
//! by level, in all threads.

use std::collections::HashMap;
use std::convert::Infallible;
use std::mem::take;
use std::sync::{Mutex, PoisonError};

use bluegreen_sys::parallel::{SMALL_ITEMS, for_each_chunk_with_progress};

use super::{BlobIndex, Form, Groups, Node, NodeIndex, PackedBlobs};
use crate::pack::delta::DeltaHeader;
use crate::pack::header::Representation;
use crate::pack::reader::MAX_CHAIN;
use crate::pack::{Buffers, Location, MAX_IN_MEMORY};
use bluegreen_git_types::{ObjectId, ObjectKind};

/// The maximum number of nodes, about 100 bytes each.
const MAX_NODES: usize = 1 << 20;

/// Smaller levels are read by one thread, because starting others would take longer.
const MIN_PARALLEL: usize = 4 * SMALL_ITEMS;

/// A delta must be decompressed to learn the size of its blob. This many bytes of deltas are kept for later. Threads allocate
/// them in chunks. Only the header of a longer delta is decompressed.
const MAX_KEPT: usize = 16 << 20;
const CHUNK: usize = 32 << 10;

/// Returns zeros that take no memory before they are written, or nothing at a limit of memory: a failed allocation would
/// abort the program.
fn zeroed(len: usize) -> Vec<u8> {
    let has_room = Vec::<u8>::new().try_reserve_exact(len).is_ok();
    if has_room { vec![0; len] } else { Vec::new() }
}

/// A requested blob and its location.
#[derive(Clone, Copy)]
pub(super) struct Located {
    location: Location,
    blob: BlobIndex,
}

/// A lookup of a blob. Ids are sorted by their first 8 bytes.
struct Lookup {
    key: u64,
    blob: BlobIndex,
    location: Option<Location>,
}

/// A free part of [`PackedBlobs::deltas`].
#[derive(Default)]
struct FreeSpace<'k> {
    /// Its position there.
    position: usize,
    bytes: &'k mut [u8],
}

/// A node that is being read.
struct PendingNode {
    location: Location,
    node: Node,
    /// The base of a delta, unless its node is already known.
    base: Option<Location>,
}

/// A delta whose base has no node yet.
struct Unconnected {
    node: NodeIndex,
    base: Location,
}

/// The state of one thread that reads headers.
#[derive(Default)]
struct Worker<'k> {
    buffers: Buffers,
    /// The rest of the thread's chunk.
    chunk: FreeSpace<'k>,
}

impl PackedBlobs {
    /// Looks all blobs up in the indexes, sorted by id, so that one read of an index serves several of them. Returns those
    /// that a pack contains, in the order of their locations.
    pub(super) fn locate(&self, ids: &[ObjectId], threads: usize) -> Vec<Located> {
        let key = |id: &ObjectId| id.as_bytes().first_chunk().map_or(0, |start| u64::from_be_bytes(*start));
        let blobs = (0..).map(BlobIndex::new);
        let mut lookups: Vec<_> =
            ids.iter().zip(blobs).map(|(id, blob)| Lookup { key: key(id), blob, location: None }).collect();
        lookups.sort_unstable_by_key(|lookup| (lookup.key, lookup.blob));
        let work = |buffers: &mut Buffers, _, chunk: &mut [Lookup]| {
            for lookup in chunk {
                lookup.location = self.packs.find(ids[lookup.blob.position()], buffers);
            }
            Ok(())
        };
        let start = || Ok(Buffers::for_lookups(ids.len() as u32));
        let Ok(()) = for_each_chunk_with_progress::<_, _, Infallible>(
            threads,
            SMALL_ITEMS,
            &mut lookups,
            start,
            work,
            || Ok(()),
        );
        let located = |lookup: Lookup| Some(Located { location: lookup.location?, blob: lookup.blob });
        let mut located: Vec<_> = lookups.into_iter().filter_map(located).collect();
        located.sort_unstable_by_key(|located| (located.location, located.blob));
        located
    }

    /// Reads the headers of all blobs, then of their bases, then of the bases of those.
    pub(super) fn read(&mut self, located: &[Located], threads: usize) {
        let mut deltas = if located.is_empty() { Vec::new() } else { zeroed(MAX_KEPT) };
        let free = Mutex::new(FreeSpace { position: 0, bytes: &mut deltas });
        let mut worker = Worker::default();
        let mut first: Vec<Location> = located.iter().map(|located| located.location).collect();
        first.dedup();
        first.truncate(MAX_NODES);
        // The nodes of the first level are sorted by location. These are the nodes of other levels.
        let mut known = HashMap::new();
        let mut level = first.clone();
        // The deltas whose bases are in the next level.
        let mut waiting: Vec<Unconnected> = Vec::new();
        for _ in 0..=MAX_CHAIN {
            level.truncate(MAX_NODES.saturating_sub(self.nodes.len()));
            let pending = self.read_level(&level, &first, &free, threads, &mut worker);
            let mut next = Vec::new();
            for PendingNode { location, node, base } in pending {
                let index = NodeIndex::new(self.nodes.len());
                if self.nodes.len() >= first.len() {
                    known.insert(location, index);
                }
                next.extend(base.map(|base| Unconnected { node: index, base }));
                self.nodes.push(node);
            }
            for Unconnected { node, base } in waiting.drain(..) {
                self.node_mut(node).base = known.get(&base).copied();
            }
            next.retain(|Unconnected { node, base }| {
                let base = known.get(base).copied();
                self.node_mut(*node).base = base;
                base.is_none()
            });
            level = next.iter().map(|delta| delta.base).collect();
            level.sort_unstable();
            level.dedup();
            waiting = next;
            if level.is_empty() {
                break;
            }
        }
        self.deltas = deltas;
        let mut blobs = Vec::with_capacity(located.len());
        let same_location = located.chunk_by(|one, next| one.location == next.location);
        for (node, same) in (0..).map(NodeIndex::new).zip(same_location).take(first.len()) {
            for Located { blob, .. } in same {
                self.node_of[blob.position()] = Some(node);
                blobs.push((node, *blob));
            }
        }
        self.blobs = Groups::new(self.nodes.len(), &blobs);
    }

    /// Reads the headers at these locations, and finds those bases that are in the first level.
    fn read_level<'k>(
        &self,
        level: &[Location],
        first: &[Location],
        free: &Mutex<FreeSpace<'k>>,
        threads: usize,
        own: &mut Worker<'k>,
    ) -> Vec<PendingNode> {
        let unread = |&location| PendingNode { location, node: Node::new(location), base: None };
        let mut pending: Vec<_> = level.iter().map(unread).collect();
        let work = |worker: &mut Worker<'k>, _, chunk: &mut [PendingNode]| {
            for pending in chunk {
                self.read_node(pending, worker, free);
                if let Some(Ok(base)) = pending.base.map(|base| first.binary_search(&base)) {
                    pending.node.base = Some(NodeIndex::new(base));
                    pending.base = None;
                }
            }
            Ok(())
        };
        // Only few chains are long, so many levels are small.
        let Ok(()) = if level.len() < MIN_PARALLEL {
            work(own, 0, &mut pending)
        } else {
            let start = || Ok::<_, Infallible>(Worker::default());
            for_each_chunk_with_progress(threads, SMALL_ITEMS, &mut pending, start, work, || Ok(()))
        };
        pending
    }

    fn read_node<'k>(&self, pending: &mut PendingNode, worker: &mut Worker<'k>, free: &Mutex<FreeSpace<'k>>) {
        let PendingNode { location, node, base } = pending;
        let Some(header) = self.packs.header(*location, &mut worker.buffers) else { return };
        (node.header_len, node.inflated_size, node.size) = (header.len as u8, header.size, header.size);
        node.form = match header.representation {
            Representation::Whole(ObjectKind::Blob) => Form::Whole,
            Representation::Whole(_) => Form::Other,
            Representation::OfsDelta(_) | Representation::RefDelta(_) => Form::Delta,
        };
        *base = self.packs.base(*location, header.representation, &mut worker.buffers);
        if node.form != Form::Delta {
            return;
        }
        node.form = Form::BadDelta;
        if header.size >= MAX_IN_MEMORY {
            return;
        }
        let (position, delta) = match worker.allocate(header.size as usize, free) {
            Some(FreeSpace { position, bytes }) => {
                let inflated = self.packs.inflate(*location, header.len, None, bytes, &mut worker.buffers);
                (Some(position as u32), inflated.and_then(|()| DeltaHeader::parse(bytes)))
            }
            None => (None, self.packs.delta_header(*location, header.len, &mut worker.buffers)),
        };
        let size = delta.map(|delta| delta.result_size).filter(|size| *size < MAX_IN_MEMORY);
        if let Some(size) = size {
            (node.form, node.size, node.delta) = (Form::Delta, size, position);
        }
    }
}

impl<'k> Worker<'k> {
    /// Allocates bytes for a delta that is to be kept, if enough are free.
    fn allocate(&mut self, len: usize, free: &Mutex<FreeSpace<'k>>) -> Option<FreeSpace<'k>> {
        if len > CHUNK {
            return None;
        }
        if self.chunk.bytes.len() < len {
            self.chunk = free.lock().unwrap_or_else(PoisonError::into_inner).split_off(CHUNK)?;
        }
        self.chunk.split_off(len)
    }
}

impl FreeSpace<'_> {
    /// Splits off the first bytes.
    fn split_off(&mut self, len: usize) -> Option<Self> {
        if self.bytes.len() < len {
            return None;
        }
        let (bytes, rest) = take(&mut self.bytes).split_at_mut(len);
        let position = self.position;
        *self = Self { position: position + len, bytes: rest };
        Some(Self { position, bytes })
    }
}
