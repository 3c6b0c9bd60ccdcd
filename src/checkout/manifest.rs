//! The manifest of a finished checkout: its listing, and the answer of `lstat` for each path.
//!
//! It plays the part of git's index. A file that still has the very inode, ctime, size and mode that it had
//! when we wrote it was not touched since, for every change moves the ctime, and no program can set it back.
//! The inode number tells apart two files that were written in one tick and changed places: the ctimes of
//! files stay as they are when a directory above them moves. A ctime equal to the instant of the last write
//! proves nothing, because a change in the same tick of the clock would leave it as it is: it counts as
//! touched, as git's "racy" entries do.

use std::io::{self, Write};

use rustix::fs::{Stat, fstat};
use serde::{Deserialize, Serialize};

use super::converted::Converted;
use super::listing::Listing;
use crate::dir::Dir;

/// Begins the file; changes with the format and with the rules of validation.
const MAGIC: &[u8] = b"bluegreen manifest 3\n";

/// The ctime, the time at which an inode was last changed, in seconds and nanoseconds since the epoch.
pub type Ctime = (i64, u32);

/// The identity and the age of an inode. A release lies on one file system, mounts in it are refused, so that
/// the number tells an inode from all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its number.
    pub inode: u64,
    /// The time at which it was last changed.
    pub ctime: Ctime,
}

/// A listing as it lies on the disk.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// All paths.
    pub listing: Listing,
    /// For each entry that is no directory its stamp.
    pub entries: Vec<Stamp>,
    /// For each directory its stamp, after the last name in it was made.
    pub directories: Vec<Stamp>,
    /// The files that were converted.
    pub converted: Converted,
    /// The file system's clock after the last write.
    pub instant: Ctime,
}

impl Manifest {
    /// Reads a manifest from what [`Manifest::write`] wrote; anything else is none.
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let manifest: Self = postcard::from_bytes(data.strip_prefix(MAGIC)?).ok()?;
        let counts = (manifest.listing.entries.len(), manifest.listing.directories.len());
        (counts == (manifest.entries.len(), manifest.directories.len()) && manifest.listing.is_consistent())
            .then_some(manifest)
    }

    /// Writes the manifest, to be read by [`Manifest::parse`].
    pub fn write(&self, file: &mut impl Write) -> io::Result<()> {
        file.write_all(MAGIC)?;
        file.write_all(&postcard::to_stdvec(self).map_err(io::Error::other)?)
    }

    /// Returns whether the disk still holds an entry as it was written.
    #[must_use]
    pub fn holds(&self, entry: u32, stat: &Stat) -> bool {
        let expected = &self.listing.entries[entry as usize];
        self.entries[entry as usize] == stamp(stat)
            && ctime(stat) < self.instant
            && stat.st_mode == expected.kind.mode()
            && stat.st_size.cast_unsigned() == self.listing.size_of(entry)
    }

    /// Returns whether a directory is the one that was made, and still has just the names that it was given.
    #[must_use]
    pub fn holds_directory(&self, directory: u32, stat: &Stat) -> bool {
        self.directories[directory as usize] == stamp(stat) && ctime(stat) < self.instant
    }
}

/// The stamp of what a stat is of.
#[must_use]
pub fn stamp(stat: &Stat) -> Stamp {
    Stamp { inode: stat.st_ino, ctime: ctime(stat) }
}

fn ctime(stat: &Stat) -> Ctime {
    (stat.st_ctime, stat.st_ctime_nsec as u32)
}

/// Reads the clock by which a file system stamps its files: the ctime of a file made for this in `dir`.
pub fn clock(dir: &Dir) -> io::Result<Ctime> {
    let name = b".incoming-clock";
    dir.remove(name)?;
    let file = dir.create_file(name, 0o600)?;
    let now = ctime(&fstat(&file)?);
    dir.remove(name)?;
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::Dir;

    fn manifest_of(stat: &Stat, instant: Ctime) -> Manifest {
        let mut listing = Listing::new(git2::Oid::ZERO_SHA1);
        listing.push(&super::super::tree::TreeEntry {
            kind: super::super::tree::Kind::File,
            name: b"file",
            id: &[0; 20],
        });
        listing.set_size(0, stat.st_size.cast_unsigned());
        let entries = vec![stamp(stat)];
        Manifest { listing, entries, directories: Vec::new(), converted: Converted::default(), instant }
    }

    #[test]
    fn only_the_very_ctime_proves_that_nothing_was_touched() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("file"), "content").unwrap();
        let stat = Dir::open(temp.path()).unwrap().stat(b"file").unwrap();
        let (seconds, nanoseconds) = ctime(&stat);
        let later = (seconds + 1, nanoseconds);
        assert!(manifest_of(&stat, later).holds(0, &stat));
        // In the tick of the last write a change would leave no trace.
        assert!(!manifest_of(&stat, ctime(&stat)).holds(0, &stat));
        // While the clock was set back somebody changed the file: its ctime is older than it was.
        for touched in
            [(seconds - 3600, nanoseconds), (seconds, nanoseconds ^ 1), (seconds + 3600, nanoseconds)]
        {
            let mut manifest = manifest_of(&stat, (seconds + 7200, 0));
            manifest.entries[0].ctime = touched;
            assert!(!manifest.holds(0, &stat), "{touched:?}");
        }
        // Another file of the same size that was written in the same tick.
        let mut manifest = manifest_of(&stat, later);
        manifest.entries[0].inode += 1;
        assert!(!manifest.holds(0, &stat));
    }
}
