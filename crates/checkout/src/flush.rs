//! [`Unflushed`]: the new files and directories of a small push, which are flushed one by one.
//!
//! `syncfs` also waits for the data of all other programs on the file system. On a busy disk that takes seconds, and `fsync`
//! takes a fraction of it.

use std::fs::File;
use std::io;

use bluegreen_object_store::tree::EntryKind;
use bluegreen_sys::dir::Dir;
use bluegreen_sys::parallel::for_each_chunk;
use rustix::fs::OFlags;

use super::index_vec::{DirectoryIndex, EntryIndex};
use super::listing::Listing;
use super::recycle::Kept;
use super::walk::Walk;

/// The number of files and directories up to which flushing each with `fsync` takes only hundredths of a second on an
/// idle disk.
const MAX_PATHS: usize = 32;

/// The length of a symlink from which on its target may be in a data block, which only `syncfs` flushes.
const LONG_LINK: usize = 60;

/// The number of threads that flush files. They wait for the disk, which flushes several files at once.
const THREADS: usize = 16;

/// The files and directories that a checkout created in a release, if they are few. All others are from a recycled release.
#[derive(Debug)]
pub struct Unflushed {
    files: Vec<EntryIndex>,
    directories: Vec<DirectoryIndex>,
}

impl Unflushed {
    /// Lists the new paths of a release that took over the files `kept`. Returns `None` if there are too many, or if one is
    /// a long symlink.
    pub(super) fn find(listing: &Listing, kept: Option<&Kept>) -> Option<Self> {
        let is_kept = |entry: EntryIndex| kept.is_some_and(|kept| kept.stamp(entry).is_some());
        let is_new = |&directory: &DirectoryIndex| {
            listing.directories[directory].is_created && !kept.is_some_and(|kept| kept.is_whole(directory))
        };
        let directories: Vec<_> = listing.directories.indices().filter(is_new).take(MAX_PATHS + 1).collect();
        if directories.len() > MAX_PATHS {
            return None;
        }
        let entries = directories.iter().flat_map(|&directory| listing.entries_of(directory));
        let is_new_file = |&entry: &EntryIndex| {
            matches!(listing.entries[entry].kind, EntryKind::File | EntryKind::Executable) && !is_kept(entry)
        };
        let files: Vec<_> = entries.filter(is_new_file).take(MAX_PATHS + 1).collect();
        let is_long = listing.links.iter().any(|link| link.target.len() >= LONG_LINK && !is_kept(link.entry));
        (files.len() + directories.len() <= MAX_PATHS && !is_long).then_some(Self { files, directories })
    }

    /// Flushes the files, and then the directories with their names. `root` is the release's directory.
    pub fn flush(&self, listing: &Listing, root: &Dir) -> io::Result<()> {
        let mut walk = Walk::new(listing, root);
        let open = |&entry: &EntryIndex| {
            walk.enter(listing.directory_of(entry))?.open_regular(listing.name(entry), OFlags::RDONLY)
        };
        let mut files = self.files.iter().map(open).collect::<io::Result<Vec<File>>>()?;
        let sync = |(): &mut (), _, files: &mut [File]| files.iter().try_for_each(File::sync_all);
        for_each_chunk(THREADS.min(files.len()), 1, &mut files, || Ok(()), sync)?;
        self.directories.iter().try_for_each(|&directory| walk.enter(directory)?.sync())
    }
}
