//! Prepares the directories of a release, before its files are written.
//!
//! Parents precede children. A directory is kept, created, or removed with its content and created again. Names that the new
//! release does not contain are removed. Files are compared later, before they are written ([`super::write`]).

use std::io::{self, ErrorKind};
use std::ops::Range;

use bluegreen_sys::dir::Dir;
use bluegreen_sys::parallel::{PIECE, for_each_piece};
use rustix::fs::Stat;

use super::error::{Error, Result};
use super::listing::{Directory, Listing, NONE};
use super::manifest::Manifest;
use super::plan::Plan;
use super::walk::Walk;

/// The number of parts per thread into which the directories are divided.
const PARTS: usize = 8;

/// The state of a directory before files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It was just created, so a name that exists is an error.
    Empty,
    /// It may contain files of the recycled release, which must be compared, and other files.
    Used,
}

/// Creates every directory of the plan below `root`, in several threads. `root` is empty, or a `recycled` release. Names that
/// are not in the plan are removed from the latter.
pub fn prepare(plan: &Plan, root: &Dir, recycled: Option<&Manifest>, threads: usize) -> Result<Vec<Before>> {
    let listing = &plan.listing;
    let root_stat = root.own_stat().map_err(Error::io("read", listing.directory_path(0)))?;
    let prepare = |walk: &mut Walk, directory: u32, above: Before| {
        let prepared = prepare_one(plan, directory, above, walk, &root_stat, recycled);
        prepared.map_err(|error| Error::io("make", listing.directory_path(directory))(error))
    };
    let count = listing.directories.len();
    let mut before = vec![if recycled.is_some() { Before::Used } else { Before::Empty }; count];
    // The parent of a directory is in the same part, or an ancestor of the part's first directory. These ancestors are
    // prepared first.
    let mut parts: Vec<(Range<u32>, Vec<Before>)> = Vec::new();
    let mut leading = Vec::new();
    let size = count.div_ceil(threads * PARTS).max(PIECE);
    for first in (0..count).step_by(size) {
        parts.push((first as u32..count.min(first + size) as u32, Vec::new()));
        let mut at = first as u32;
        while listing.directories[at as usize].entry != NONE {
            at = listing.directories[at as usize].parent;
            leading.push(at);
        }
    }
    leading.sort_unstable();
    leading.dedup();
    let mut walk = Walk::new(listing, root);
    for &directory in &leading {
        let parent = listing.directories[directory as usize].parent;
        before[directory as usize] = prepare(&mut walk, directory, before[parent as usize])?;
    }
    let work = |walk: &mut Walk, _, parts: &mut [(Range<u32>, Vec<Before>)]| {
        for (part, states) in parts {
            for directory in part.clone() {
                let parent = listing.directories[directory as usize].parent;
                let in_part = parent.checked_sub(part.start).and_then(|at| states.get(at as usize));
                let above = in_part.copied().unwrap_or(before[parent as usize]);
                let is_done = leading.binary_search(&directory).is_ok();
                states.push(if is_done {
                    before[directory as usize]
                } else {
                    prepare(walk, directory, above)?
                });
            }
        }
        Ok::<_, Error>(())
    };
    for_each_piece(threads, 1, &mut parts, || Ok(Walk::new(listing, root)), work, || Ok(()))?;
    Ok(parts.into_iter().flat_map(|(_, states)| states).collect())
}

/// Keeps a directory, or creates it. `above` is the state of its parent.
fn prepare_one(
    plan: &Plan,
    directory: u32,
    above: Before,
    walk: &mut Walk,
    root: &Stat,
    recycled: Option<&Manifest>,
) -> io::Result<Before> {
    let Directory { parent, entry, is_made, .. } = plan.listing.directories[directory as usize];
    let mut state = above;
    if !is_made {
        return Ok(state);
    }
    if entry != NONE {
        let (parent, name) = (walk.enter(parent)?, plan.listing.name(entry));
        if state == Before::Used && !is_usable(parent, name, root)? {
            parent.remove(name)?;
            state = Before::Empty;
        }
        if state == Before::Empty {
            parent.make_dir(name, 0o755)?;
        }
    }
    if let (Before::Used, Some(recycled)) = (state, recycled) {
        clear(plan, directory, walk.enter(directory)?, recycled)?;
    }
    Ok(state)
}

/// Returns whether a name is a directory with the file system, mode, owner, and group of the root.
fn is_usable(parent: &Dir, name: &[u8], root: &Stat) -> io::Result<bool> {
    match parent.stat(name) {
        Ok(stat) => Ok((stat.st_mode, stat.st_dev, stat.st_uid, stat.st_gid)
            == (root.st_mode, root.st_dev, root.st_uid, root.st_gid)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes names from a directory that are not in the plan. If the directory is unchanged since it was written, its names
/// come from the manifest, and it is not read.
fn clear(plan: &Plan, directory: u32, dir: &Dir, recycled: &Manifest) -> io::Result<()> {
    let old = plan.directory_in_old[directory as usize];
    if old != NONE && recycled.holds_directory(old, &dir.own_stat()?) {
        let is_submodule = plan.listing.is_submodule(directory);
        // A submodule with the same commit can be empty in one release and fetched in the next.
        if !is_submodule && recycled.listing.directory_id(old) == plan.listing.directory_id(directory) {
            return Ok(());
        }
        let names = recycled.listing.entries_of(old).map(|entry| recycled.listing.name(entry));
        return remove_others(&plan.listing, directory, dir, names);
    }
    let names = dir.names()?;
    remove_others(&plan.listing, directory, dir, names.iter().map(|(name, _)| name.as_slice()))
}

fn remove_others<'n>(
    listing: &Listing,
    directory: u32,
    dir: &Dir,
    names: impl Iterator<Item = &'n [u8]>,
) -> io::Result<()> {
    let wanted = listing.entries_of(directory).filter(|&entry| listing.is_made(entry));
    let mut wanted: Vec<&[u8]> = wanted.map(|entry| listing.name(entry)).collect();
    wanted.sort_unstable();
    for name in names {
        if wanted.binary_search(&name).is_err() {
            dir.remove(name)?;
        }
    }
    Ok(())
}
