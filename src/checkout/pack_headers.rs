//! Finds the blobs of a release in the packs: looks them up in the indexes, and reads their headers, then the headers of
//! their bases, level by level, in all threads.

use std::collections::HashMap;
use std::iter::{StepBy, Zip};
use std::mem::take;
use std::ops::RangeFrom;
use std::slice::ChunksMut;
use std::sync::{Mutex, PoisonError};

use git2::ObjectType;

use super::buffer::Buffer;
use super::delta;
use super::listing::{Listing, NONE};
use super::pack::{Buffers, Location, Representation, STREAMED};
use super::pack_object::MAX_CHAIN;
use super::packed_blobs::{Form, Node, PackedBlobs};
use super::parallel::{PIECE, for_each_piece};
use crate::error::Result;

/// The most nodes, of about 100 bytes each.
const MAX_NODES: usize = 1 << 20;

/// Fewer objects than these are not worth another thread.
const FEW: usize = 4 * PIECE;

/// A delta is read to learn the size of its blob. So many bytes of deltas are kept for later; each thread takes them in
/// chunks, and what is longer than a chunk is not kept.
const KEPT: usize = 16 << 20;
const CHUNK: usize = 64 << 10;

/// The free chunks, each with the position where it begins.
type Chunks<'k> = Mutex<Zip<StepBy<RangeFrom<usize>>, ChunksMut<'k, u8>>>;

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
    delta: Buffer,
    /// The rest of a chunk, and the position where it begins.
    chunk: (usize, &'k mut [u8]),
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
        let chunks = Mutex::new((0..).step_by(CHUNK).zip(kept.chunks_mut(CHUNK)));
        let mut known = HashMap::with_capacity(2 * locations.len());
        let mut level: Vec<Location> = locations.iter().map(|(location, _)| *location).collect();
        level.dedup();
        // The deltas whose base is still to be found.
        let mut waiting: Vec<(u32, Location)> = Vec::new();
        for _ in 0..=MAX_CHAIN {
            level.truncate(MAX_NODES.saturating_sub(self.nodes.len()));
            let pending = self.read_level(&level, &chunks, threads)?;
            let mut next = Vec::new();
            for PendingNode { location, node, base } in pending {
                known.insert(location, self.nodes.len() as u32);
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
        for (location, entry) in locations {
            if let Some(&node) = known.get(location) {
                self.node_of[*entry as usize] = node;
                self.entries.push((node, *entry));
            }
        }
        self.entries.sort_unstable();
        Ok(())
    }

    /// Reads the headers at these locations, in all threads.
    fn read_level<'k>(
        &self,
        level: &[Location],
        chunks: &Chunks<'k>,
        threads: usize,
    ) -> Result<Vec<PendingNode>> {
        let unread = |&location| PendingNode { location, node: Node::new(location), base: None };
        let mut pending: Vec<_> = level.iter().map(unread).collect();
        let work = |worker: &mut Worker<'k>, _, piece: &mut [PendingNode]| {
            for pending in piece {
                self.read_node(pending, worker, chunks);
            }
            Ok(())
        };
        // Few chains are long, so the last levels are small.
        let threads = if level.len() < FEW { 1 } else { threads };
        for_each_piece(threads, PIECE, &mut pending, || Ok(Worker::default()), work, || Ok(()))?;
        Ok(pending)
    }

    fn read_node<'k>(&self, pending: &mut PendingNode, worker: &mut Worker<'k>, chunks: &Chunks<'k>) {
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
        let kept = worker.room(header.size as usize, chunks);
        let Worker { buffers, delta, .. } = worker;
        let (position, delta) = if let Some((position, room)) = kept {
            (Some(position as u32), room)
        } else {
            delta.set_len(header.size as usize);
            (None, &mut **delta)
        };
        let read = self.packs.inflate(*location, header.len, delta, buffers);
        let sizes = read.and_then(|()| delta::sizes(delta));
        let Some((_, size, _)) = sizes.filter(|(_, size, _)| *size < STREAMED) else { return };
        (node.form, node.size, node.kept) = (Form::Delta, size, position);
    }
}

impl<'k> Worker<'k> {
    /// Takes room for a delta that is to be kept, if there is some left.
    fn room(&mut self, len: usize, chunks: &Chunks<'k>) -> Option<(usize, &'k mut [u8])> {
        if len > CHUNK {
            return None;
        }
        if self.chunk.1.len() < len {
            self.chunk = chunks.lock().unwrap_or_else(PoisonError::into_inner).next()?;
        }
        let (position, bytes) = take(&mut self.chunk);
        let (room, rest) = bytes.split_at_mut_checked(len)?;
        self.chunk = (position + len, rest);
        Some((position, room))
    }
}
