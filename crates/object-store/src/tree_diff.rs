//! Counts the paths that differ between two trees. Equal subtrees are not read.

use std::cmp::Ordering;

use crate::error::{Error, Result};
use crate::store::Reader;
use crate::tree::{self, EntryKind, TreeEntry, compare};
use bluegreen_git_types::ObjectId;

/// A directory in the old tree, in the new one, or in both.
#[derive(Clone, Copy)]
struct Pair {
    old: Option<ObjectId>,
    new: Option<ObjectId>,
}

impl Reader<'_> {
    /// Counts the files and symlinks that were added, removed, or changed between two trees.
    pub fn count_changes(&self, old: ObjectId, new: ObjectId) -> Result<u64> {
        let mut changes = 0;
        let mut pairs = vec![Pair { old: Some(old), new: Some(new) }];
        while let Some(Pair { old, new }) = pairs.pop() {
            if old == new {
                continue;
            }
            let (old_data, new_data) = (self.tree_or_empty(old)?, self.tree_or_empty(new)?);
            changes += merge(&parse(old, &old_data)?, &parse(new, &new_data)?, &mut pairs);
        }
        Ok(changes)
    }

    fn tree_or_empty(&self, id: Option<ObjectId>) -> Result<Vec<u8>> {
        id.map_or_else(|| Ok(Vec::new()), |id| Ok(self.tree(id)?.into_owned()))
    }
}

fn parse(id: Option<ObjectId>, data: &[u8]) -> Result<Vec<TreeEntry<'_>>> {
    let Some(id) = id else { return Ok(Vec::new()) };
    tree::parse(data, id.format()).map_err(|source| Error::Tree { id, source })
}

/// Counts the differences between two directories, and adds their subdirectories to `pairs`.
fn merge(old: &[TreeEntry], new: &[TreeEntry], pairs: &mut Vec<Pair>) -> u64 {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut changes = 0;
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => compare(old, new),
        };
        let removed = if order == Ordering::Greater { None } else { old.next() };
        let added = if order == Ordering::Less { None } else { new.next() };
        let subtree = |entry: Option<&TreeEntry>| {
            entry.filter(|entry| entry.kind == EntryKind::Directory).map(|entry| entry.id)
        };
        let is_file =
            |entry: Option<&TreeEntry>| entry.is_some_and(|entry| entry.kind != EntryKind::Directory);
        let pair = Pair { old: subtree(removed), new: subtree(added) };
        if pair.old.is_some() || pair.new.is_some() {
            pairs.push(pair);
        }
        if (is_file(removed) || is_file(added)) && removed != added {
            changes += 1;
        }
    }
}
