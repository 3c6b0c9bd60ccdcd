//! The blobs that a release needs, as the packs hold them: trees of deltas, with whole blobs for roots.
//!
//! All wanted blobs are known before the first is read, so every base is found beforehand, level by level
//! and without recursion. A tree of deltas is then decoded from its root, each base once. Blobs whose chain
//! is damaged stand in no tree, and are left to the object database. Those whose chain has no end or leads to
//! no object are refused: libgit2 would follow the one for ever, and the other out of the pack.

use std::sync::Arc;

use super::buffer::Buffer;
use super::listing::{Listing, NONE};
use super::pack::{Buffers, Packs, Place, STREAMED};
use crate::error::Result;

/// The longest chain, as git's own limit on `pack.depth`.
pub(super) const MAX_CHAIN: usize = 4095;

/// From so many wanted blobs on, a tree of deltas is cut, so that several threads can share it.
const CUT: u32 = 64;

/// The wanted blobs and their bases.
#[derive(Debug, Default)]
pub struct Forest {
    pub(super) packs: Arc<Packs>,
    pub(super) nodes: Vec<Node>,
    /// For each entry of the listing its node, or [`NONE`].
    pub(super) node_of: Vec<u32>,
    /// Node and entry, by node: one blob can stand at several paths.
    pub(super) entries: Vec<(u32, u32)>,
    /// The deltas made of each node, those that most hangs on last; `first_child` says where they begin.
    children: Vec<u32>,
    /// The deltas that are kept, those of a piece in one allocation.
    pub(super) kept: Vec<Vec<u8>>,
    /// The roots of trees, and the nodes where large ones are cut, in the order of the listing.
    pub tops: Vec<u32>,
}

/// An object of a pack.
#[derive(Debug)]
pub(super) struct Node {
    pub place: Place,
    pub header_len: u8,
    pub form: Form,
    /// A tree begins here, or goes on here on its own.
    pub is_top: bool,
    /// It stands in a tree of deltas.
    pub is_in_tree: bool,
    /// The node of the base of a delta, where it is known.
    pub base: u32,
    first_child: u32,
    /// The size of what is packed: the blob, or the delta.
    pub packed_size: u64,
    /// The size of the blob, where it was looked at.
    pub(super) size: u64,
    /// The place in [`Forest::kept`] where the delta begins, if it is kept.
    pub(super) kept: Option<(u32, u32)>,
}

/// The form of an object in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    Delta,
    /// A delta that is damaged or too large.
    Unfit,
    /// A commit, a tree or a tag.
    Other,
    /// Nothing that a pack may hold.
    Unknown,
}

impl Node {
    /// A node that is not read yet.
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            header_len: 0,
            form: Form::Unknown,
            is_top: false,
            is_in_tree: false,
            base: NONE,
            first_child: 0,
            packed_size: 0,
            size: 0,
            kept: None,
        }
    }
}

impl Forest {
    /// Finds the wanted entries of a listing in the packs.
    pub fn new(packs: Arc<Packs>, listing: &Listing, wanted: &[u32], threads: usize) -> Result<Self> {
        let mut forest = Self { packs, node_of: vec![NONE; listing.entries.len()], ..Self::default() };
        let places = forest.locate(listing, wanted, threads)?;
        forest.read(&places, threads)?;
        forest.connect();
        Ok(forest)
    }

    /// The node of an entry, if a pack holds it.
    fn node(&self, entry: u32) -> Option<&Node> {
        self.nodes.get(*self.node_of.get(entry as usize)? as usize)
    }

    /// The size of a wanted blob.
    #[must_use]
    pub fn size(&self, entry: u32) -> Option<u64> {
        self.node(entry).filter(|node| node.form == Form::Whole || node.is_in_tree).map(|node| node.size)
    }

    /// Returns whether a blob stands in a tree of deltas.
    #[must_use]
    pub fn is_in_tree(&self, entry: u32) -> bool {
        self.node(entry).is_some_and(|node| node.is_in_tree)
    }

    /// Returns whether the chain of a blob has no end or leads to no object.
    #[must_use]
    pub fn is_endless(&self, entry: u32) -> bool {
        let mut node = self.node(entry);
        for _ in 0..=MAX_CHAIN {
            let Some(at) = node.filter(|at| !at.is_in_tree) else { return false };
            if !matches!(at.form, Form::Delta | Form::Unfit) {
                return at.form == Form::Unknown;
            }
            node = self.nodes.get(at.base as usize);
        }
        true
    }

    /// Reads a wanted blob that stands in no tree.
    pub fn whole<'b>(&self, entry: u32, blob: &'b mut Buffer, buffers: &mut Buffers) -> Option<&'b [u8]> {
        let node = self.node(entry).filter(|node| node.form == Form::Whole && node.size < STREAMED)?;
        blob.set_len(node.size as usize);
        self.packs.inflate(node.place, node.header_len.into(), blob, buffers)?;
        Some(blob)
    }

    /// The entries at which a node's blob stands.
    pub fn entries_of(&self, node: u32) -> impl Iterator<Item = u32> {
        let first = self.entries.partition_point(|(at, _)| *at < node);
        self.entries[first..].iter().take_while(move |(at, _)| *at == node).map(|(_, entry)| *entry)
    }

    /// The deltas that are made of a node.
    pub(super) fn children(&self, node: u32) -> &[u32] {
        let last =
            self.nodes.get(node as usize + 1).map_or(self.children.len(), |next| next.first_child as usize);
        &self.children[self.nodes[node as usize].first_child as usize..last]
    }

    /// A delta that is kept.
    pub(super) fn kept(&self, node: &Node) -> Option<&[u8]> {
        let (number, start) = node.kept?;
        self.kept.get(number as usize)?.get(start as usize..)?.get(..node.packed_size as usize)
    }

    /// Makes trees of nodes that know their bases.
    fn connect(&mut self) {
        let is_child = |node: &Node| node.base != NONE && node.form == Form::Delta;
        let children = (0..).zip(&self.nodes).filter(|(_, node)| is_child(node));
        let mut children: Vec<(u32, u32)> = children.map(|(at, node)| (node.base, at)).collect();
        children.sort_unstable();
        let mut at = 0;
        for node in 0..self.nodes.len() {
            self.nodes[node].first_child = at as u32;
            while children.get(at).is_some_and(|(base, _)| *base == node as u32) {
                at += 1;
            }
        }
        self.children = children.into_iter().map(|(_, child)| child).collect();
        // From the roots down. A cycle has no root, and is never entered.
        let is_root = |node: &u32| {
            let is = &self.nodes[*node as usize];
            is.form == Form::Whole && is.size < STREAMED && !self.children(*node).is_empty()
        };
        let mut order: Vec<(u32, u32)> =
            (0..self.nodes.len() as u32).filter(is_root).map(|root| (root, 0)).collect();
        let roots = order.len();
        let mut at = 0;
        while let Some(&(node, depth)) = order.get(at) {
            order.extend(self.children(node).iter().map(|child| (*child, depth + 1)));
            self.nodes[node as usize].is_in_tree = true;
            at += 1;
        }
        self.cut(&order, roots);
    }

    /// Cuts large trees, and puts all in the order of the listing. `order` has bases before deltas, with
    /// their depth, first the roots.
    fn cut(&mut self, order: &[(u32, u32)], roots: usize) {
        let mut weights = vec![(0, 0, NONE); self.nodes.len()];
        let mut tops = Vec::new();
        for (at, &(node, depth)) in order.iter().enumerate().rev() {
            let own = self.entries_of(node).count() as u32;
            let least = self.entries_of(node).next().unwrap_or(NONE);
            let (below, hanging, first) = weights[node as usize];
            let (all, here, first) = (below + own, hanging + own + 1, least.min(first));
            weights[node as usize] = (all, here, first);
            // What leads to a cut is decoded twice: that is never more than what hangs on it.
            if at < roots || here >= CUT.max(depth) {
                self.nodes[node as usize].is_top = true;
                tops.push((first, node));
            } else {
                let base = &mut weights[self.nodes[node as usize].base as usize];
                *base = (base.0 + all, base.1 + here, base.2.min(first));
            }
        }
        for node in 0..self.nodes.len() as u32 {
            let first = self.nodes[node as usize].first_child as usize;
            let count = self.children(node).len();
            self.children[first..first + count].sort_unstable_by_key(|child| weights[*child as usize].1);
        }
        tops.sort_unstable();
        self.tops = tops.into_iter().map(|(_, node)| node).collect();
    }
}
