//! Decodes delta trees: each base is decoded once, and kept no longer than necessary.
//!
//! The bases on the path from the root to the current delta form a stack. The content of a base is dropped before its last
//! delta is descended into. That is the delta with the largest subtree, so the stack holds the content of few bases, however
//! long the chain. If they are still too large, the first ones are dropped, and decoded again when they are needed.

use super::{BlobIndex, Form, Node, NodeIndex, PackedBlobs, Subtree};
use crate::pack::buffer::{Buffer, Pool};
use crate::pack::delta::{self, DeltaHeader};
use crate::pack::{Buffers, MAX_IN_MEMORY};

/// The maximum size of the bases that one thread holds, in bytes.
const MAX_HELD: usize = 16 << 20;

/// A decoder of delta trees, for one thread.
#[derive(Default)]
pub struct Decoder {
    buffers: Buffers,
    pool: Pool,
}

/// A blob of a delta tree.
#[derive(Debug, Clone, Copy)]
pub struct DecodedBlob<'a> {
    /// The requested blobs that have this content.
    pub blobs: &'a [BlobIndex],
    /// [`None`] if it is damaged.
    pub content: Option<&'a [u8]>,
    /// Whether the pack contains it as a delta.
    pub is_delta: bool,
}

/// A base on the path to the current delta.
struct Base {
    node: NodeIndex,
    next_child: usize,
    /// The content, while it is held.
    content: Option<Buffer>,
    is_damaged: bool,
}

impl Decoder {
    /// Decodes a subtree, and passes each of its nodes to `take`. Returns the first error of `take`.
    pub fn decode<E>(
        &mut self,
        blobs: &PackedBlobs,
        Subtree(root): Subtree,
        mut take: impl FnMut(DecodedBlob) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut take = |node, content: Option<&[u8]>| {
            let is_delta = blobs.node(node).form == Form::Delta;
            take(DecodedBlob { blobs: blobs.blobs.of(node), content, is_delta })
        };
        let content = self.content(blobs, &[], root);
        take(root, content.as_deref())?;
        let mut stack = vec![Base { node: root, next_child: 0, is_damaged: content.is_none(), content }];
        while let Some(top) = stack.last_mut() {
            let children = blobs.children.of(top.node);
            let Some(&child) = children.get(top.next_child) else {
                let content = stack.pop().and_then(|base| base.content);
                self.release(content);
                continue;
            };
            top.next_child += 1;
            let (is_last, is_damaged) = (top.next_child == children.len(), top.is_damaged);
            if blobs.node(child).is_subtree_root {
                continue;
            }
            let content = if is_damaged { None } else { self.content(blobs, &stack, child) };
            if is_last && let Some(top) = stack.last_mut() {
                self.release(top.content.take());
            }
            take(child, content.as_deref())?;
            stack.push(Base { node: child, next_child: 0, is_damaged: content.is_none(), content });
            self.drop_first(&mut stack);
        }
        Ok(())
    }

    /// Decodes a node from the nearest base whose content is held, or else from the root of the delta tree.
    fn content(&mut self, blobs: &PackedBlobs, stack: &[Base], node: NodeIndex) -> Option<Buffer> {
        let mut deltas = Vec::new();
        let mut held = stack.iter().rev();
        let mut at = node;
        let mut base: Option<Buffer> = None;
        let mut nearest: Option<&[u8]> = None;
        while blobs.node(at).form == Form::Delta {
            deltas.push(at);
            at = blobs.node(at).base?;
            nearest = held.next().and_then(|base| base.content.as_deref());
            if nearest.is_some() {
                break;
            }
        }
        if nearest.is_none() {
            base = Some(self.inflate(blobs, at)?);
        }
        for node in deltas.into_iter().rev() {
            let result = self.apply(blobs, node, base.as_deref().or(nearest)?)?;
            self.release(base.replace(result));
        }
        base
    }

    /// Decompresses a whole blob, or the bytes of a delta.
    fn inflate(&mut self, blobs: &PackedBlobs, node: NodeIndex) -> Option<Buffer> {
        let &Node { location, header_len, inflated_size, .. } = blobs.node(node);
        let mut content = self.buffer(inflated_size)?;
        let room = blobs.room(node);
        blobs.packs.inflate(location, header_len.into(), room, &mut content, &mut self.buffers)?;
        Some(content)
    }

    fn apply(&mut self, blobs: &PackedBlobs, node: NodeIndex, base: &[u8]) -> Option<Buffer> {
        if let Some(delta) = blobs.kept_delta(node) {
            return self.result(base, delta);
        }
        let delta = self.inflate(blobs, node)?;
        let result = self.result(base, &delta);
        self.pool.put(delta);
        result
    }

    fn result(&mut self, base: &[u8], delta: &[u8]) -> Option<Buffer> {
        let mut result = self.buffer(DeltaHeader::parse(delta)?.result_size)?;
        delta::apply(base, delta, &mut result)?;
        Some(result)
    }

    /// Takes a buffer of a size that a pack claims.
    fn buffer(&mut self, size: u64) -> Option<Buffer> {
        let size = usize::try_from(size).ok().filter(|_| size < MAX_IN_MEMORY)?;
        Some(self.pool.take(size))
    }

    fn release(&mut self, buffer: Option<Buffer>) {
        if let Some(buffer) = buffer {
            self.pool.put(buffer);
        }
    }

    /// If the contents are too large together, drops those that are needed last. Keeps the content of the last base.
    fn drop_first(&mut self, stack: &mut [Base]) {
        let mut held: usize =
            stack.iter().filter_map(|base| base.content.as_ref()).map(|content| content.len()).sum();
        let Some((_, before)) = stack.split_last_mut() else { return };
        for base in before {
            if held <= MAX_HELD {
                break;
            }
            held -= base.content.as_ref().map_or(0, |content| content.len());
            self.release(base.content.take());
        }
    }
}
