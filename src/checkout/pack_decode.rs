//! A tree of deltas becomes blobs: each base is decoded once, and held no longer than it is needed.
//!
//! The way from the root of a tree to the delta at hand is a stack of bases. A base is dropped when its last
//! delta is reached, which is the one that most hangs on: so the stack holds few, however long the chain is.
//! If they are too large all the same, the first ones are dropped, and decoded again when they are needed.

use super::buffer::{Buffer, Pool};
use super::delta;
use super::listing::NONE;
use super::pack::{Buffers, STREAMED};
use super::pack_forest::{Forest, Form};
use crate::error::Result;

/// The most bytes of bases that one thread holds.
const HELD: usize = 16 << 20;

/// A decoder of trees, for one thread.
#[derive(Default)]
pub struct Decoder {
    buffers: Buffers,
    blob: Buffer,
    pool: Pool,
}

/// A base on the way to the delta at hand.
struct Step {
    node: u32,
    next_child: usize,
    /// Its content, while it is held.
    content: Option<Buffer>,
    is_damaged: bool,
}

impl Decoder {
    /// Reads a wanted blob that stands in no tree.
    pub fn whole(&mut self, forest: &Forest, entry: u32) -> Option<&[u8]> {
        forest.whole(entry, &mut self.blob, &mut self.buffers)
    }

    /// Decodes the tree that begins at `top`, up to where others begin. `take` gets each node with its
    /// content, or without it where something is damaged.
    pub fn decode(
        &mut self,
        forest: &Forest,
        top: u32,
        mut take: impl FnMut(u32, Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        let content = self.content(forest, &[], top);
        take(top, content.as_deref())?;
        let mut way = vec![Step { node: top, next_child: 0, is_damaged: content.is_none(), content }];
        while let Some(step) = way.last_mut() {
            let children = forest.children(step.node);
            let Some(&child) = children.get(step.next_child) else {
                let content = way.pop().and_then(|step| step.content);
                self.release(content);
                continue;
            };
            step.next_child += 1;
            let (is_last, is_damaged) = (step.next_child == children.len(), step.is_damaged);
            if forest.nodes[child as usize].is_top {
                continue;
            }
            let content = if is_damaged { None } else { self.content(forest, &way, child) };
            if is_last && let Some(step) = way.last_mut() {
                self.release(step.content.take());
            }
            take(child, content.as_deref())?;
            way.push(Step { node: child, next_child: 0, is_damaged: content.is_none(), content });
            self.drop_first(&mut way);
        }
        Ok(())
    }

    /// Decodes a node from the nearest base that is held, or from the root.
    fn content(&mut self, forest: &Forest, way: &[Step], node: u32) -> Option<Buffer> {
        let mut deltas = Vec::new();
        let mut held = way.iter().rev();
        let mut at = node;
        let mut base: Option<Buffer> = None;
        let mut nearest: Option<&[u8]> = None;
        while forest.nodes[at as usize].form == Form::Delta {
            deltas.push(at);
            at = forest.nodes[at as usize].base;
            if at == NONE {
                return None;
            }
            nearest = held.next().and_then(|step| step.content.as_deref());
            if nearest.is_some() {
                break;
            }
        }
        if nearest.is_none() {
            base = Some(self.root(forest, at)?);
        }
        for node in deltas.into_iter().rev() {
            let result = self.apply(forest, node, base.as_deref().or(nearest)?)?;
            self.release(base.replace(result));
        }
        base
    }

    fn root(&mut self, forest: &Forest, node: u32) -> Option<Buffer> {
        let node = &forest.nodes[node as usize];
        let mut content = self.buffer(node.packed_size)?;
        forest.packs.inflate(node.place, node.header_len.into(), &mut content, &mut self.buffers)?;
        Some(content)
    }

    fn apply(&mut self, forest: &Forest, node: u32, base: &[u8]) -> Option<Buffer> {
        let node = &forest.nodes[node as usize];
        if let Some(delta) = forest.kept(node) {
            return self.result(base, delta);
        }
        let mut delta = self.buffer(node.packed_size)?;
        forest.packs.inflate(node.place, node.header_len.into(), &mut delta, &mut self.buffers)?;
        let result = self.result(base, &delta);
        self.pool.give(delta);
        result
    }

    fn result(&mut self, base: &[u8], delta: &[u8]) -> Option<Buffer> {
        let mut result = self.buffer(delta::sizes(delta)?.1)?;
        delta::apply(base, delta, &mut result)?;
        Some(result)
    }

    /// A buffer of a size that a pack claims.
    fn buffer(&mut self, size: u64) -> Option<Buffer> {
        let size = usize::try_from(size).ok().filter(|_| size < STREAMED)?;
        Some(self.pool.take(size))
    }

    fn release(&mut self, buffer: Option<Buffer>) {
        if let Some(buffer) = buffer {
            self.pool.give(buffer);
        }
    }

    /// Drops the bases that are needed last, if all together are too large; never the last one.
    fn drop_first(&mut self, way: &mut [Step]) {
        let mut held: usize =
            way.iter().filter_map(|step| step.content.as_ref()).map(|content| content.len()).sum();
        let Some((_, before)) = way.split_last_mut() else { return };
        for step in before {
            if held <= HELD {
                break;
            }
            held -= step.content.as_ref().map_or(0, |content| content.len());
            self.release(step.content.take());
        }
    }
}
