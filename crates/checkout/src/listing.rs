//! [`Listing`]: all paths of one commit, in flat arrays.
//!
//! The entries of a directory are adjacent, and a directory precedes everything below it. So every subtree is one range of
//! `entries` and one range of `directories`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bluegreen_object_store::ObjectId;
use bluegreen_object_store::tree::{EntryKind, TreeEntry};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::index_vec::{DirectoryIndex, EntryIndex, IndexRange, IndexVec};
use super::rows::{self, Row};

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
    /// The parent directory. That of the root is the root itself.
    pub parent: DirectoryIndex,
    /// Its entry, unless it is the root.
    #[serde(with = "optional_entry")]
    pub entry: Option<EntryIndex>,
    /// Its first entry.
    pub first: EntryIndex,
    /// The index after its last entry.
    pub last: EntryIndex,
    /// The index after the last directory below it.
    pub end: DirectoryIndex,
    /// Whether a checkout creates it. Git creates no directory for a tree without files.
    pub is_created: bool,
}

/// All paths of one commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listing {
    pub(super) root: ByteBuf,
    pub(super) names: ByteBuf,
    pub(super) ids: ByteBuf,
    /// All paths except the root.
    #[serde(with = "rows")]
    pub entries: IndexVec<EntryIndex, Entry>,
    /// All directories, the root first.
    pub directories: IndexVec<DirectoryIndex, Directory>,
    /// All symlinks, in the order of their entries.
    pub links: Vec<Link>,
}

/// A symlink.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Link {
    pub entry: EntryIndex,
    pub target: ByteBuf,
}

/// The size of a file or link, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct FileSize {
    pub entry: EntryIndex,
    pub size: u64,
}

/// Stores an optional index as a `u32`, which is `u32::MAX` for `None`.
mod optional_entry {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::EntryIndex;

    #[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub fn serialize<S: Serializer>(entry: &Option<EntryIndex>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(entry.map_or(u32::MAX, u32::from))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EntryIndex>, D::Error> {
        Ok(EntryIndex::try_from(u32::deserialize(deserializer)?).ok())
    }
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
            entries: IndexVec::default(),
            directories: IndexVec::default(),
            links: Vec::new(),
        }
    }

    /// Returns the name of an entry, a single path component.
    #[must_use]
    pub fn name(&self, entry: EntryIndex) -> &[u8] {
        &self.names[self.name_start(entry)..self.entries[entry].name_end as usize]
    }

    /// Returns the start of an entry's name in `names`: the end of the previous name.
    fn name_start(&self, entry: EntryIndex) -> usize {
        entry.previous().map_or(0, |previous| self.entries[previous].name_end as usize)
    }

    /// Returns the size of a file or link in bytes, once it is known.
    #[must_use]
    pub fn size_of(&self, entry: EntryIndex) -> u64 {
        let entry = &self.entries[entry];
        if entry.kind.is_directory() { 0 } else { entry.value }
    }

    /// Sets the size of a file or link.
    pub fn set_size(&mut self, entry: EntryIndex, size: u64) {
        debug_assert!(!self.entries[entry].kind.is_directory());
        self.entries[entry].value = size;
    }

    /// Returns the index in `directories` of an entry that is a directory.
    #[must_use]
    pub fn directory_at(&self, entry: EntryIndex) -> DirectoryIndex {
        debug_assert!(self.entries[entry].kind.is_directory());
        DirectoryIndex::new(self.entries[entry].value as usize)
    }

    /// Sets the index in `directories` of an entry that is a directory.
    pub(super) fn set_directory(&mut self, entry: EntryIndex, directory: DirectoryIndex) {
        debug_assert!(self.entries[entry].kind.is_directory());
        self.entries[entry].value = u32::from(directory).into();
    }

    /// Returns the raw id of an entry's object.
    #[must_use]
    pub fn raw_id(&self, entry: EntryIndex) -> &[u8] {
        let len = self.root.len();
        &self.ids[entry.position() * len..][..len]
    }

    /// Returns the id of an entry's object.
    #[must_use]
    pub fn id(&self, entry: EntryIndex) -> ObjectId {
        // All ids in a listing have a valid length.
        ObjectId::from_bytes(self.raw_id(entry)).unwrap_or(ObjectId::NULL)
    }

    /// Returns the raw id of a directory's tree, or of a submodule's commit.
    #[must_use]
    pub fn directory_id(&self, directory: DirectoryIndex) -> &[u8] {
        self.directories[directory].entry.map_or(&self.root, |entry| self.raw_id(entry))
    }

    /// Returns the range of a directory's entries.
    #[must_use]
    pub fn entries_of(&self, directory: DirectoryIndex) -> IndexRange<EntryIndex> {
        let Directory { first, last, .. } = self.directories[directory];
        IndexRange { start: first, end: last }
    }

    /// Returns the path of a directory, relative to the root of the release.
    #[must_use]
    pub fn directory_path(&self, directory: DirectoryIndex) -> PathBuf {
        let mut names = Vec::new();
        let mut at = &self.directories[directory];
        while let Some(entry) = at.entry {
            names.push(OsStr::from_bytes(self.name(entry)));
            at = &self.directories[at.parent];
        }
        names.iter().rev().collect()
    }

    /// Returns the path of an entry in a directory.
    #[must_use]
    pub fn path(&self, directory: DirectoryIndex, entry: EntryIndex) -> PathBuf {
        self.directory_path(directory).join(OsStr::from_bytes(self.name(entry)))
    }

    /// Returns the path of an entry.
    #[must_use]
    pub fn path_of(&self, entry: EntryIndex) -> PathBuf {
        self.path(self.directory_of(entry), entry)
    }

    /// Returns whether a directory is a submodule.
    #[must_use]
    pub fn is_submodule(&self, directory: DirectoryIndex) -> bool {
        let entry = self.directories[directory].entry;
        entry.is_some_and(|entry| self.entries[entry].kind == EntryKind::Submodule)
    }

    /// Returns the range of all entries below a directory, at any depth.
    #[must_use]
    pub fn below(&self, directory: DirectoryIndex) -> IndexRange<EntryIndex> {
        let Directory { first, end, .. } = self.directories[directory];
        let last_directory = end.previous().unwrap_or(directory);
        IndexRange { start: first, end: self.directories[last_directory].last }
    }

    /// Returns the range of a directory and of all directories below it.
    #[must_use]
    pub fn subtree(&self, directory: DirectoryIndex) -> IndexRange<DirectoryIndex> {
        IndexRange { start: directory, end: self.directories[directory].end }
    }

    /// Returns the directory that contains an entry.
    #[must_use]
    pub fn directory_of(&self, entry: EntryIndex) -> DirectoryIndex {
        let after = self.directories.partition_point(|directory| directory.first <= entry);
        let until = IndexRange { start: DirectoryIndex::ROOT, end: DirectoryIndex::new(after) };
        // An empty directory has the same `first` as the next one, so the search goes backward past these.
        until.rev().find(|&at| self.entries_of(at).contains(entry)).unwrap_or(DirectoryIndex::ROOT)
    }

    /// Finds the entry at a path, relative to the root of the release.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<EntryIndex> {
        let mut directory = Some(DirectoryIndex::ROOT);
        let mut found = None;
        for name in path {
            found = self.entries_of(directory?).find(|&entry| self.name(entry) == name.as_bytes());
            let is_directory = |&entry: &EntryIndex| self.entries[entry].kind.is_directory();
            directory = found.filter(is_directory).map(|entry| self.directory_at(entry));
        }
        found
    }

    /// Returns whether a checkout creates a file or directory for an entry.
    #[must_use]
    pub fn is_created(&self, entry: EntryIndex) -> bool {
        !self.entries[entry].kind.is_directory() || self.directories[self.directory_at(entry)].is_created
    }

    /// Counts the names that a checkout creates in a directory.
    #[must_use]
    pub fn count_created(&self, directory: DirectoryIndex) -> usize {
        self.entries_of(directory).filter(|&entry| self.is_created(entry)).count()
    }

    /// Returns whether every index is within its array. A listing from a file may be damaged.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let (entries, directories) = (self.entries.next_index(), self.directories.next_index());
        let names_match = self.entries.is_sorted_by_key(|entry| entry.name_end)
            && self.entries.last().is_none_or(|last| last.name_end as usize == self.names.len());
        let is_child = |entry: &Entry| entry.value < self.directories.len() as u64;
        let children_exist = self.entries.iter().all(|entry| !entry.kind.is_directory() || is_child(entry));
        let is_valid = |(at, directory): (DirectoryIndex, &Directory)| {
            let has_parent = directory.entry.is_some_and(|entry| entry < entries) && directory.parent < at;
            let is_root = directory.entry.is_none() && at == DirectoryIndex::ROOT;
            (is_root || has_parent)
                && directory.first <= directory.last
                && directory.last <= entries
                && (at < directory.end && directory.end <= directories)
        };
        self.ids.len() == self.entries.len() * self.root.len()
            && names_match
            && children_exist
            && !self.directories.is_empty()
            && self.directories.iter_enumerated().all(is_valid)
            && self.directories.is_sorted_by_key(|directory| directory.first)
            && self.links.iter().all(|link| link.entry < entries)
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
        let entries = self.entries.iter_enumerated();
        let submodules = entries.filter(|(_, entry)| entry.kind == EntryKind::Submodule);
        submodules.map(|(entry, _)| self.directory_path(self.directory_at(entry))).collect()
    }

    pub(super) fn push(&mut self, entry: &TreeEntry) {
        self.names.extend_from_slice(entry.name);
        self.ids.extend_from_slice(entry.id.as_bytes());
        self.entries.push(Entry { kind: entry.kind, name_end: self.names.len() as u32, value: 0 });
    }

    /// Appends a whole subtree of another listing, as the directory of the entry `entry` in `parent`.
    pub(super) fn append_subtree(
        &mut self,
        from: &Self,
        root: DirectoryIndex,
        parent: DirectoryIndex,
        entry: Option<EntryIndex>,
    ) {
        let (subtree, source) = (from.subtree(root), from.below(root));
        let (new_entries, new_directories) = (self.entries.len(), self.directories.len());
        let to_entry =
            |index: EntryIndex| EntryIndex::new(index.position() - source.start.position() + new_entries);
        let to_directory =
            |index: DirectoryIndex| DirectoryIndex::new(index.position() - root.position() + new_directories);
        if let Some(entry) = entry {
            self.set_directory(entry, self.directories.next_index());
        }

        let names = from.name_start(source.start)..from.name_start(source.end);
        let new_names = self.names.len() as u32;
        let to_name_end = |name_end: u32| name_end - names.start as u32 + new_names;
        let entries = from.entries[source.clone()].iter().map(|entry| Entry {
            kind: entry.kind,
            name_end: to_name_end(entry.name_end),
            value: if entry.kind.is_directory() {
                u32::from(to_directory(DirectoryIndex::new(entry.value as usize))).into()
            } else {
                entry.value
            },
        });
        self.entries.extend(entries);
        self.names.extend_from_slice(&from.names[names]);
        let len = self.root.len();
        self.ids.extend_from_slice(&from.ids[source.start.position() * len..source.end.position() * len]);
        let directories = subtree.clone().zip(&from.directories[subtree]);
        self.directories.extend(directories.map(|(at, directory)| Directory {
            parent: if at == root { parent } else { to_directory(directory.parent) },
            entry: if at == root { entry } else { directory.entry.map(to_entry) },
            first: to_entry(directory.first),
            last: to_entry(directory.last),
            end: to_directory(directory.end),
            is_created: directory.is_created,
        }));
        let links = from.links.partition_point(|link| link.entry < source.start);
        let links = from.links[links..].iter().take_while(|link| link.entry < source.end);
        self.links.extend(links.map(|link| Link { entry: to_entry(link.entry), ..link.clone() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_stored_as_positions_with_a_maximum_for_none() {
        let [second, third] = [1, 2].map(EntryIndex::new);
        let (parent, end) = (DirectoryIndex::ROOT, DirectoryIndex::new(300));
        for (entry, stored) in [(None, u32::MAX), (Some(second), 1)] {
            let directory = Directory { parent, entry, first: second, last: third, end, is_created: true };
            let bytes = postcard::to_stdvec(&directory).unwrap();
            assert_eq!(bytes, postcard::to_stdvec(&(0_u32, stored, 1_u32, 2_u32, 300_u32, true)).unwrap());
            assert_eq!(postcard::from_bytes::<Directory>(&bytes).unwrap().entry, entry);
        }
    }
}
