//! [`Listing`]: all paths of one commit, in flat arrays.
//!
//! The entries of a directory are adjacent, and a directory precedes everything below it. So every subtree is one range of
//! `entries` and one range of `directories`.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bluegreen_object_store::ObjectId;
use bluegreen_object_store::tree::{EntryKind, TreeEntry};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::rows::{self, Row};

/// The index of no entry or directory.
pub const NONE: u32 = u32::MAX;

/// A file, link, directory or submodule of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub kind: EntryKind,
    /// The end of the name in `names`. It starts at the end of the previous name.
    pub(super) name_end: u32,
    /// The size of a file, or the index of a directory in `directories`. One field serves both, because there may be millions
    /// of entries. Use [`Listing::size_of`] and [`Listing::directory_at`] to read it.
    value: u64,
}

/// A directory of a listing: the root, a tree, or a submodule.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Directory {
    /// The index of the parent directory.
    pub parent: u32,
    /// The index of its entry, or [`NONE`] for the root.
    pub entry: u32,
    /// Its first entry.
    pub first: u32,
    /// The entry after its last one.
    pub last: u32,
    /// The index after the last directory below it.
    pub end: u32,
    /// Whether a checkout creates it. Git creates no directory for a tree without files.
    pub is_made: bool,
}

/// All paths of one commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listing {
    pub(super) root: ByteBuf,
    pub(super) names: ByteBuf,
    pub(super) ids: ByteBuf,
    /// All paths except the root.
    #[serde(with = "rows")]
    pub entries: Vec<Entry>,
    /// All directories, the root first.
    pub directories: Vec<Directory>,
    /// Entry and target of every link, by entry.
    pub links: Vec<(u32, ByteBuf)>,
}

impl Row<13> for Entry {
    fn to_row(&self) -> [u8; 13] {
        let mut row = [0; 13];
        row[0] = self.kind as u8;
        row[1..5].copy_from_slice(&self.name_end.to_le_bytes());
        row[5..].copy_from_slice(&self.value.to_le_bytes());
        row
    }

    fn from_row(&[kind, ref rest @ ..]: &[u8; 13]) -> Option<Self> {
        let (name_end, value) = rest.split_first_chunk()?;
        Some(Self {
            kind: *EntryKind::ALL.get(usize::from(kind))?,
            name_end: u32::from_le_bytes(*name_end),
            value: u64::from_le_bytes(value.try_into().ok()?),
        })
    }
}

impl Listing {
    pub(super) fn new(root: ObjectId) -> Self {
        Self {
            root: ByteBuf::from(root.as_bytes()),
            names: ByteBuf::new(),
            ids: ByteBuf::new(),
            entries: Vec::new(),
            directories: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Returns the name of an entry, a single path component.
    #[must_use]
    pub fn name(&self, entry: u32) -> &[u8] {
        let start = entry.checked_sub(1).map_or(0, |before| self.entries[before as usize].name_end);
        &self.names[start as usize..self.entries[entry as usize].name_end as usize]
    }

    /// Returns the size of a file or link in bytes, once it is known.
    #[must_use]
    pub fn size_of(&self, entry: u32) -> u64 {
        let entry = &self.entries[entry as usize];
        if entry.kind.is_directory() { 0 } else { entry.value }
    }

    /// Sets the size of a file or link.
    pub fn set_size(&mut self, entry: u32, size: u64) {
        debug_assert!(!self.entries[entry as usize].kind.is_directory());
        self.entries[entry as usize].value = size;
    }

    /// Returns the index in `directories` of an entry that is a directory.
    #[must_use]
    pub fn directory_at(&self, entry: u32) -> u32 {
        debug_assert!(self.entries[entry as usize].kind.is_directory());
        self.entries[entry as usize].value as u32
    }

    /// Sets the index in `directories` of an entry that is a directory.
    pub(super) fn set_directory(&mut self, entry: u32, directory: u32) {
        debug_assert!(self.entries[entry as usize].kind.is_directory());
        self.entries[entry as usize].value = directory.into();
    }

    /// Returns the raw id of an entry's object.
    #[must_use]
    pub fn raw_id(&self, entry: u32) -> &[u8] {
        let len = self.root.len();
        &self.ids[entry as usize * len..][..len]
    }

    /// Returns the id of an entry's object.
    #[must_use]
    pub fn id(&self, entry: u32) -> ObjectId {
        // All ids in a listing have a valid length.
        ObjectId::from_bytes(self.raw_id(entry)).unwrap_or(ObjectId::NULL)
    }

    /// Returns the raw id of a directory's tree, or of a submodule's commit.
    #[must_use]
    pub fn directory_id(&self, directory: u32) -> &[u8] {
        match self.directories[directory as usize].entry {
            NONE => &self.root,
            entry => self.raw_id(entry),
        }
    }

    /// Returns the range of a directory's entries.
    #[must_use]
    pub fn entries_of(&self, directory: u32) -> Range<u32> {
        let directory = &self.directories[directory as usize];
        directory.first..directory.last
    }

    /// Returns the path of a directory, relative to the root of the release.
    #[must_use]
    pub fn directory_path(&self, directory: u32) -> PathBuf {
        let mut names = Vec::new();
        let mut at = &self.directories[directory as usize];
        while at.entry != NONE {
            names.push(OsStr::from_bytes(self.name(at.entry)));
            at = &self.directories[at.parent as usize];
        }
        names.iter().rev().collect()
    }

    /// Returns the path of an entry in a directory.
    #[must_use]
    pub fn path(&self, directory: u32, entry: u32) -> PathBuf {
        self.directory_path(directory).join(OsStr::from_bytes(self.name(entry)))
    }

    /// Returns the path of an entry.
    #[must_use]
    pub fn path_of(&self, entry: u32) -> PathBuf {
        self.path(self.directory_of(entry), entry)
    }

    /// Returns whether a directory is a submodule.
    #[must_use]
    pub fn is_submodule(&self, directory: u32) -> bool {
        let entry = self.directories[directory as usize].entry;
        entry != NONE && self.entries[entry as usize].kind == EntryKind::Submodule
    }

    /// Returns the range of all entries below a directory, at any depth.
    #[must_use]
    pub fn below(&self, directory: u32) -> Range<u32> {
        let is = &self.directories[directory as usize];
        is.first..self.directories[is.end as usize - 1].last
    }

    /// Returns the directory that contains an entry.
    #[must_use]
    pub fn directory_of(&self, entry: u32) -> u32 {
        let after = self.directories.partition_point(|directory| directory.first <= entry);
        // An empty directory has the same `first` as the next one, so the search goes backward past these.
        (0..after).rev().find(|&at| self.entries_of(at as u32).contains(&entry)).unwrap_or(0) as u32
    }

    /// Finds the entry at a path, relative to the root of the release.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<u32> {
        let mut directory = Some(0);
        let mut found = None;
        for name in path {
            found = self.entries_of(directory?).find(|&entry| self.name(entry) == name.as_bytes());
            let is_directory = |&entry: &u32| self.entries[entry as usize].kind.is_directory();
            directory = found.filter(is_directory).map(|entry| self.directory_at(entry));
        }
        found
    }

    /// Returns whether a checkout creates a file or directory for an entry.
    #[must_use]
    pub fn is_made(&self, entry: u32) -> bool {
        !self.entries[entry as usize].kind.is_directory()
            || self.directories[self.directory_at(entry) as usize].is_made
    }

    /// Counts the names that a checkout creates in a directory.
    #[must_use]
    pub fn count_made(&self, directory: u32) -> usize {
        self.entries_of(directory).filter(|&entry| self.is_made(entry)).count()
    }

    /// Returns whether every index is within its array. A listing from a file may be damaged.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let (entries, directories) = (self.entries.len(), self.directories.len());
        let names_match = self.entries.is_sorted_by_key(|entry| entry.name_end)
            && self.entries.last().is_none_or(|last| last.name_end as usize == self.names.len());
        let children_exist =
            self.entries.iter().all(|entry| !entry.kind.is_directory() || entry.value < directories as u64);
        let is_valid = |(at, directory): (usize, &Directory)| {
            let is_root = directory.entry == NONE;
            is_root == (at == 0)
                && (is_root || (directory.entry as usize) < entries && (directory.parent as usize) < at)
                && directory.first <= directory.last
                && directory.last as usize <= entries
                && (at + 1..=directories).contains(&(directory.end as usize))
        };
        let links_exist = self.links.iter().all(|(entry, _)| (*entry as usize) < entries);
        self.ids.len() == entries * self.root.len()
            && names_match
            && children_exist
            && directories > 0
            && self.directories.iter().enumerate().all(is_valid)
            && self.directories.is_sorted_by_key(|directory| directory.first)
            && links_exist
    }

    /// Returns the number of files and links.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.entries.iter().filter(|entry| !entry.kind.is_directory()).count() as u64
    }

    /// Returns the size of all files and links, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let files = self.entries.iter().filter(|entry| !entry.kind.is_directory());
        files.fold(0, |size, file| size.saturating_add(file.value))
    }

    /// Returns the paths of all submodules.
    #[must_use]
    pub fn submodules(&self) -> Vec<PathBuf> {
        let submodules = (0..).zip(&self.entries).filter(|(_, entry)| entry.kind == EntryKind::Submodule);
        submodules.map(|(entry, _)| self.directory_path(self.directory_at(entry))).collect()
    }

    pub(super) fn push(&mut self, entry: &TreeEntry) {
        self.names.extend_from_slice(entry.name);
        self.ids.extend_from_slice(entry.id.as_bytes());
        self.entries.push(Entry { kind: entry.kind, name_end: self.names.len() as u32, value: 0 });
    }

    /// Appends a whole subtree of another listing, as the directory of the entry `entry` in `parent`.
    pub(super) fn append_subtree(&mut self, from: &Self, root: u32, parent: u32, entry: u32) {
        let subtree = root..from.directories[root as usize].end;
        let source = from.below(root);
        let (new_entries, new_directories) = (self.entries.len() as u32, self.directories.len() as u32);
        let to_entry = |index: u32| index - source.start + new_entries;
        let to_directory = |index: u32| index - subtree.start + new_directories;

        let name_end =
            |before: u32| before.checked_sub(1).map_or(0, |last| from.entries[last as usize].name_end);
        let (name_start, new_names) = (name_end(source.start), self.names.len() as u32);
        self.names.extend_from_slice(
            &from.names[name_start as usize..name_end(source.end).max(name_start) as usize],
        );
        let len = self.root.len();
        self.ids.extend_from_slice(&from.ids[source.start as usize * len..source.end as usize * len]);
        let entries = &from.entries[source.start as usize..source.end as usize];
        self.entries.extend(entries.iter().map(|entry| Entry {
            kind: entry.kind,
            name_end: entry.name_end - name_start + new_names,
            value: if entry.kind.is_directory() {
                to_directory(entry.value as u32).into()
            } else {
                entry.value
            },
        }));
        let directories = &from.directories[subtree.start as usize..subtree.end as usize];
        self.directories.extend(directories.iter().enumerate().map(|(at, directory)| Directory {
            parent: if at == 0 { parent } else { to_directory(directory.parent) },
            entry: if at == 0 { entry } else { to_entry(directory.entry) },
            first: to_entry(directory.first),
            last: to_entry(directory.last),
            end: to_directory(directory.end),
            is_made: directory.is_made,
        }));
        if entry != NONE {
            self.set_directory(entry, new_directories);
        }
        let links = from.links.partition_point(|(link, _)| *link < source.start);
        let links = from.links[links..].iter().take_while(|(link, _)| *link < source.end);
        self.links.extend(links.map(|(link, target)| (to_entry(*link), target.clone())));
    }
}
