//! Finds the blobs of a release in the packs: looks them up in the indexes, and reads their headers, then the headers of
//! their bases, level by level, in all threads.

use std::collections::HashMap;
use std::mem::take;
use std::sync::{Mutex, PoisonError};

use git2::ObjectType;

use super::delta;
use super::listing::{Listing, NONE};
use super::pack::{Buffers, Location, Representation, STREAMED};
use super::pack_object::MAX_CHAIN;
use super::packed_blobs::{Form, Grouped, Node, PackedBlobs};
use crate::error::Result;
use bluegreen_sys::parallel::{PIECE, for_each_piece};

/// The most nodes, of about 100 bytes each.
const MAX_NODES: usize = 1 << 20;

/// Fewer objects than these are not worth another thread.
const FEW: usize = 4 * PIECE;

/// A delta is decompressed to learn the size of its blob. So many bytes of deltas are kept for later; each thread takes them
/// in chunks. Of a longer delta, only the beginning is decompressed.
const KEPT: usize = 16 << 20;
const CHUNK: usize = 32 << 10;

/// Bytes that are free for deltas, and the position where they begin.
#[derive(Default)]
struct Free<'k> {
    position: usize,
    bytes: &'k mut [u8],
}

/// A node that is being read.
struct PendingNode {
    location: Location,
    node: Node,
    base: Option<Location>,
}

/// The state of one thread that reads headers.
#[derive(Default)]
struct Worker<'k> {
    buffers: Buffers,
    /// The rest of a chunk.
    chunk: Free<'k>,
}

impl PackedBlobs {
    /// Looks all blobs up in the indexes, in the order of their ids, so that one read of an index serves several of them.
    pub(super) fn locate(
        &self,
        listing: &Listing,
        wanted: &[u32],
        threads: usize,
    ) -> Result<Vec<(Location, u32)>> {
        let key = |entry: u32| {
            let start = listing.raw_id(entry).get(..8).and_then(|bytes| bytes.try_into().ok());
            start.map_or(0, u64::from_be_bytes)
        };
        let mut found: Vec<_> = wanted.iter().map(|&entry| (key(entry), entry, None)).collect();
        found.sort_unstable_by_key(|(key, entry, _)| (*key, *entry));
        let work = |buffers: &mut Buffers, _, piece: &mut [(u64, u32, Option<Location>)]| {
            for (_, entry, location) in piece {
                *location = self.packs.find(listing.raw_id(*entry), buffers);
            }
            Ok(())
        };
        let start = || Ok(Buffers::for_lookups(wanted.len() as u32));
        for_each_piece(threads, PIECE, &mut found, start, work, || Ok(()))?;
        let mut locations: Vec<_> =
            found.into_iter().filter_map(|(_, entry, location)| Some((location?, entry))).collect();
        locations.sort_unstable();
        Ok(locations)
    }

    /// Reads the headers of all blobs, then of their bases, then of the bases of those.
    pub(super) fn read(&mut self, locations: &[(Location, u32)], threads: usize) -> Result<()> {
        let mut kept = vec![0; KEPT];
        let free = Mutex::new(Free { position: 0, bytes: &mut kept });
        let mut worker = Worker::default();
        let mut first: Vec<Location> = locations.iter().map(|(location, _)| *location).collect();
        first.dedup();
        first.truncate(MAX_NODES);
        // The nodes of the first level are in the order of their locations; these are those of other levels.
        let mut known = HashMap::new();
        let mut level = first.clone();
        // The deltas whose base is still to be found.
        let mut waiting: Vec<(u32, Location)> = Vec::new();
        for _ in 0..=MAX_CHAIN {
            level.truncate(MAX_NODES.saturating_sub(self.nodes.len()));
            let pending = self.read_level(&level, &first, &free, threads, &mut worker)?;
            let mut next = Vec::new();
            for PendingNode { location, node, base } in pending {
                if self.nodes.len() >= first.len() {
                    known.insert(location, self.nodes.len() as u32);
                }
                next.extend(base.map(|base| (self.nodes.len() as u32, base)));
                self.nodes.push(node);
            }
            for (node, base) in waiting.drain(..) {
                self.nodes[node as usize].base = known.get(&base).copied().unwrap_or(NONE);
            }
            next.retain(|(node, base)| {
                let base = known.get(base).copied();
                self.nodes[*node as usize].base = base.unwrap_or(NONE);
                base.is_none()
            });
            level = next.iter().map(|(_, base)| *base).collect();
            level.sort_unstable();
            level.dedup();
            waiting = next;
            if level.is_empty() {
                break;
            }
        }
        self.kept = kept;
        let mut entries = Vec::with_capacity(locations.len());
        for (node, same) in (0..).zip(locations.chunk_by(|one, next| one.0 == next.0)).take(first.len()) {
            for (_, entry) in same {
                self.node_of[*entry as usize] = node;
                entries.push((node, *entry));
            }
        }
        self.entries = Grouped::new(self.nodes.len(), &entries);
        Ok(())
    }

    /// Reads the headers at these locations, in all threads, and finds those bases that are in the first level.
    fn read_level<'k>(
        &self,
        level: &[Location],
        first: &[Location],
        free: &Mutex<Free<'k>>,
        threads: usize,
        own: &mut Worker<'k>,
    ) -> Result<Vec<PendingNode>> {
        let unread = |&location| PendingNode { location, node: Node::new(location), base: None };
        let mut pending: Vec<_> = level.iter().map(unread).collect();
        let work = |worker: &mut Worker<'k>, _, piece: &mut [PendingNode]| {
            for pending in piece {
                self.read_node(pending, worker, free);
                if let Some(Ok(base)) = pending.base.map(|base| first.binary_search(&base)) {
                    pending.node.base = base as u32;
                    pending.base = None;
                }
            }
            Ok(())
        };
        // Few chains are long, so there are many levels that are small.
        if level.len() < FEW {
            work(own, 0, &mut pending)?;
        } else {
            for_each_piece(threads, PIECE, &mut pending, || Ok(Worker::default()), work, || Ok(()))?;
        }
        Ok(pending)
    }

    fn read_node<'k>(&self, pending: &mut PendingNode, worker: &mut Worker<'k>, free: &Mutex<Free<'k>>) {
        let PendingNode { location, node, base } = pending;
        let Some(header) = self.packs.header(*location, &mut worker.buffers) else { return };
        (node.header_len, node.packed_size, node.size) = (header.len as u8, header.size, header.size);
        node.form = match header.representation {
            Representation::Whole(ObjectType::Blob) => Form::Whole,
            Representation::Whole(_) => Form::Other,
            Representation::OfsDelta(_) | Representation::RefDelta(_) => Form::Delta,
        };
        *base = self.packs.base(*location, header.representation, &mut worker.buffers);
        if node.form != Form::Delta {
            return;
        }
        node.form = Form::BadDelta;
        if header.size >= STREAMED {
            return;
        }
        let kept = worker.free(header.size as usize, free);
        let (position, size) = if let Some(Free { position, bytes }) = kept {
            let read = self.packs.inflate(*location, header.len, usize::MAX, bytes, &mut worker.buffers);
            let sizes = read.and_then(|()| delta::sizes(bytes));
            (Some(position as u32), sizes.map(|(_, size, _)| size))
        } else {
            let sizes = self.packs.delta_sizes(*location, header.len, &mut worker.buffers);
            (None, sizes.map(|(_, size)| size))
        };
        let Some(size) = size.filter(|size| *size < STREAMED) else { return };
        (node.form, node.size, node.kept) = (Form::Delta, size, position);
    }
}

impl<'k> Worker<'k> {
    /// Takes bytes for a delta that is to be kept, if enough are left.
    fn free(&mut self, len: usize, free: &Mutex<Free<'k>>) -> Option<Free<'k>> {
        if len > CHUNK {
            return None;
        }
        if self.chunk.bytes.len() < len {
            self.chunk = free.lock().unwrap_or_else(PoisonError::into_inner).take(CHUNK)?;
        }
        self.chunk.take(len)
    }
}

impl Free<'_> {
    /// Takes the first bytes.
    fn take(&mut self, len: usize) -> Option<Self> {
        if self.bytes.len() < len {
            return None;
        }
        let (bytes, rest) = take(&mut self.bytes).split_at_mut(len);
        let position = self.position;
        *self = Self { position: position + len, bytes: rest };
        Some(Self { position, bytes })
    }
}
