//! Many blobs at once, as the packs represent them: whole, or as deltas.
//!
//! A whole blob and the deltas that are based on it, directly or indirectly, form a *delta tree*. All blobs are known before
//! the first is read, so all their bases are found first, level by level and without recursion ([`build`]). Then each delta
//! tree is decoded from its root, each base once ([`decode`]). A blob that is too large or whose delta chain is damaged is in
//! no delta tree. Read it with a [`Reader`](crate::Reader).

mod build;
pub(crate) mod decode;

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use super::{Location, MAX_IN_MEMORY, Packs};
use bluegreen_git_types::ObjectId;

/// A subtree with this many nodes and blobs is cut off its delta tree, so that several threads can share large ones.
const MIN_SUBTREE: u32 = 64;

/// Blobs in packs, and the bases of those that are deltas.
#[derive(Debug)]
pub struct PackedBlobs {
    packs: Arc<Packs>,
    nodes: Vec<Node>,
    /// The node of each requested blob, if a pack contains it.
    node_of: Vec<Option<NodeIndex>>,
    /// The requested blobs of each node. The same id may be requested several times.
    blobs: Groups<BlobIndex>,
    /// The deltas that are based on each node, in ascending order of the size of their subtrees.
    children: Groups<NodeIndex>,
    /// Deltas that were decompressed when their headers were read.
    deltas: Vec<u8>,
    subtrees: Vec<Subtree>,
}

/// The position of a blob among those that were requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobIndex(u32);

/// A part of a delta tree that one thread decodes: a whole delta tree, or what was cut off a large one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtree(NodeIndex);

/// The position of a node in [`PackedBlobs::nodes`], plus 1, so that an `Option` needs no more space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct NodeIndex(NonZero<u32>);

/// An object in a pack: a blob, or the base of one.
#[derive(Debug)]
struct Node {
    location: Location,
    header_len: u8,
    form: Form,
    is_subtree_root: bool,
    is_in_delta_tree: bool,
    /// The base of a delta, if it is known.
    base: Option<NodeIndex>,
    /// The size of the blob, or else of the delta, in bytes.
    inflated_size: u64,
    /// The size of the blob in bytes, if it is known.
    size: u64,
    /// The position of the delta in [`PackedBlobs::deltas`], if it was kept.
    delta: Option<u32>,
}

/// The form of an object in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    Delta,
    /// A delta that is damaged or too large.
    BadDelta,
    /// A commit, a tree, or a tag.
    Other,
    /// Not a valid object.
    Unknown,
}

/// The values of each node, in one array.
#[derive(Debug)]
struct Groups<T> {
    values: Vec<T>,
    /// For each node the end of its values.
    ends: Vec<u32>,
}

/// A node that is connected to the root of a delta tree, and its distance to the root.
struct Connected {
    node: NodeIndex,
    depth: u32,
}

/// A node and what is below it, without the subtrees that were cut off.
#[derive(Clone, Copy, Default)]
struct Weight {
    nodes_and_blobs: u32,
    first: Option<BlobIndex>,
}

impl BlobIndex {
    /// Creates the index of a position in the slice of ids that was passed to
    /// [`find_blobs`](crate::ObjectStore::find_blobs).
    #[must_use]
    pub fn new(position: usize) -> Self {
        Self(position as u32)
    }

    #[must_use]
    pub fn position(self) -> usize {
        self.0 as usize
    }
}

impl NodeIndex {
    fn new(position: usize) -> Self {
        Self(NonZero::<u32>::MIN.saturating_add(position as u32))
    }

    fn position(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Node {
    /// Creates a node whose header is not read yet.
    fn new(location: Location) -> Self {
        Self {
            location,
            header_len: 0,
            form: Form::Unknown,
            is_subtree_root: false,
            is_in_delta_tree: false,
            base: None,
            inflated_size: 0,
            size: 0,
            delta: None,
        }
    }
}

impl<T: Copy> Groups<T> {
    /// Groups values by node. The values of a node keep their order.
    fn new(nodes: usize, pairs: &[(NodeIndex, T)]) -> Self {
        let mut ends = vec![0; nodes];
        for (node, _) in pairs {
            ends[node.position()] += 1;
        }
        let mut end = 0;
        for count in &mut ends {
            end += std::mem::replace(count, end);
        }
        // Until its values are stored, each end is a start.
        let mut values: Vec<T> = pairs.iter().map(|(_, value)| *value).collect();
        for (node, value) in pairs {
            let at = &mut ends[node.position()];
            values[*at as usize] = *value;
            *at += 1;
        }
        Self { values, ends }
    }

    fn range(&self, node: NodeIndex) -> Range<usize> {
        let start = node.position().checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[node.position()] as usize
    }

    fn of(&self, node: NodeIndex) -> &[T] {
        &self.values[self.range(node)]
    }
}

impl PackedBlobs {
    /// Finds the packed blobs among these, in `threads` threads.
    pub(crate) fn find(packs: Arc<Packs>, ids: &[ObjectId], threads: usize) -> Self {
        let mut found = Self {
            packs,
            nodes: Vec::new(),
            node_of: vec![None; ids.len()],
            blobs: Groups { values: Vec::new(), ends: Vec::new() },
            children: Groups { values: Vec::new(), ends: Vec::new() },
            deltas: Vec::new(),
            subtrees: Vec::new(),
        };
        let located = found.locate(ids, threads);
        found.read(&located, threads);
        found.connect();
        found
    }

    /// Returns the subtrees that contain all blobs of delta trees, in the order of the requested blobs.
    #[must_use]
    pub fn subtrees(&self) -> &[Subtree] {
        &self.subtrees
    }

    /// Returns the size of a blob in bytes, if it is in a pack and its size is known.
    #[must_use]
    pub fn size(&self, blob: BlobIndex) -> Option<u64> {
        self.requested(blob)
            .filter(|node| node.form == Form::Whole || node.is_in_delta_tree)
            .map(|node| node.size)
    }

    /// Returns whether decoding the [subtrees](Self::subtrees) yields a blob.
    #[must_use]
    pub fn is_in_delta_tree(&self, blob: BlobIndex) -> bool {
        self.requested(blob).is_some_and(|node| node.is_in_delta_tree)
    }

    fn requested(&self, blob: BlobIndex) -> Option<&Node> {
        Some(self.node((*self.node_of.get(blob.position())?)?))
    }

    fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.position()]
    }

    fn node_mut(&mut self, index: NodeIndex) -> &mut Node {
        &mut self.nodes[index.position()]
    }

    /// Returns an upper bound on the number of bytes that a node takes in its pack: the distance to the next node. Most
    /// blobs of one commit are neighbors, and nodes are in the order of their locations.
    fn room(&self, node: NodeIndex) -> Option<usize> {
        let this = self.node(node).location;
        let next = self.nodes.get(node.position() + 1)?.location;
        let room = next.offset.checked_sub(this.offset).filter(|_| next.pack == this.pack)?;
        Some(room as usize)
    }

    /// Returns the bytes of a delta, if they were kept.
    fn kept_delta(&self, node: NodeIndex) -> Option<&[u8]> {
        let node = self.node(node);
        self.deltas.get(node.delta? as usize..)?.get(..node.inflated_size as usize)
    }

    /// Builds the delta trees from the bases of all nodes.
    fn connect(&mut self) {
        let nodes = (0..).map(NodeIndex::new).zip(&self.nodes);
        let is_delta = |node: &Node| node.form == Form::Delta;
        let edges = nodes.clone().filter(|(_, node)| is_delta(node));
        let edges: Vec<_> = edges.filter_map(|(index, node)| Some((node.base?, index))).collect();
        self.children = Groups::new(self.nodes.len(), &edges);
        // A cycle has no root, so no traversal enters it.
        let is_root = |node: &Node| node.form == Form::Whole && node.size < MAX_IN_MEMORY;
        let roots = nodes.filter(|(_, node)| is_root(node));
        let mut order: Vec<_> = roots.map(|(node, _)| Connected { node, depth: 0 }).collect();
        let roots = order.len();
        let mut at = 0;
        while let Some(&Connected { node, depth }) = order.get(at) {
            let children = self.children.of(node).iter();
            order.extend(children.map(|&node| Connected { node, depth: depth + 1 }));
            self.node_mut(node).is_in_delta_tree = true;
            at += 1;
        }
        self.cut(&order, roots);
    }

    /// Cuts large delta trees, and sorts all subtrees in the order of the requested blobs. `order` contains the roots first,
    /// and every base before its deltas.
    fn cut(&mut self, order: &[Connected], roots: usize) {
        let mut weights = vec![Weight::default(); self.nodes.len()];
        let mut subtrees = Vec::new();
        for (at, &Connected { node, depth }) in order.iter().enumerate().rev() {
            let (blobs, below) = (self.blobs.of(node), weights[node.position()]);
            let first = [blobs.first().copied(), below.first].into_iter().flatten().min();
            let weight = Weight { nodes_and_blobs: below.nodes_and_blobs + blobs.len() as u32 + 1, first };
            weights[node.position()] = weight;
            // The chain that leads to a cut is decoded twice. So a subtree is never smaller than its depth.
            let is_cut = at < roots || weight.nodes_and_blobs >= MIN_SUBTREE.max(depth);
            if let Some(base) = self.node(node).base.filter(|_| !is_cut) {
                let base = &mut weights[base.position()];
                base.nodes_and_blobs += weight.nodes_and_blobs;
                base.first = [base.first, first].into_iter().flatten().min();
            } else {
                self.node_mut(node).is_subtree_root = true;
                subtrees.push((first.map_or(u32::MAX, |first| first.0), node));
            }
        }
        for node in (0..self.nodes.len()).map(NodeIndex::new) {
            let children = self.children.range(node);
            self.children.values[children]
                .sort_unstable_by_key(|child| weights[child.position()].nodes_and_blobs);
        }
        subtrees.sort_unstable();
        self.subtrees = subtrees.into_iter().map(|(_, node)| Subtree(node)).collect();
    }
}
