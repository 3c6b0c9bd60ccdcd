//! [`Walk`]: visits the directories of a release by open descriptors.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;

use bluegreen_sys::dir::Dir;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::listing::{Listing, NONE};

/// The number of directories that a walk leaves open behind it.
const OPEN: usize = 64;

/// The number of descriptors that everything else needs.
const SPARE: u64 = 256;

/// Raises the limit of open files, so that `walks` walks can enter the deepest directory. The usual limit of 1,024 is lower
/// than the maximum depth of a tree.
pub fn allow_depth(listing: &Listing, walks: usize) {
    let mut depths = Vec::with_capacity(listing.directories.len());
    for directory in &listing.directories {
        depths.push(depths.get(directory.parent as usize).map_or(0, |parent: &u64| parent + 1));
    }
    let deepest = depths.into_iter().max().unwrap_or(0);
    let needed = (deepest + OPEN as u64) * walks as u64 + SPARE;
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
    open: Vec<(u32, Dir)>,
    /// The directory in which a file was created last, and its path with a slash at the end.
    last: (u32, Vec<u8>),
}

impl<'a> Walk<'a> {
    /// Starts at the root of a release.
    pub fn new(listing: &'a Listing, root: &'a Dir) -> Self {
        Self { listing, root, open: Vec::new(), last: (NONE, Vec::new()) }
    }

    /// Opens a directory of the listing and its parents.
    pub fn enter(&mut self, directory: u32) -> io::Result<&Dir> {
        let directories = &self.listing.directories;
        let mut missing = Vec::new();
        let mut at = directory;
        let mut found = self.position(at);
        while found.is_none() && directories[at as usize].entry != NONE {
            missing.push(at);
            at = directories[at as usize].parent;
            found = self.position(at);
        }
        if !missing.is_empty() && self.open.len() >= OPEN {
            let contains_it = |at: u32| (at..directories[at as usize].end).contains(&directory);
            self.open.retain(|(at, _)| contains_it(*at));
            found = self.position(at);
        }
        for inside in missing.into_iter().rev() {
            let name = self.listing.name(directories[inside as usize].entry);
            let dir = found.map_or(self.root, |at| &self.open[at].1).open_inside(name)?;
            self.open.push((inside, dir));
            found = Some(self.open.len() - 1);
        }
        Ok(found.map_or(self.root, |at| &self.open[at].1))
    }

    /// Creates a file. Fails if the name exists. Opens no directory if the kernel can reject symlinks in the whole path.
    pub fn create_file(&mut self, directory: u32, entry: u32, mode: u32) -> io::Result<File> {
        let name = self.listing.name(entry);
        let (last, path) = &mut self.last;
        if *last != directory {
            let to = self.listing.directory_path(directory).join("");
            (*last, *path) = (directory, to.into_os_string().into_vec());
        }
        let len = path.len();
        path.extend_from_slice(name);
        let created = self.root.create_file_below(path, mode);
        path.truncate(len);
        created.unwrap_or_else(|| self.enter(directory)?.create_file(name, mode))
    }

    fn position(&self, directory: u32) -> Option<usize> {
        self.open.iter().rposition(|(open, _)| *open == directory)
    }
}
