//! Counts the paths that differ between two trees, without reading equal subtrees.

use std::borrow::Cow;
use std::cmp::Ordering;

use git2::Oid;

use super::objects::Reader;
use super::tree::{self, Kind, TreeEntry, order};
use crate::error::{Error, Result};

/// Counts the files and links that were added, removed or changed from `old` to `new`.
pub fn count(reader: &Reader, id_len: usize, old: Oid, new: Oid) -> Result<u64> {
    let mut changed = 0;
    let mut pairs = vec![(Some(old), Some(new))];
    while let Some((old, new)) = pairs.pop() {
        if old == new {
            continue;
        }
        let read = |id: Option<Oid>| id.map(|id| reader.tree(id)).transpose();
        let (old, new) = (read(old)?, read(new)?);
        let entries = |tree: &Option<Cow<[u8]>>| match tree {
            Some(tree) => tree::parse(tree, id_len)
                .map(|entries| {
                    entries.iter().map(|entry| (entry.kind, entry.name.to_vec(), id(entry))).collect()
                })
                .map_err(|unfit| Error::Usage(unfit.problem.into())),
            None => Ok(Vec::new()),
        };
        let (old, new): (Vec<_>, Vec<_>) = (entries(&old)?, entries(&new)?);
        changed += merge(&old, &new, &mut pairs);
    }
    Ok(changed)
}

type Owned = (Kind, Vec<u8>, Oid);

/// Counts the differences between two directories, and adds their subdirectories to `pairs`, to be compared too.
fn merge(old: &[Owned], new: &[Owned], pairs: &mut Vec<(Option<Oid>, Option<Oid>)>) -> u64 {
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    let mut changed = 0;
    loop {
        let side = match (left.peek(), right.peek()) {
            (None, None) => return changed,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(&borrow(a), &borrow(b)),
        };
        let a = if side == Ordering::Greater { None } else { left.next() };
        let b = if side == Ordering::Less { None } else { right.next() };
        let tree =
            |entry: Option<&Owned>| entry.filter(|entry| entry.0 == Kind::Directory).map(|entry| entry.2);
        let is_file = |entry: Option<&Owned>| entry.is_some_and(|entry| entry.0 != Kind::Directory);
        if tree(a).is_some() || tree(b).is_some() {
            pairs.push((tree(a), tree(b)));
        }
        if (is_file(a) || is_file(b)) && a != b {
            changed += 1;
        }
    }
}

fn borrow(entry: &Owned) -> TreeEntry<'_> {
    TreeEntry { kind: entry.0, name: &entry.1, id: &[] }
}

fn id(entry: &TreeEntry) -> Oid {
    Oid::from_bytes(entry.id).unwrap_or(Oid::ZERO_SHA1)
}
