//! The manifest of a finished checkout: its listing, and the result of `lstat` for each path.
//!
//! It serves the same purpose as git's index. A file that still has the inode number, ctime, size and mode that
//! it had after it was written has not been changed: every change updates the ctime, and no program can set it
//! back. The inode number detects two files that were written in the same tick of the clock and exchanged:
//! moving a directory does not change the ctimes of the files in it. A ctime equal to the time of the last
//! write proves nothing, because a change in the same tick would not show. Such a file counts as changed, like
//! git's "racy" entries. In such a directory the names are counted again. Linux 6.13 and newer have no such ticks on
//! most file systems: an inode whose ctime was read gets another ctime by the next change.

use std::io::{self, BufWriter, Write};

use bluegreen_sys::dir::Dir;
use rustix::fs::{Mode, Stat, fchmod, fstat};
use serde::{Deserialize, Serialize};

use super::converted::Converted;
use super::index_vec::{DirectoryIndex, EntryIndex, IndexVec};
use super::listing::Listing;
use super::rows::{self, Row};

/// The first line of the file. It must change with the format and with the rules of validation.
const MAGIC: &[u8] = b"bluegreen manifest 4\n";

/// The time at which an inode was last changed, since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ctime {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// An inode number and a ctime. A release is on one file system, because mounts in it are refused, so the
/// number identifies the inode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The inode number.
    pub inode: u64,
    /// The time at which it was last changed.
    pub ctime: Ctime,
}

impl Row<20> for Stamp {
    fn to_row(&self) -> [u8; 20] {
        let mut row = [0; 20];
        row[..8].copy_from_slice(&self.inode.to_le_bytes());
        row[8..16].copy_from_slice(&self.ctime.seconds.to_le_bytes());
        row[16..].copy_from_slice(&self.ctime.nanoseconds.to_le_bytes());
        row
    }

    fn from_row(row: &[u8; 20]) -> Option<Self> {
        let (inode, rest) = row.split_first_chunk()?;
        let (seconds, nanoseconds) = rest.split_first_chunk()?;
        Some(Self {
            inode: u64::from_le_bytes(*inode),
            ctime: Ctime {
                seconds: i64::from_le_bytes(*seconds),
                nanoseconds: u32::from_le_bytes(nanoseconds.try_into().ok()?),
            },
        })
    }
}

/// A listing, and the state of each path on the disk.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// All paths.
    pub listing: Listing,
    /// The stamp of each entry that is not a directory.
    #[serde(with = "rows")]
    pub entries: IndexVec<EntryIndex, Stamp>,
    /// The stamp of each directory, after the last name in it was created.
    #[serde(with = "rows")]
    pub directories: IndexVec<DirectoryIndex, Stamp>,
    /// The converted files.
    pub converted: Converted,
    /// The file system's clock after the last write.
    pub instant: Ctime,
}

impl Manifest {
    /// Parses the output of [`Manifest::write`]; `None` for anything else.
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let manifest: Self = postcard::from_bytes(data.strip_prefix(MAGIC)?).ok()?;
        let counts = (manifest.listing.entries.len(), manifest.listing.directories.len());
        (counts == (manifest.entries.len(), manifest.directories.len()) && manifest.listing.is_consistent())
            .then_some(manifest)
    }

    /// Writes the manifest in the form that [`Manifest::parse`] reads.
    pub fn write(&self, file: &mut impl Write) -> io::Result<()> {
        let mut file = BufWriter::new(file);
        file.write_all(MAGIC)?;
        match postcard::to_io(self, &mut file) {
            Ok(file) => file.flush(),
            // postcard drops the error of the system, which occurs again as long as the disk is full.
            Err(error) => file.flush().and(Err(io::Error::other(error))),
        }
    }

    /// Returns whether an entry is unchanged on the disk since it was written.
    #[must_use]
    pub fn holds(&self, entry: EntryIndex, stat: &Stat) -> bool {
        let expected = &self.listing.entries[entry];
        self.entries[entry] == stamp(stat)
            && ctime(stat) < self.instant
            && stat.st_mode == expected.kind.mode()
            && stat.st_size.cast_unsigned() == self.listing.size_of(entry)
    }

    /// Returns whether a directory is the same one and has the same names as after it was filled. `count` counts the
    /// names that it has now; it is called if the ctime proves nothing. The caller finds each expected name.
    #[must_use]
    pub fn holds_directory(
        &self,
        directory: DirectoryIndex,
        stat: &Stat,
        count: impl FnOnce() -> Option<usize>,
    ) -> bool {
        self.directories[directory] == stamp(stat)
            && (ctime(stat) < self.instant || count() == Some(self.listing.count_created(directory)))
    }
}

/// Takes the stamp from a stat.
#[must_use]
pub fn stamp(stat: &Stat) -> Stamp {
    Stamp { inode: stat.st_ino, ctime: ctime(stat) }
}

/// Takes the ctime from a stat.
#[must_use]
pub fn ctime(stat: &Stat) -> Ctime {
    Ctime { seconds: stat.st_ctime, nanoseconds: stat.st_ctime_nsec as u32 }
}

/// Reads the clock with which a file system stamps its files: the ctime of a temporary file in `dir`, whose name starts
/// with `prefix`.
///
/// The file is changed after its ctime was read. A file system with ticks of the clock stamps both with the last tick.
/// One that gives a change another ctime if the previous one was read stamps this one with the exact time, which is later
/// than all ctimes so far.
pub fn clock(dir: &Dir, prefix: &str) -> io::Result<Ctime> {
    let name = &[prefix.as_bytes(), b"clock"].concat();
    dir.remove(name)?;
    let file = dir.create_file(name, 0o600)?;
    fstat(&file)?;
    fchmod(&file, Mode::from_raw_mode(0o600))?;
    let now = ctime(&fstat(&file)?);
    dir.remove(name)?;
    Ok(now)
}

#[cfg(test)]
mod tests {
    use bluegreen_object_store::ObjectId;
    use bluegreen_object_store::tree::{EntryKind, TreeEntry};

    use super::super::listing::Directory;
    use super::*;

    fn manifest_of(stat: &Stat, instant: Ctime) -> Manifest {
        let mut listing = Listing::new(ObjectId::NULL);
        listing.push(&TreeEntry { kind: EntryKind::File, name: b"file", id: ObjectId::NULL });
        listing.set_size(EntryIndex::FIRST, stat.st_size.cast_unsigned());
        let entries = vec![stamp(stat)].into();
        Manifest {
            listing,
            entries,
            directories: IndexVec::default(),
            converted: Converted::default(),
            instant,
        }
    }

    #[test]
    fn a_file_counts_as_unchanged_only_with_exactly_its_old_ctime() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("file"), "content").unwrap();
        let stat = Dir::open(temp.path()).unwrap().stat(b"file").unwrap();
        let Ctime { seconds, nanoseconds } = ctime(&stat);
        let later = Ctime { seconds: seconds + 1, nanoseconds };
        assert!(manifest_of(&stat, later).holds(EntryIndex::FIRST, &stat));
        // In the tick of the last write a change would leave no trace.
        assert!(!manifest_of(&stat, ctime(&stat)).holds(EntryIndex::FIRST, &stat));
        // The file was changed while the clock was set back, so its ctime is older.
        for (seconds_later, other_bits) in [(-3600, 0), (0, 1), (3600, 0)] {
            let mut manifest = manifest_of(&stat, Ctime { seconds: seconds + 7200, nanoseconds });
            let touched = Ctime { seconds: seconds + seconds_later, nanoseconds: nanoseconds ^ other_bits };
            manifest.entries[EntryIndex::FIRST].ctime = touched;
            assert!(!manifest.holds(EntryIndex::FIRST, &stat), "{touched:?}");
        }
        // Another file of the same size, written in the same tick.
        let mut manifest = manifest_of(&stat, later);
        manifest.entries[EntryIndex::FIRST].inode += 1;
        assert!(!manifest.holds(EntryIndex::FIRST, &stat));
    }

    #[test]
    fn a_directory_of_the_last_tick_is_unchanged_if_it_has_as_many_names() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("file"), "content").unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let stat = dir.own_stat().unwrap();
        let manifest = |instant| {
            let mut manifest = manifest_of(&dir.stat(b"file").unwrap(), instant);
            let (first, parent) = (EntryIndex::FIRST, DirectoryIndex::ROOT);
            let (last, end) = (first.next(), parent.next());
            let root = Directory { parent, entry: None, first, last, end, is_created: true };
            manifest.listing.directories.push(root);
            manifest.directories.push(stamp(&stat));
            manifest
        };
        let same_tick = manifest(ctime(&stat));
        assert!(same_tick.holds_directory(DirectoryIndex::ROOT, &stat, || Some(1)));
        assert!(!same_tick.holds_directory(DirectoryIndex::ROOT, &stat, || Some(2)));
        assert!(!same_tick.holds_directory(DirectoryIndex::ROOT, &stat, || None));
        let later = manifest(Ctime { seconds: stat.st_ctime + 1, nanoseconds: 0 });
        assert!(later.holds_directory(DirectoryIndex::ROOT, &stat, || panic!("the ctime proves it")));
    }

    #[test]
    fn the_clock_is_later_than_every_file_unless_the_file_system_has_ticks() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        for round in 0..20 {
            let file = std::fs::File::create(temp.path().join(format!("file{round}"))).unwrap();
            let times = [0o600, 0o640, 0o644].map(|mode| {
                fchmod(&file, Mode::from_raw_mode(mode)).unwrap();
                ctime(&fstat(&file).unwrap())
            });
            let now = clock(&dir, ".incoming-").unwrap();
            let has_ticks = times[0] == times[1] || times[1] == times[2];
            assert!(now >= times[2] && (now > times[2] || has_ticks), "{times:?}, then {now:?}");
        }
    }
}
