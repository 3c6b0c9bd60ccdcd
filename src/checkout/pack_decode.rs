//! Decodes delta trees: each base is decoded once, and held no longer than it is needed.
//!
//! The bases on the path from the root to the current delta form a stack. The content of a base is dropped once its last
//! delta is decoded. The last one is the one with the largest subtree, so the stack holds the content of few bases, however
//! long the chain is. If they are too large all the same, the first ones are dropped, and decoded again when they are needed.

use super::buffer::{Buffer, Pool};
use super::delta;
use super::listing::NONE;
use super::pack::{Buffers, STREAMED};
use super::packed_blobs::{Form, Node, PackedBlobs};
use crate::error::Result;

/// The most bytes of bases that one thread holds.
const MAX_HELD: usize = 16 << 20;

/// A decoder of delta trees, for one thread.
#[derive(Default)]
pub struct Decoder {
    buffers: Buffers,
    pool: Pool,
}

/// A base on the path to the current delta.
struct Base {
    node: u32,
    next_child: usize,
    /// Its content, while it is held.
    content: Option<Buffer>,
    is_damaged: bool,
}

impl Decoder {
    /// Decodes the subtree that begins at `root`, without the subtrees that begin below it. `take` gets each node with its
    /// content, or without it if something is damaged.
    pub fn decode(
        &mut self,
        packed: &PackedBlobs,
        root: u32,
        mut take: impl FnMut(u32, Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        let content = self.content(packed, &[], root);
        take(root, content.as_deref())?;
        let mut stack = vec![Base { node: root, next_child: 0, is_damaged: content.is_none(), content }];
        while let Some(top) = stack.last_mut() {
            let children = packed.children(top.node);
            let Some(&child) = children.get(top.next_child) else {
                let content = stack.pop().and_then(|base| base.content);
                self.release(content);
                continue;
            };
            top.next_child += 1;
            let (is_last, is_damaged) = (top.next_child == children.len(), top.is_damaged);
            if packed.nodes[child as usize].is_subtree_root {
                continue;
            }
            let content = if is_damaged { None } else { self.content(packed, &stack, child) };
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
    fn content(&mut self, packed: &PackedBlobs, stack: &[Base], node: u32) -> Option<Buffer> {
        let mut deltas = Vec::new();
        let mut held = stack.iter().rev();
        let mut at = node;
        let mut base: Option<Buffer> = None;
        let mut nearest: Option<&[u8]> = None;
        while packed.nodes[at as usize].form == Form::Delta {
            deltas.push(at);
            at = packed.nodes[at as usize].base;
            if at == NONE {
                return None;
            }
            nearest = held.next().and_then(|base| base.content.as_deref());
            if nearest.is_some() {
                break;
            }
        }
        if nearest.is_none() {
            base = Some(self.inflate(packed, at)?);
        }
        for node in deltas.into_iter().rev() {
            let result = self.apply(packed, node, base.as_deref().or(nearest)?)?;
            self.release(base.replace(result));
        }
        base
    }

    /// Decompresses a whole blob, or the bytes of a delta.
    fn inflate(&mut self, packed: &PackedBlobs, node: u32) -> Option<Buffer> {
        let Node { location, header_len, packed_size, .. } = packed.nodes[node as usize];
        let mut content = self.buffer(packed_size)?;
        packed.packs.inflate(
            location,
            header_len.into(),
            packed.room(node),
            &mut content,
            &mut self.buffers,
        )?;
        Some(content)
    }

    fn apply(&mut self, packed: &PackedBlobs, node: u32, base: &[u8]) -> Option<Buffer> {
        if let Some(delta) = packed.kept(node) {
            return self.result(base, delta);
        }
        let delta = self.inflate(packed, node)?;
        let result = self.result(base, &delta);
        self.pool.give(delta);
        result
    }

    fn result(&mut self, base: &[u8], delta: &[u8]) -> Option<Buffer> {
        let mut result = self.buffer(delta::sizes(delta)?.1)?;
        delta::apply(base, delta, &mut result)?;
        Some(result)
    }

    /// Takes a buffer of a size that a pack claims.
    fn buffer(&mut self, size: u64) -> Option<Buffer> {
        let size = usize::try_from(size).ok().filter(|_| size < STREAMED)?;
        Some(self.pool.take(size))
    }

    fn release(&mut self, buffer: Option<Buffer>) {
        if let Some(buffer) = buffer {
            self.pool.give(buffer);
        }
    }

    /// Drops the contents that are needed last, if all together are too large; never that of the last base.
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
