//! Writes the files and links of a release.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use bluegreen_object_store::tree::EntryKind;
use bluegreen_object_store::{DecodedBlob, Decoder, ObjectStore, Reader, Subtree};
use bluegreen_sys::dir::Dir;
use bluegreen_sys::parallel::{SMALL_ITEMS, for_each_chunk_with_progress};
use rustix::fs::fstat;

use super::converted::Converted;
use super::error::{Error, Result};
use super::index_vec::{DirectoryIndex, EntryIndex, IndexVec};
use super::listing::Link;
use super::manifest::{Stamp, stamp};
use super::packed::PackedEntries;
use super::plan::Plan;
use super::recycle::Kept;
use super::walk::Walk;

/// The number of subtrees that a thread takes at a time. Most contain one blob, but one can take as long as all the others
/// together.
const SUBTREES_AT_A_TIME: usize = 4;

/// The number of parts, and of bytes to write in them, up to which one thread is faster than two.
const SMALL_PARTS: usize = 4;
const SMALL_SIZE: u64 = 256 * 1024;

/// The writer of a release, shared by all threads.
pub struct Writer<'a> {
    /// The paths to write.
    pub plan: &'a Plan,
    /// The files that git converts. They are written last.
    pub converted: &'a Converted,
    /// The part of a recycled release that the new one takes over.
    pub kept: Option<&'a Kept<'a>>,
    /// The directory of the release.
    pub root: &'a Dir,
    pub objects: &'a ObjectStore<'a>,
    /// The packed blobs.
    pub packed: &'a PackedEntries,
    /// The number of files written so far.
    pub done: AtomicU64,
}

/// The state of one thread.
struct Worker<'a> {
    reader: Reader<'a>,
    walk: Walk<'a>,
    /// The directories of the recycled release.
    old: Option<Walk<'a>>,
    decoder: Decoder,
}

/// A part of the work.
enum Part<'s> {
    /// The entries from this one on, except those in delta trees.
    Entries { first: EntryIndex, stamps: &'s mut [Stamp] },
    /// Subtrees of delta trees, and the files that were written from them.
    Subtrees { roots: &'s [Subtree], written: Vec<WrittenFile> },
}

/// A file that was written from a delta tree.
struct WrittenFile {
    entry: EntryIndex,
    stamp: Stamp,
}

impl Writer<'_> {
    /// Writes or moves all files but those that git converts anew, then all links, and sets their stamps.
    pub fn write(
        &self,
        stamps: &mut IndexVec<EntryIndex, Stamp>,
        threads: usize,
        tick: impl Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let start = || {
            let walk = Walk::new(&self.plan.listing, self.root);
            let reader = self.objects.reader();
            Ok(Worker { reader, walk, old: self.old_walk(), decoder: Decoder::default() })
        };
        self.stamp_moved(stamps);
        let firsts = (0..).step_by(SMALL_ITEMS).map(EntryIndex::new);
        let chunks = firsts.zip(stamps.chunks_mut(SMALL_ITEMS));
        // Most of a recycled release is moved already.
        let chunks = chunks.filter(|(first, stamps)| self.is_work_left(*first, stamps));
        let chunks = chunks.map(|(first, stamps)| Part::Entries { first, stamps });
        let subtrees = self
            .packed
            .blobs
            .subtrees()
            .chunks(SUBTREES_AT_A_TIME)
            .map(|roots| Part::Subtrees { roots, written: Vec::new() });
        let mut parts: Vec<Part> = chunks.chain(subtrees).collect();
        let work = |worker: &mut Worker, _, parts: &mut [Part]| {
            parts.iter_mut().try_for_each(|part| match part {
                Part::Entries { first, stamps } => self.write_entries(worker, *first, stamps),
                Part::Subtrees { roots, written } => {
                    roots.iter().try_for_each(|&root| self.write_subtree(worker, root, written))
                }
            })
        };
        let done = || tick(self.done.load(Ordering::Relaxed));
        let threads = if self.is_small(&parts) { 1 } else { threads };
        for_each_chunk_with_progress(threads, 1, &mut parts, start, work, done)?;
        // The parts borrow the stamps, so their own are collected first.
        let written = parts.into_iter().filter_map(|part| match part {
            Part::Entries { .. } => None,
            Part::Subtrees { written, .. } => Some(written),
        });
        for WrittenFile { entry, stamp } in written.collect::<Vec<_>>().into_iter().flatten() {
            stamps[entry] = stamp;
        }
        self.write_links(stamps)
    }

    /// Sets the stamps of the files and links in directories that were moved as a whole.
    fn stamp_moved(&self, stamps: &mut IndexVec<EntryIndex, Stamp>) {
        let Some(kept) = self.kept else { return };
        let listing = &self.plan.listing;
        let mut moved = 0;
        for directory in listing.directories.indices().filter(|&directory| kept.is_whole(directory)) {
            for entry in listing.entries_of(directory) {
                if !listing.entries[entry].kind.is_directory() {
                    stamps[entry] = kept.stamps[entry];
                    moved += 1;
                }
            }
        }
        self.done.fetch_add(moved, Ordering::Relaxed);
    }

    /// Returns whether one of the entries from `first` on must still be written or moved.
    fn is_work_left(&self, first: EntryIndex, stamps: &[Stamp]) -> bool {
        let is_directory = |entry: EntryIndex| self.plan.listing.entries[entry].kind.is_directory();
        let entries = self.plan.listing.entries.indices_from(first);
        entries.zip(stamps).any(|(entry, stamp)| *stamp == Stamp::default() && !is_directory(entry))
    }

    /// Returns whether the parts take no longer than the start of a thread.
    fn is_small(&self, parts: &[Part]) -> bool {
        let size = |part: &Part| match part {
            Part::Entries { first, stamps } => {
                let entries = self.plan.listing.entries.indices_from(*first);
                entries
                    .take(stamps.len())
                    .filter(|&entry| self.kept_stamp(entry).is_none())
                    .map(|entry| self.plan.listing.size_of(entry))
                    .sum()
            }
            Part::Subtrees { .. } => SMALL_SIZE,
        };
        parts.len() <= SMALL_PARTS && parts.iter().map(size).sum::<u64>() < SMALL_SIZE
    }

    fn write_entries(&self, worker: &mut Worker, first: EntryIndex, chunk: &mut [Stamp]) -> Result<()> {
        let listing = &self.plan.listing;
        let mut directory = listing.directory_of(first);
        for (stamp, entry) in chunk.iter_mut().zip(listing.entries.indices_from(first)) {
            while !listing.entries_of(directory).contains(entry) {
                directory = directory.next();
            }
            let Worker { reader, walk, old, .. } = worker;
            if *stamp != Stamp::default() {
                // It was moved with its directory.
            } else if self.kept_stamp(entry).is_some() {
                self.done.fetch_add(1, Ordering::Relaxed);
                *stamp = self.keep(walk, old.as_mut(), directory, entry)?;
            } else if self.is_ours(entry) && !self.packed.is_in_delta_tree(entry) {
                *stamp = self.write_file(reader, walk, directory, entry, None)?;
            }
        }
        Ok(())
    }

    /// Writes the files whose blobs a subtree contains.
    fn write_subtree(
        &self,
        worker: &mut Worker,
        root: Subtree,
        written: &mut Vec<WrittenFile>,
    ) -> Result<()> {
        let Worker { reader, walk, decoder, .. } = worker;
        decoder.decode(&self.packed.blobs, root, |DecodedBlob { blobs, content, .. }| {
            let entries = blobs.iter().map(|&blob| self.packed.entry(blob));
            for entry in entries.filter(|&entry| self.is_ours(entry)) {
                let directory = self.plan.listing.directory_of(entry);
                let stamp = self.write_file(reader, walk, directory, entry, content)?;
                written.push(WrittenFile { entry, stamp });
            }
            Ok(())
        })
    }

    /// Returns whether an entry is a file that git does not convert.
    fn is_ours(&self, entry: EntryIndex) -> bool {
        let kind = self.plan.listing.entries[entry].kind;
        matches!(kind, EntryKind::File | EntryKind::Executable) && !self.converted.contains(entry)
    }

    /// Returns the stamp of a file that the recycled release has unchanged. Links are not among these.
    fn kept_stamp(&self, entry: EntryIndex) -> Option<Stamp> {
        let kind = self.plan.listing.entries[entry].kind;
        self.kept?.stamp(entry).filter(|_| matches!(kind, EntryKind::File | EntryKind::Executable))
    }

    fn old_walk(&self) -> Option<Walk<'_>> {
        self.kept.map(|kept| Walk::new(&self.plan.listing, kept.source.root))
    }

    /// Moves a file or link from the recycled release. Returns its stamp.
    fn keep(
        &self,
        walk: &mut Walk,
        old: Option<&mut Walk>,
        directory: DirectoryIndex,
        entry: EntryIndex,
    ) -> Result<Stamp> {
        let listing = &self.plan.listing;
        let keep = || {
            let old = old.ok_or(io::ErrorKind::NotFound)?;
            let (name, to) = (listing.name(entry), walk.enter(directory)?);
            old.enter(directory)?.rename_new(name, to, name)?;
            // A rename changes the ctime.
            Ok(stamp(&to.stat(name)?))
        };
        keep().map_err(|error: io::Error| Error::io("move", listing.path(directory, entry))(error))
    }

    /// Writes a file. Its content is given, or else read here. A name that exists is an error: the file system treats
    /// two names as equal, or another process writes into the release.
    fn write_file(
        &self,
        reader: &Reader,
        walk: &mut Walk,
        directory: DirectoryIndex,
        entry: EntryIndex,
        content: Option<&[u8]>,
    ) -> Result<Stamp> {
        self.done.fetch_add(1, Ordering::Relaxed);
        let listing = &self.plan.listing;
        let failed = |error| Error::io("write", listing.path(directory, entry))(error);
        let mode = if listing.entries[entry].kind == EntryKind::Executable { 0o755 } else { 0o644 };
        let mut file = walk.create_file(directory, entry, mode).map_err(failed)?;
        match content.filter(|content| content.len() as u64 == listing.size_of(entry)) {
            Some(content) => file.write_all(content).map_err(failed)?,
            None => reader
                .write_blob(listing.id(entry), listing.size_of(entry), &mut file)
                .map_err(|error| Error::copy(error, listing.path(directory, entry)))?,
        }
        fstat(&file).map(|stat| stamp(&stat)).map_err(|error| failed(error.into()))
    }

    fn write_links(&self, stamps: &mut IndexVec<EntryIndex, Stamp>) -> Result<()> {
        let listing = &self.plan.listing;
        let (mut walk, mut old) = (Walk::new(listing, self.root), self.old_walk());
        for &Link { entry, ref target } in &listing.links {
            let directory = listing.directory_of(entry);
            if stamps[entry] != Stamp::default() {
                continue;
            }
            stamps[entry] = if self.kept.and_then(|kept| kept.stamp(entry)).is_some() {
                self.keep(&mut walk, old.as_mut(), directory, entry)?
            } else {
                let name = listing.name(entry);
                let mut write = || {
                    let dir = walk.enter(directory)?;
                    dir.create_symlink(target, name)?;
                    Ok(stamp(&dir.stat(name)?))
                };
                write()
                    .map_err(|error: io::Error| Error::io("write", listing.path(directory, entry))(error))?
            };
        }
        Ok(())
    }
}
