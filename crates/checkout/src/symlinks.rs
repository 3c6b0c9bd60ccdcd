//! Rejects symlinks that point outside the release, before anything is written.
//!
//! Each symlink is resolved in the listing, through other symlinks, as the kernel would resolve it on the disk. The final
//! target decides, not the text. The caller replaces some paths by symlinks: a symlink may point into a replaced path, but not
//! above it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bluegreen_object_store::tree::{EntryKind, sort_key};

use super::error::{Error, Result};
use super::index_vec::{DirectoryIndex, EntryIndex};
use super::listing::{Link, Listing};
use super::options::Options;

/// The maximum number of symlinks in one path, as on Linux.
const MAX_LINKS: u32 = 40;

/// Rejects a listing with a symlink that points neither into the root nor into a replaced path.
pub fn refuse_outside(listing: &Listing, options: &Options) -> Result<()> {
    for Link { entry, target } in &listing.links {
        let directory = listing.directory_of(*entry);
        // The caller replaces a symlink at such a path.
        if !options.replaced.is_empty()
            && options.depth_in_replaced(&listing.path(directory, *entry)) == Some(0)
        {
            continue;
        }
        let mut tree = Follow { listing, options, followed: 0 };
        if tree.follow(tree.start(directory), target).is_none() {
            let path = listing.path(directory, *entry);
            return Err(Error::LinkOutside { path, target: OsStr::from_bytes(target).into() });
        }
    }
    Ok(())
}

/// A position to which a path resolves.
enum Reached {
    /// A directory of the listing.
    Directory(DirectoryIndex),
    /// A file, or a path that does not exist, below a directory of the listing.
    Below(DirectoryIndex, PathBuf),
    /// This number of levels below a replaced path.
    Shared(u32),
}

/// The resolution of one symlink.
struct Follow<'a> {
    listing: &'a Listing,
    options: &'a Options,
    followed: u32,
}

impl Follow<'_> {
    /// Returns the position of a directory of the listing, which may be below a replaced path.
    fn start(&self, directory: DirectoryIndex) -> Reached {
        let depth = || self.options.depth_in_replaced(&self.listing.directory_path(directory));
        if self.options.replaced.is_empty() { None } else { depth() }
            .map_or(Reached::Directory(directory), Reached::Shared)
    }

    /// Resolves `target` from a position. Returns `None` if it leaves the root or is a loop.
    fn follow(&mut self, from: Reached, target: &[u8]) -> Option<Reached> {
        self.followed += 1;
        if self.followed > MAX_LINKS || target.starts_with(b"/") {
            return None;
        }
        let mut place = from;
        for name in target.split(|&byte| byte == b'/') {
            place = match name {
                b"" | b"." => place,
                b".." => self.up(place)?,
                name => self.down(place, name)?,
            };
        }
        Some(place)
    }

    fn up(&self, place: Reached) -> Option<Reached> {
        match place {
            Reached::Directory(DirectoryIndex::ROOT) => None,
            Reached::Directory(at) => Some(Reached::Directory(self.listing.directories[at].parent)),
            Reached::Below(at, mut path) => {
                path.pop();
                let is_above = path.as_os_str().is_empty();
                Some(if is_above { Reached::Directory(at) } else { Reached::Below(at, path) })
            }
            Reached::Shared(depth) => depth.checked_sub(1).map(Reached::Shared),
        }
    }

    fn down(&mut self, place: Reached, name: &[u8]) -> Option<Reached> {
        let (at, mut below) = match place {
            Reached::Shared(depth) => return Some(Reached::Shared(depth + 1)),
            Reached::Directory(at) => (at, PathBuf::new()),
            Reached::Below(at, path) => (at, path),
        };
        let is_listed = below.as_os_str().is_empty();
        below.push(OsStr::from_bytes(name));
        if !self.options.replaced.is_empty()
            && self.options.depth_in_replaced(&self.listing.directory_path(at).join(&below)) == Some(0)
        {
            return Some(Reached::Shared(0));
        }
        let Some(entry) = find(self.listing, at, name).filter(|_| is_listed) else {
            return Some(Reached::Below(at, below));
        };
        match self.listing.entries[entry].kind {
            EntryKind::Link => {
                let links = &self.listing.links;
                let found = links.binary_search_by_key(&entry, |link| link.entry).ok()?;
                self.follow(Reached::Directory(at), &links[found].target)
            }
            EntryKind::Directory | EntryKind::Submodule => {
                Some(Reached::Directory(self.listing.directory_at(entry)))
            }
            EntryKind::File | EntryKind::Executable => Some(Reached::Below(at, below)),
        }
    }
}

fn find(listing: &Listing, directory: DirectoryIndex, name: &[u8]) -> Option<EntryIndex> {
    let range = listing.entries_of(directory);
    [EntryKind::File, EntryKind::Directory].into_iter().find_map(|kind| {
        let mut rest = range.clone();
        while let Some(middle) = rest.middle() {
            let entry = sort_key(listing.entries[middle].kind, listing.name(middle));
            match entry.cmp(sort_key(kind, name)) {
                std::cmp::Ordering::Less => rest.start = middle.next(),
                std::cmp::Ordering::Greater => rest.end = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    })
}
