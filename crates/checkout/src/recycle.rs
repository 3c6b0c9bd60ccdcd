//! Moves the unchanged part of a recycled release into the new one, and creates the new one's directories.
//!
//! The new release has a root directory of its own. A directory is moved as a whole, by one rename, if everything in
//! it is as it was written and as the new commit has it. Every other directory is created, and its unchanged files are
//! moved one by one when they would be written ([`super::write`]). So a process that still runs in the recycled
//! release finds files missing, but never files of another version, and its relative writes do not reach a directory
//! that the new commit changes.

use std::io;

use bluegreen_sys::dir::Dir;
use bluegreen_sys::parallel::{SMALL_ITEMS, for_each_chunk};
use rustix::fs::Stat;

use super::error::{Error, Result};
use super::index_vec::{DirectoryIndex, EntryIndex, IndexVec};
use super::listing::{Directory, Listing};
use super::manifest::{Manifest, Stamp, stamp};
use super::plan::{InOld, Plan};
use super::walk::Walk;

/// The number of lstat(2) calls that take longer than starting a thread.
pub(super) const MIN_LSTATS_PER_THREAD: usize = 256;

/// The number of parts for each thread into which the directories of a new release are divided.
const PARTS: usize = 8;

/// A release that is recycled. Nothing refers to its directory.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its directory.
    pub root: &'a Dir,
    /// Its content when it was written.
    pub manifest: &'a Manifest,
}

/// The part of a recycled release that the new one takes over.
#[derive(Debug)]
pub struct Kept<'a> {
    /// The recycled release.
    pub source: Source<'a>,
    /// For each entry its stamp in the recycled release if it is unchanged there, else the default.
    pub stamps: IndexVec<EntryIndex, Stamp>,
    /// For each directory whether it is moved as a whole, or is inside one that is.
    whole: IndexVec<DirectoryIndex, bool>,
}

/// Walks through the new release and the recycled one.
struct Walks<'a> {
    new: Walk<'a>,
    old: Option<Walk<'a>>,
}

impl<'a> Kept<'a> {
    /// Compares a recycled release with its manifest and with the plan, in several threads. `root` is the root
    /// directory of the new release.
    pub fn find(plan: &Plan, source: Source<'a>, root: &Dir, threads: usize) -> Result<Self> {
        let listing = &plan.listing;
        let like =
            root.own_stat().map_err(Error::io("read", listing.directory_path(DirectoryIndex::ROOT)))?;
        let mut stamps = IndexVec::from(vec![Stamp::default(); listing.entries.len()]);
        let work = |walk: &mut Walk, first: usize, chunk: &mut [Stamp]| {
            let first = EntryIndex::new(first);
            let mut directory = listing.directory_of(first);
            for (to, entry) in chunk.iter_mut().zip(listing.entries.indices_from(first)) {
                while !listing.entries_of(directory).contains(entry) {
                    directory = directory.next();
                }
                *to = unchanged(plan, source.manifest, walk, directory, entry, &like).unwrap_or_default();
            }
            Ok::<_, Error>(())
        };
        let start = || Ok(Walk::new(listing, source.root));
        for_each_chunk(threads, MIN_LSTATS_PER_THREAD, &mut stamps, start, work)?;
        let whole = whole(plan, &source.manifest.listing, &stamps);
        Ok(Self { source, stamps, whole })
    }

    /// Returns whether a directory is moved as a whole, or is inside one that is.
    #[must_use]
    pub fn is_whole(&self, directory: DirectoryIndex) -> bool {
        self.whole[directory]
    }

    /// Returns the stamp of an entry that is unchanged in the recycled release.
    #[must_use]
    pub fn stamp(&self, entry: EntryIndex) -> Option<Stamp> {
        Some(self.stamps[entry]).filter(|stamp| *stamp != Stamp::default())
    }
}

/// Returns the stamp of an entry if the recycled release has it as it was written. A directory is unchanged if its
/// names are, and if it has the mode and owner that a new directory would get.
fn unchanged(
    plan: &Plan,
    old: &Manifest,
    walk: &mut Walk,
    directory: DirectoryIndex,
    entry: EntryIndex,
    like: &Stat,
) -> Option<Stamp> {
    let in_old = plan.in_old(entry)?;
    // An error means that the directory was replaced, closed, or mounted over: then it is not taken over.
    let name = plan.listing.name(entry);
    let stat = walk.enter(directory).and_then(|dir| dir.stat(name)).ok()?;
    let is_unchanged = match in_old {
        InOld::File(file) => old.holds(file, &stat),
        InOld::Directory(inside) => {
            let count = || Some(walk.enter(directory).ok()?.open_inside(name).ok()?.names().ok()?.len());
            old.holds_directory(inside, &stat, count)
                && (stat.st_mode, stat.st_uid, stat.st_gid) == (like.st_mode, like.st_uid, like.st_gid)
        }
    };
    (is_unchanged && stat.st_dev == like.st_dev).then(|| stamp(&stat))
}

/// Computes which directories can be moved as a whole, from the leaves to the root. The root itself never is.
fn whole(plan: &Plan, old: &Listing, stamps: &IndexVec<EntryIndex, Stamp>) -> IndexVec<DirectoryIndex, bool> {
    let listing = &plan.listing;
    let mut whole = IndexVec::from(vec![false; listing.directories.len()]);
    for directory in listing.directories.indices().rev() {
        let Directory { entry: Some(entry), is_created, .. } = listing.directories[directory] else {
            continue;
        };
        let is_kept = |entry: EntryIndex| {
            if !listing.entries[entry].kind.is_directory() {
                return stamps[entry] != Stamp::default();
            }
            let inside = listing.directory_at(entry);
            whole[inside] || !listing.directories[inside].is_created
        };
        whole[directory] = is_created
            && stamps[entry] != Stamp::default()
            && plan.directory_in_old[directory]
                .is_some_and(|in_old| has_as_many(listing, directory, old, in_old))
            && listing.entries_of(directory).all(is_kept);
    }
    whole
}

/// Returns whether a directory has as many names as in the older listing. With the same commit, a submodule can be
/// empty in one release and fetched in the next.
fn has_as_many(listing: &Listing, directory: DirectoryIndex, old: &Listing, in_old: DirectoryIndex) -> bool {
    !listing.is_submodule(directory) && listing.directory_id(directory) == old.directory_id(in_old)
        || listing.count_created(directory) == old.count_created(in_old)
}

/// Creates every directory of the plan below `root`, which is empty, in several threads, or moves it from the recycled
/// release.
pub fn prepare(plan: &Plan, root: &Dir, kept: Option<&Kept>, threads: usize) -> Result<()> {
    let listing = &plan.listing;
    let start = || Walks {
        new: Walk::new(listing, root),
        old: kept.map(|kept| Walk::new(listing, kept.source.root)),
    };
    let prepare = |walks: &mut Walks, directory: DirectoryIndex| {
        prepare_one(listing, directory, kept, walks)
            .map_err(|error| Error::io("create", listing.directory_path(directory))(error))
    };
    // The directories in one that is moved as a whole need no work.
    let is_prepared = |directory: &DirectoryIndex| {
        let Directory { parent, entry, is_created, .. } = listing.directories[*directory];
        is_created && entry.is_some() && !kept.is_some_and(|kept| kept.is_whole(parent))
    };
    let directories: Vec<DirectoryIndex> = listing.directories.indices().filter(is_prepared).collect();
    // The parents of a part's directories are in the same part, or lead to its first directory. The latter are
    // prepared first.
    let size = directories.len().div_ceil(threads * PARTS).max(SMALL_ITEMS);
    let mut parts: Vec<&[DirectoryIndex]> = directories.chunks(size).collect();
    let mut leading = Vec::new();
    for part in &parts {
        let mut at = part[0];
        while at != DirectoryIndex::ROOT {
            at = listing.directories[at].parent;
            leading.push(at);
        }
    }
    leading.sort_unstable();
    leading.dedup();
    let mut walks = start();
    leading.iter().try_for_each(|&directory| prepare(&mut walks, directory))?;
    let work = |walks: &mut Walks, _, parts: &mut [&[DirectoryIndex]]| {
        let mut rest = parts.iter().copied().flatten().filter(|at| leading.binary_search(at).is_err());
        rest.try_for_each(|&directory| prepare(walks, directory))
    };
    for_each_chunk(threads, 1, &mut parts, || Ok(start()), work)
}

/// Creates a directory, or moves it from the recycled release with all that is in it.
fn prepare_one(
    listing: &Listing,
    directory: DirectoryIndex,
    kept: Option<&Kept>,
    Walks { new, old }: &mut Walks,
) -> io::Result<()> {
    let Directory { parent, entry: Some(entry), .. } = listing.directories[directory] else { return Ok(()) };
    let name = listing.name(entry);
    match old.as_mut().filter(|_| kept.is_some_and(|kept| kept.is_whole(directory))) {
        Some(old) => old.enter(parent)?.rename_new(name, new.enter(parent)?, name),
        None => new.enter(parent)?.create_dir(name, 0o755),
    }
}
