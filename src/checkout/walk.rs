//! Holds the directories open that lead to the one being worked in.

use std::io;

use super::plan::Listing;
use crate::dir::Dir;

/// A path of open directories into a release. In the order of the listing, going on to the next
/// directory costs about one `openat`, and no component is ever a followed link.
pub struct Walk<'a> {
    listing: &'a Listing,
    root: Dir,
    open: Vec<(u32, Dir)>,
}

impl<'a> Walk<'a> {
    /// Starts at the root of a release.
    pub fn new(listing: &'a Listing, root: Dir) -> Self {
        Self { listing, root, open: Vec::new() }
    }

    /// Opens a directory of the listing.
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
            let dir = self.open.last().map_or(&self.root, |(_, dir)| dir).open_dir(name)?;
            self.open.push((at, dir));
        }
        Ok(self.open.last().map_or(&self.root, |(_, dir)| dir))
    }
}
