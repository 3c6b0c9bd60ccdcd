//! Finds the blobs of a release in the packs: looks them up in the indexes, and reads their headers, then the headers of
//! their bases, level by level, in all threads.

use std::collections::HashMap;
use std::mem::take;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// A delta is read to learn the size of its blob. Deltas up to this size are kept for later, up to so many bytes all
/// together.
const KEPT_DELTA: u64 = 256 << 10;
const KEPT_DELTAS: usize = 16 << 20;

/// A node that is being read.
struct PendingNode {
    location: Location,
    node: Node,
    base: Option<Location>,
}

/// The state of one thread that reads headers.
#[derive(Default)]
struct Worker {
    buffers: Buffers,
    delta: Buffer,
    /// The deltas of one piece that are kept.
    kept: Vec<u8>,
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
        let kept = AtomicUsize::new(0);
        let mut known: HashMap<Location, u32> = HashMap::new();
        let mut level: Vec<Location> = locations.iter().map(|(location, _)| *location).collect();
        level.dedup();
        // The deltas whose base is still to be found.
        let mut waiting: Vec<(u32, Location)> = Vec::new();
        for _ in 0..=MAX_CHAIN {
            level.truncate(MAX_NODES.saturating_sub(self.nodes.len()));
            let pending = self.read_level(&level, &kept, threads)?;
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
    fn read_level(
        &mut self,
        level: &[Location],
        kept: &AtomicUsize,
        threads: usize,
    ) -> Result<Vec<PendingNode>> {
        let unread = |&location| PendingNode { location, node: Node::new(location), base: None };
        let mut pending: Vec<_> = level.iter().map(unread).collect();
        let all = Mutex::new(take(&mut self.kept));
        let work = |worker: &mut Worker, _, piece: &mut [PendingNode]| {
            worker.kept.clear();
            for pending in &mut *piece {
                self.read_node(pending, kept, worker);
            }
            if !worker.kept.is_empty() {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let nodes = piece.iter_mut().filter_map(|pending| pending.node.kept.as_mut());
                nodes.for_each(|(number, _)| *number = all.len() as u32);
                all.push(worker.kept.as_slice().into());
            }
            Ok(())
        };
        // Few chains are long, so the last levels are small.
        let threads = if level.len() < FEW { 1 } else { threads };
        for_each_piece(threads, PIECE, &mut pending, || Ok(Worker::default()), work, || Ok(()))?;
        self.kept = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(pending)
    }

    fn read_node(&self, pending: &mut PendingNode, kept: &AtomicUsize, worker: &mut Worker) {
        let Worker { buffers, delta, kept: bytes } = worker;
        let PendingNode { location, node, base } = pending;
        let Some(header) = self.packs.header(*location, buffers) else { return };
        (node.header_len, node.packed_size, node.size) = (header.len as u8, header.size, header.size);
        node.form = match header.representation {
            Representation::Whole(ObjectType::Blob) => Form::Whole,
            Representation::Whole(_) => Form::Other,
            Representation::OfsDelta(_) | Representation::RefDelta(_) => Form::Delta,
        };
        *base = self.packs.base(*location, header.representation, buffers);
        if node.form != Form::Delta {
            return;
        }
        node.form = Form::BadDelta;
        if header.size >= STREAMED {
            return;
        }
        delta.set_len(header.size as usize);
        let read = self.packs.inflate(*location, header.len, delta, buffers);
        let sizes = read.and_then(|()| delta::sizes(delta));
        let Some((_, size, _)) = sizes.filter(|(_, size, _)| *size < STREAMED) else { return };
        (node.form, node.size) = (Form::Delta, size);
        if header.size <= KEPT_DELTA && kept.fetch_add(delta.len(), Ordering::Relaxed) < KEPT_DELTAS {
            node.kept = Some((0, bytes.len() as u32));
            bytes.extend_from_slice(delta);
        }
    }
}
