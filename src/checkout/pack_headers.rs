//! The wanted blobs are looked up in the indexes, and their headers are read, then those of their bases, level
//! by level, in all threads.

use std::collections::HashMap;
use std::mem::take;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::buffer::Buffer;
use super::delta;
use super::listing::{Listing, NONE};
use super::pack::{Base, Buffers, Place, STREAMED};
use super::pack_forest::{Forest, Form, MAX_CHAIN, Node};
use super::parallel::{PIECE, for_each_piece};
use crate::error::Result;

/// The most objects that are noted, wanted ones and bases: about 100 bytes each.
const MAX_NODES: usize = 1 << 20;

/// Fewer objects than these are not worth another thread.
const FEW: usize = 4 * PIECE;

/// Deltas up to this size are kept from the look at their sizes on, up to so many bytes all together.
const KEPT_DELTA: u64 = 256 << 10;
const KEPT_DELTAS: usize = 16 << 20;

/// A node that is being read.
struct Pending {
    place: Place,
    node: Node,
    base: Option<Place>,
}

/// The part of one thread in reading headers.
#[derive(Default)]
struct Hand {
    buffers: Buffers,
    delta: Buffer,
    /// The deltas of one piece that are kept.
    kept: Vec<u8>,
}

impl Forest {
    /// Looks all wanted blobs up in the indexes, by id, so that neighbours share what is read.
    pub(super) fn locate(
        &self,
        listing: &Listing,
        wanted: &[u32],
        threads: usize,
    ) -> Result<Vec<(Place, u32)>> {
        let key = |entry: u32| {
            let start = listing.raw_id(entry).get(..8).and_then(|bytes| bytes.try_into().ok());
            start.map_or(0, u64::from_be_bytes)
        };
        let mut found: Vec<_> = wanted.iter().map(|&entry| (key(entry), entry, None)).collect();
        found.sort_unstable_by_key(|(key, entry, _)| (*key, *entry));
        let work = |buffers: &mut Buffers, _, piece: &mut [(u64, u32, Option<Place>)]| {
            for (_, entry, place) in piece {
                *place = self.packs.find(listing.raw_id(*entry), buffers);
            }
            Ok(())
        };
        let start = || Ok(Buffers::for_lookups(wanted.len() as u32));
        for_each_piece(threads, PIECE, &mut found, start, work, || Ok(()))?;
        let mut places: Vec<_> =
            found.into_iter().filter_map(|(_, entry, place)| Some((place?, entry))).collect();
        places.sort_unstable();
        Ok(places)
    }

    /// Reads the headers of all wanted blobs, then of their bases, then of theirs.
    pub(super) fn read(&mut self, places: &[(Place, u32)], threads: usize) -> Result<()> {
        let kept = AtomicUsize::new(0);
        let mut known: HashMap<Place, u32> = HashMap::new();
        let mut level: Vec<Place> = places.iter().map(|(place, _)| *place).collect();
        level.dedup();
        // The deltas whose base is still to be found.
        let mut waiting: Vec<(u32, Place)> = Vec::new();
        for _ in 0..=MAX_CHAIN {
            level.truncate(MAX_NODES.saturating_sub(self.nodes.len()));
            let pending = self.read_level(&level, &kept, threads)?;
            let mut next = Vec::new();
            for Pending { place, node, base } in pending {
                known.insert(place, self.nodes.len() as u32);
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
        for (place, entry) in places {
            if let Some(&node) = known.get(place) {
                self.node_of[*entry as usize] = node;
                self.entries.push((node, *entry));
            }
        }
        self.entries.sort_unstable();
        Ok(())
    }

    /// Reads the headers at these places, in all threads.
    fn read_level(&mut self, level: &[Place], kept: &AtomicUsize, threads: usize) -> Result<Vec<Pending>> {
        let unread = |&place| Pending { place, node: Node::new(place), base: None };
        let mut pending: Vec<_> = level.iter().map(unread).collect();
        let all = Mutex::new(take(&mut self.kept));
        let work = |hand: &mut Hand, _, piece: &mut [Pending]| {
            hand.kept.clear();
            for pending in &mut *piece {
                self.read_node(pending, kept, hand);
            }
            if !hand.kept.is_empty() {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let nodes = piece.iter_mut().filter_map(|pending| pending.node.kept.as_mut());
                nodes.for_each(|(number, _)| *number = all.len() as u32);
                all.push(hand.kept.as_slice().into());
            }
            Ok(())
        };
        // The far ends of chains are few, and soon read by one thread.
        let threads = if level.len() < FEW { 1 } else { threads };
        for_each_piece(threads, PIECE, &mut pending, || Ok(Hand::default()), work, || Ok(()))?;
        self.kept = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(pending)
    }

    fn read_node(&self, pending: &mut Pending, kept: &AtomicUsize, hand: &mut Hand) {
        let Hand { buffers, delta, kept: bytes } = hand;
        let Pending { place, node, base } = pending;
        let Some(header) = self.packs.header(*place, buffers) else { return };
        (node.header_len, node.packed_size, node.size) = (header.len as u8, header.size, header.size);
        (node.form, *base) = match header.base {
            Base::Whole => (Form::Whole, None),
            Base::Tree | Base::Other => (Form::Other, None),
            Base::Offset(offset) => (Form::Delta, Some(Place { offset, ..*place })),
            Base::Id(id) => (Form::Delta, self.packs.find_near(place.pack, &id, buffers)),
        };
        if node.form != Form::Delta {
            return;
        }
        node.form = Form::Unfit;
        if header.size >= STREAMED {
            return;
        }
        delta.set_len(header.size as usize);
        let read = self.packs.inflate(*place, header.len, delta, buffers);
        let sizes = read.and_then(|()| delta::sizes(delta));
        let Some((_, size, _)) = sizes.filter(|(_, size, _)| *size < STREAMED) else { return };
        (node.form, node.size) = (Form::Delta, size);
        if header.size <= KEPT_DELTA && kept.fetch_add(delta.len(), Ordering::Relaxed) < KEPT_DELTAS {
            node.kept = Some((0, bytes.len() as u32));
            bytes.extend_from_slice(delta);
        }
    }
}
