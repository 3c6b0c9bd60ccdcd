//! Links that lead out of the release are found before anything is written.
//!
//! A link is followed in the listing, through other links, the way the kernel would follow it on the
//! disk: what matters is where it ends, not how it is spelled.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::plan::{Listing, NONE};
use super::tree::{Kind, TreeEntry, order};
use crate::error::{Error, Result};

/// How many links are followed for one, as Linux has it.
const MAX_LINKS: u32 = 40;

/// Refuses a listing in which any link leads out of the root.
pub fn refuse_outside(listing: &Listing) -> Result<()> {
    for (entry, target) in &listing.links {
        let directory = listing.directory_of(*entry);
        let mut followed = 0;
        if follow(listing, directory, target, &mut followed).is_none() {
            let path = listing.path(directory, *entry);
            return Err(Error::LinkOutside { path, target: OsStr::from_bytes(target).into() });
        }
    }
    Ok(())
}

/// Where a path leads to: a directory of the listing, or something inside that is none.
enum Place {
    Directory(u32),
    /// A file, or nothing: this many levels below the directory.
    Below(u32, u32),
}

/// Follows `target` from a directory; `None` where it leaves the root, or never ends.
fn follow(listing: &Listing, from: u32, target: &[u8], followed: &mut u32) -> Option<Place> {
    *followed += 1;
    if *followed > MAX_LINKS || target.starts_with(b"/") {
        return None;
    }
    let mut place = Place::Directory(from);
    for name in target.split(|&byte| byte == b'/') {
        place = match (place, name) {
            (place, b"" | b".") => place,
            (Place::Directory(at), b"..") if listing.directories[at as usize].entry == NONE => return None,
            (Place::Directory(at), b"..") => Place::Directory(listing.directories[at as usize].parent),
            (Place::Directory(at), name) => step(listing, at, name, followed)?,
            (Place::Below(at, 1), b"..") => Place::Directory(at),
            (Place::Below(at, depth), b"..") => Place::Below(at, depth - 1),
            (Place::Below(at, depth), _) => Place::Below(at, depth + 1),
        };
    }
    Some(place)
}

fn step(listing: &Listing, at: u32, name: &[u8], followed: &mut u32) -> Option<Place> {
    let Some(entry) = find(listing, at, name) else { return Some(Place::Below(at, 1)) };
    match listing.entries[entry as usize].kind {
        Kind::Link => {
            let found = listing.links.binary_search_by_key(&entry, |(entry, _)| *entry).ok()?;
            follow(listing, at, &listing.links[found].1, followed)
        }
        Kind::Directory | Kind::Submodule => {
            Some(Place::Directory(listing.entries[entry as usize].size as u32))
        }
        Kind::File | Kind::Executable => Some(Place::Below(at, 1)),
    }
}

fn find(listing: &Listing, directory: u32, name: &[u8]) -> Option<u32> {
    let range = listing.entries_of(directory);
    [Kind::File, Kind::Directory].into_iter().find_map(|kind| {
        let wanted = TreeEntry { kind, name, id: &[] };
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low.midpoint(high);
            let entry = TreeEntry {
                kind: listing.entries[middle as usize].kind,
                name: listing.name(middle),
                id: &[],
            };
            match order(&entry, &wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    })
}
