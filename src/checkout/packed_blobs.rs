//! The blobs that a release needs, as the packs hold them: whole, or as deltas.
//!
//! Several deltas can have the same base, so each whole blob and the deltas made of it, if there are any, form a *delta
//! tree*. All blobs of a release are known before the first is read, so all their bases are found first, level by level and
//! without recursion. Each delta tree is then decoded from its root, each base once. A blob that is too large or whose delta
//! chain is damaged is in no delta tree, and is left to [`super::objects`].

use std::ops::Range;
use std::sync::Arc;

use super::listing::{Listing, NONE};
use super::pack::{Location, Packs, STREAMED};
use crate::error::Result;

/// A delta tree with more blobs than this is cut, so that several threads can share it.
const CUT: u32 = 64;

/// The blobs that a release needs, and the bases of those that are deltas.
#[derive(Debug, Default)]
pub struct PackedBlobs {
    pub(super) packs: Arc<Packs>,
    pub(super) nodes: Vec<Node>,
    /// For each entry of the listing its node, or [`NONE`].
    pub(super) node_of: Vec<u32>,
    /// The entries of each node: one blob can be at several paths.
    pub(super) entries: Grouped,
    /// The deltas made of each node, from the one with the smallest subtree to the one with the largest.
    children: Grouped,
    /// The deltas that were kept when their headers were read.
    pub(super) kept: Vec<u8>,
    /// The roots of delta trees, and the nodes where large ones are cut, in the order of the listing. One thread decodes
    /// such a subtree.
    pub subtrees: Vec<u32>,
}

/// A blob or a base, in a pack.
#[derive(Debug)]
pub(super) struct Node {
    pub location: Location,
    pub header_len: u8,
    pub form: Form,
    /// One thread begins to decode here: at the root of a delta tree, or where it is cut.
    pub is_subtree_root: bool,
    /// It is part of a delta tree.
    pub is_in_delta_tree: bool,
    /// The node of the base of a delta, where it is known.
    pub base: u32,
    /// The size of the blob, or else of the delta, in bytes.
    pub packed_size: u64,
    /// The size of the blob in bytes, if it is known.
    pub(super) size: u64,
    /// The position in [`PackedBlobs::kept`] where the delta begins, if it is kept.
    pub(super) kept: Option<u32>,
}

/// Numbers that belong to nodes, in one array.
#[derive(Debug, Default)]
pub(super) struct Grouped {
    numbers: Vec<u32>,
    /// For each node the end of its numbers.
    ends: Vec<u32>,
}

/// The form of an object in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    Delta,
    /// A delta that is damaged or too large.
    BadDelta,
    /// A commit, a tree or a tag.
    Other,
    /// Nothing that a pack may hold.
    Unknown,
}

impl Node {
    /// Makes a node that is not read yet.
    pub(super) fn new(location: Location) -> Self {
        Self {
            location,
            header_len: 0,
            form: Form::Unknown,
            is_subtree_root: false,
            is_in_delta_tree: false,
            base: NONE,
            packed_size: 0,
            size: 0,
            kept: None,
        }
    }
}

impl Grouped {
    /// Groups pairs of node and number; the numbers of a node keep their order.
    pub(super) fn new(nodes: usize, pairs: &[(u32, u32)]) -> Self {
        let mut ends = vec![0; nodes];
        for (node, _) in pairs {
            ends[*node as usize] += 1;
        }
        let mut end = 0;
        for count in &mut ends {
            end += std::mem::replace(count, end);
        }
        // Each end is a start until its numbers are there.
        let mut numbers = vec![0; pairs.len()];
        for (node, number) in pairs {
            let at = &mut ends[*node as usize];
            numbers[*at as usize] = *number;
            *at += 1;
        }
        Self { numbers, ends }
    }

    fn range(&self, node: u32) -> Range<usize> {
        let start = node.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        start as usize..self.ends[node as usize] as usize
    }

    fn of(&self, node: u32) -> &[u32] {
        &self.numbers[self.range(node)]
    }
}

impl PackedBlobs {
    /// Finds the blobs of these entries of a listing in the packs.
    pub fn new(packs: Arc<Packs>, listing: &Listing, wanted: &[u32], threads: usize) -> Result<Self> {
        let mut packed = Self { packs, node_of: vec![NONE; listing.entries.len()], ..Self::default() };
        let locations = packed.locate(listing, wanted, threads)?;
        packed.read(&locations, threads)?;
        packed.connect();
        Ok(packed)
    }

    /// Finds the node of an entry, if a pack holds its blob.
    fn node(&self, entry: u32) -> Option<&Node> {
        self.nodes.get(*self.node_of.get(entry as usize)? as usize)
    }

    /// Gives the size of a blob, if it is known.
    #[must_use]
    pub fn size(&self, entry: u32) -> Option<u64> {
        self.node(entry)
            .filter(|node| node.form == Form::Whole || node.is_in_delta_tree)
            .map(|node| node.size)
    }

    /// Returns whether a blob is part of a delta tree.
    #[must_use]
    pub fn is_in_delta_tree(&self, entry: u32) -> bool {
        self.node(entry).is_some_and(|node| node.is_in_delta_tree)
    }

    /// Gives the entries whose blob is this node.
    #[must_use]
    pub fn entries_of(&self, node: u32) -> &[u32] {
        self.entries.of(node)
    }

    /// Gives the deltas that are made of a node.
    pub(super) fn children(&self, node: u32) -> &[u32] {
        self.children.of(node)
    }

    /// Gives the number of bytes from a node to the next one in the same pack, which are at least its own: nodes were found in
    /// the order of their locations. Blobs of one commit are mostly neighbours.
    pub(super) fn room(&self, node: u32) -> usize {
        let location = |node: usize| self.nodes.get(node).map(|node| node.location);
        let (this, next) = (location(node as usize), location(node as usize + 1));
        let room = this.zip(next).filter(|(this, next)| this.pack == next.pack);
        room.and_then(|(this, next)| next.offset.checked_sub(this.offset))
            .map_or(usize::MAX, |room| room as usize)
    }

    /// Gives the bytes of a delta, if they were kept.
    pub(super) fn kept(&self, node: u32) -> Option<&[u8]> {
        let node = &self.nodes[node as usize];
        self.kept.get(node.kept? as usize..)?.get(..node.packed_size as usize)
    }

    /// Makes delta trees of the nodes, which know their bases.
    fn connect(&mut self) {
        let is_child = |node: &Node| node.base != NONE && node.form == Form::Delta;
        let children = (0..).zip(&self.nodes).filter(|(_, node)| is_child(node));
        let children: Vec<(u32, u32)> = children.map(|(at, node)| (node.base, at)).collect();
        self.children = Grouped::new(self.nodes.len(), &children);
        // A cycle has no root, so that it is never entered from one.
        let is_root = |node: &u32| {
            let is = &self.nodes[*node as usize];
            is.form == Form::Whole && is.size < STREAMED
        };
        let mut order: Vec<(u32, u32)> =
            (0..self.nodes.len() as u32).filter(is_root).map(|root| (root, 0)).collect();
        let roots = order.len();
        let mut at = 0;
        while let Some(&(node, depth)) = order.get(at) {
            order.extend(self.children(node).iter().map(|child| (*child, depth + 1)));
            self.nodes[node as usize].is_in_delta_tree = true;
            at += 1;
        }
        self.cut(&order, roots);
    }

    /// Cuts large delta trees, and sorts all subtrees in the order of the listing. `order` has nodes with their depth: first
    /// the roots, and every base before its deltas.
    fn cut(&mut self, order: &[(u32, u32)], roots: usize) {
        let mut weights = vec![(0, 0, NONE); self.nodes.len()];
        let mut subtrees = Vec::new();
        for (at, &(node, depth)) in order.iter().enumerate().rev() {
            let own = self.entries_of(node).len() as u32;
            let least = self.entries_of(node).first().copied().unwrap_or(NONE);
            let (below, hanging, first) = weights[node as usize];
            let (all, here, first) = (below + own, hanging + own + 1, least.min(first));
            weights[node as usize] = (all, here, first);
            // The chain that leads to a cut is decoded twice, so a subtree is never smaller than its depth.
            if at < roots || here >= CUT.max(depth) {
                self.nodes[node as usize].is_subtree_root = true;
                subtrees.push((first, node));
            } else {
                let base = &mut weights[self.nodes[node as usize].base as usize];
                *base = (base.0 + all, base.1 + here, base.2.min(first));
            }
        }
        for node in 0..self.nodes.len() as u32 {
            let children = self.children.range(node);
            self.children.numbers[children].sort_unstable_by_key(|child| weights[*child as usize].1);
        }
        subtrees.sort_unstable();
        self.subtrees = subtrees.into_iter().map(|(_, node)| node).collect();
    }
}
