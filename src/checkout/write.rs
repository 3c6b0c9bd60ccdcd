//! Writes the files and links of a release.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use bluegreen_object_store::tree::EntryKind;
use bluegreen_object_store::{DecodedBlob, Decoder, ObjectStore, Reader, Subtree};
use bluegreen_sys::dir::Dir;
use bluegreen_sys::parallel::{PIECE, for_each_piece};
use rustix::fs::fstat;

use super::converted::Converted;
use super::error::{Error, Result};
use super::listing::NONE;
use super::manifest::{Manifest, Stamp, stamp};
use super::packed::PackedEntries;
use super::plan::Plan;
use super::prepare_dirs::Before;
use super::walk::Walk;

/// The number of subtrees that a thread takes at a time. Most contain one blob, but one can take as long as all the others
/// together.
const SUBTREES_AT_A_TIME: usize = 4;

/// The writer of a release, shared by all threads.
pub struct Writer<'a> {
    /// The paths to write.
    pub plan: &'a Plan,
    /// The files that git converts. They are written last.
    pub converted: &'a Converted,
    /// The state of each directory before anything is written.
    pub before: &'a [Before],
    /// The manifest of the recycled release.
    pub recycled: Option<&'a Manifest>,
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
    decoder: Decoder,
}

/// A part of the work.
enum Part<'s> {
    /// The entries from this one on, except those in delta trees.
    Entries(u32, &'s mut [Stamp]),
    /// Subtrees of delta trees, and the stamps of the files that were written from them.
    Subtrees(&'s [Subtree], Vec<(u32, Stamp)>),
}

impl Writer<'_> {
    /// Returns the stamps of all entries: those of converted files that are kept from the recycled release, and empty ones.
    pub fn kept_converted(&self) -> Result<Vec<Stamp>> {
        let listing = &self.plan.listing;
        let mut stamps = vec![Stamp::default(); listing.entries.len()];
        let mut walk = Walk::new(listing, self.root);
        for &entry in self.converted.entries.iter().filter(|_| self.recycled.is_some()) {
            let directory = listing.directory_of(entry);
            let failed = |error| Error::io("read", listing.path(directory, entry))(error);
            let dir = walk.enter(directory).map_err(failed)?;
            stamps[entry as usize] = self.kept(dir, directory, entry).unwrap_or_default();
        }
        Ok(stamps)
    }

    /// Writes all files except converted ones, then all links, and sets their stamps.
    pub fn write(
        &self,
        stamps: &mut [Stamp],
        threads: usize,
        tick: impl Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let start = || {
            let walk = Walk::new(&self.plan.listing, self.root);
            Ok(Worker { reader: self.objects.reader(), walk, decoder: Decoder::default() })
        };
        let pieces = stamps.chunks_mut(PIECE).enumerate();
        let pieces = pieces.map(|(at, stamps)| Part::Entries((at * PIECE) as u32, stamps));
        let subtrees = self
            .packed
            .blobs
            .subtrees()
            .chunks(SUBTREES_AT_A_TIME)
            .map(|roots| Part::Subtrees(roots, Vec::new()));
        let mut parts: Vec<Part> = pieces.chain(subtrees).collect();
        let work = |worker: &mut Worker, _, parts: &mut [Part]| {
            parts.iter_mut().try_for_each(|part| match part {
                Part::Entries(first, stamps) => self.write_entries(worker, *first, stamps),
                Part::Subtrees(roots, stamps) => {
                    roots.iter().try_for_each(|&root| self.write_subtree(worker, root, stamps))
                }
            })
        };
        let done = || tick(self.done.load(Ordering::Relaxed));
        for_each_piece(threads, 1, &mut parts, start, work, done)?;
        // The parts borrow the stamps, so their own are collected first.
        let written = parts.into_iter().filter_map(|part| match part {
            Part::Entries(..) => None,
            Part::Subtrees(_, stamps) => Some(stamps),
        });
        for (entry, stamp) in written.collect::<Vec<_>>().into_iter().flatten() {
            stamps[entry as usize] = stamp;
        }
        self.write_links(stamps)
    }

    fn write_entries(&self, worker: &mut Worker, first: u32, piece: &mut [Stamp]) -> Result<()> {
        let listing = &self.plan.listing;
        let mut directory = listing.directory_of(first);
        for (stamp, entry) in piece.iter_mut().zip(first..) {
            while !listing.entries_of(directory).contains(&entry) {
                directory += 1;
            }
            if self.is_ours(entry) && !self.packed.is_in_delta_tree(entry) {
                let Worker { reader, walk, .. } = worker;
                *stamp = self.keep_or_write(reader, walk, directory, entry, None)?;
            }
        }
        Ok(())
    }

    /// Writes the files whose blobs a subtree contains.
    fn write_subtree(
        &self,
        worker: &mut Worker,
        root: Subtree,
        stamps: &mut Vec<(u32, Stamp)>,
    ) -> Result<()> {
        let Worker { reader, walk, decoder } = worker;
        decoder.decode(&self.packed.blobs, root, |DecodedBlob { blobs, content, .. }| {
            let entries = blobs.iter().map(|&blob| self.packed.entry(blob));
            for entry in entries.filter(|&entry| self.is_ours(entry)) {
                let directory = self.plan.listing.directory_of(entry);
                stamps.push((entry, self.keep_or_write(reader, walk, directory, entry, content)?));
            }
            Ok(())
        })
    }

    /// Returns whether an entry is a file that git does not convert.
    fn is_ours(&self, entry: u32) -> bool {
        let kind = self.plan.listing.entries[entry as usize].kind;
        matches!(kind, EntryKind::File | EntryKind::Executable) && !self.converted.contains(entry)
    }

    /// Writes a file, unless the recycled release contains it unchanged. Reads its blob if `content` is absent.
    fn keep_or_write(
        &self,
        reader: &Reader,
        walk: &mut Walk,
        directory: u32,
        entry: u32,
        content: Option<&[u8]>,
    ) -> Result<Stamp> {
        self.done.fetch_add(1, Ordering::Relaxed);
        let listing = &self.plan.listing;
        let failed = |error| Error::io("write", listing.path(directory, entry))(error);
        let mode = if listing.entries[entry as usize].kind == EntryKind::Executable { 0o755 } else { 0o644 };
        let created = if self.before[directory as usize] == Before::Empty {
            walk.create_file(directory, entry, mode)
        } else {
            let dir = walk.enter(directory).map_err(failed)?;
            if let Some(stamp) = self.kept(dir, directory, entry) {
                return Ok(stamp);
            }
            self.make(dir, directory, entry, || dir.create_file(listing.name(entry), mode))
        };
        let mut file = created.map_err(failed)?;
        match content.filter(|content| content.len() as u64 == listing.size_of(entry)) {
            Some(content) => file.write_all(content).map_err(failed)?,
            None => reader
                .write_blob(listing.id(entry), listing.size_of(entry), &mut file)
                .map_err(|error| Error::copy(error, listing.path(directory, entry)))?,
        }
        fstat(&file).map(|stat| stamp(&stat)).map_err(|error| failed(error.into()))
    }

    fn write_links(&self, stamps: &mut [Stamp]) -> Result<()> {
        let listing = &self.plan.listing;
        let mut walk = Walk::new(listing, self.root);
        for (entry, target) in &listing.links {
            let (entry, directory) = (*entry, listing.directory_of(*entry));
            let name = listing.name(entry);
            let write = || {
                let dir = walk.enter(directory)?;
                if let Some(stamp) = self.kept(dir, directory, entry) {
                    return Ok(stamp);
                }
                self.make(dir, directory, entry, || dir.make_link(target, name))?;
                Ok(stamp(&dir.stat(name)?))
            };
            stamps[entry as usize] = { write }()
                .map_err(|error: io::Error| Error::io("write", listing.path(directory, entry))(error))?;
        }
        Ok(())
    }

    /// Returns the stamp of an entry, if the recycled release contains it unchanged.
    fn kept(&self, dir: &Dir, directory: u32, entry: u32) -> Option<Stamp> {
        let same = self.plan.same_in_old[entry as usize];
        let recycled =
            self.recycled.filter(|_| same != NONE && self.before[directory as usize] == Before::Used)?;
        let stat = dir.stat(self.plan.listing.name(entry)).ok()?;
        recycled.holds(same, &stat).then(|| stamp(&stat))
    }

    /// Creates a file or link, and replaces a file of the recycled release. A name that exists in a new directory is an error:
    /// the file system treats two names as equal, or another process writes into the release.
    fn make<T>(
        &self,
        dir: &Dir,
        directory: u32,
        entry: u32,
        make: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        match make() {
            Err(error)
                if error.kind() == ErrorKind::AlreadyExists
                    && self.before[directory as usize] == Before::Used =>
            {
                dir.remove(self.plan.listing.name(entry))?;
                make()
            }
            result => result,
        }
    }
}
