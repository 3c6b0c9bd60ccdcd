//! [`Walk`]: visits the directories of a release by open descriptors.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::listing::Listing;
use crate::dir::Dir;

/// The number of descriptors for everything else.
const SPARE: u64 = 256;

/// Raises the limit of open files to what `walks` walks into the deepest directory need. The usual limit of
/// 1,024 is less than the depth that a tree may have.
pub fn allow_depth(listing: &Listing, walks: usize) {
    let mut depths = Vec::with_capacity(listing.directories.len());
    for directory in &listing.directories {
        depths.push(depths.get(directory.parent as usize).map_or(0, |parent: &u64| parent + 1));
    }
    let needed = depths.into_iter().max().unwrap_or(0) * walks as u64 + SPARE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let current = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
        // If this is refused, opening the directory that is too deep fails with an error.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
    }
}

/// The open directories from the root of a release to the one that was entered last. In the order of the
/// listing, entering the next directory costs about one `openat`. No symlink is ever followed.
pub struct Walk<'a> {
    listing: &'a Listing,
    root: &'a Dir,
    open: Vec<(u32, Dir)>,
}

impl<'a> Walk<'a> {
    /// Starts at the root of a release.
    pub fn new(listing: &'a Listing, root: &'a Dir) -> Self {
        Self { listing, root, open: Vec::new() }
    }

    /// Opens a directory of the listing, and the directories that lead to it.
    pub fn enter(&mut self, directory: u32) -> io::Result<&Dir> {
        let directories = &self.listing.directories;
        while self
            .open
            .last()
            .is_some_and(|(at, _)| !(*at..directories[*at as usize].end).contains(&directory))
        {
            self.open.pop();
        }
        let reached = self.open.last().map_or(0, |(at, _)| *at);
        let mut missing = Vec::new();
        let mut at = directory;
        while at != reached {
            missing.push(at);
            at = directories[at as usize].parent;
        }
        for at in missing.into_iter().rev() {
            let name = self.listing.name(directories[at as usize].entry);
            let dir = self.open.last().map_or(self.root, |(_, dir)| dir).open_inside(name)?;
            self.open.push((at, dir));
        }
        Ok(self.open.last().map_or(self.root, |(_, dir)| dir))
    }
}
