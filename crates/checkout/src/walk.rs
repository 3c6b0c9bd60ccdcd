//! [`Walk`]: visits the directories of a release by open descriptors.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;

use bluegreen_sys::dir::Dir;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::index_vec::{DirectoryIndex, EntryIndex};
use super::listing::Listing;

/// The maximum number of directories that a walk leaves open behind it.
const MAX_OPEN: usize = 64;

/// The number of descriptors that everything else needs.
const OTHER_DESCRIPTORS: u64 = 256;

/// Raises the limit of open files, so that `walks` walks can enter the deepest directory. The usual limit of 1,024 is lower
/// than the maximum depth of a tree.
pub fn allow_depth(listing: &Listing, walks: usize) {
    let mut depths = Vec::with_capacity(listing.directories.len());
    for directory in listing.directories.iter() {
        depths.push(depths.get(directory.parent.position()).map_or(0, |parent: &u64| parent + 1));
    }
    let deepest = depths.into_iter().max().unwrap_or(0);
    let needed = (deepest + MAX_OPEN as u64) * walks as u64 + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let current = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
        // If this fails, opening a directory that is too deep is an error.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
    }
}

/// Open directories of a release: the path to the one that was entered last, and others that were entered before, because
/// delta trees jump between directories. Symlinks are never followed.
pub struct Walk<'a> {
    listing: &'a Listing,
    root: &'a Dir,
    /// The most recently entered ones are last.
    open: Vec<OpenDirectory>,
    /// The directory in which a file was created last.
    last: Option<DirectoryIndex>,
    /// Its path, with a slash at the end.
    last_path: Vec<u8>,
}

struct OpenDirectory {
    index: DirectoryIndex,
    dir: Dir,
}

impl<'a> Walk<'a> {
    /// Starts at the root of a release.
    pub fn new(listing: &'a Listing, root: &'a Dir) -> Self {
        Self { listing, root, open: Vec::new(), last: None, last_path: Vec::new() }
    }

    /// Opens a directory of the listing and its parents.
    pub fn enter(&mut self, directory: DirectoryIndex) -> io::Result<&Dir> {
        let directories = &self.listing.directories;
        let mut missing = Vec::new();
        let mut at = directory;
        let mut found = self.position(at);
        while found.is_none()
            && let Some(entry) = directories[at].entry
        {
            missing.push((at, entry));
            at = directories[at].parent;
            found = self.position(at);
        }
        if !missing.is_empty() && self.open.len() >= MAX_OPEN {
            self.open.retain(|open| self.listing.subtree(open.index).contains(directory));
            found = self.position(at);
        }
        for (index, entry) in missing.into_iter().rev() {
            let outer = found.map_or(self.root, |at| &self.open[at].dir);
            let dir = outer.open_inside(self.listing.name(entry))?;
            self.open.push(OpenDirectory { index, dir });
            found = Some(self.open.len() - 1);
        }
        Ok(found.map_or(self.root, |at| &self.open[at].dir))
    }

    /// Creates a file. Fails if the name exists. Opens no directory if the kernel can reject symlinks in the whole path.
    pub fn create_file(
        &mut self,
        directory: DirectoryIndex,
        entry: EntryIndex,
        mode: u32,
    ) -> io::Result<File> {
        let name = self.listing.name(entry);
        if self.last != Some(directory) {
            self.last = Some(directory);
            self.last_path = self.listing.directory_path(directory).join("").into_os_string().into_vec();
        }
        let len = self.last_path.len();
        self.last_path.extend_from_slice(name);
        let created = self.root.create_file_below(&self.last_path, mode);
        self.last_path.truncate(len);
        created.unwrap_or_else(|| self.enter(directory)?.create_file(name, mode))
    }

    fn position(&self, directory: DirectoryIndex) -> Option<usize> {
        self.open.iter().rposition(|open| open.index == directory)
    }
}
