//! Plans a release: reads every path of a commit, and validates all of them before the first write.
//!
//! A [`Plan`] is a [`Listing`] plus the entries that the recycled release already contains. A directory with the same path
//! and id as in the older listing is copied from there, without reading its tree.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use bluegreen_object_store::ObjectId;
use bluegreen_object_store::tree::{self, EntryKind, TreeEntry, sort_key};
use bluegreen_object_store::{ObjectStore, Reader};
use serde_bytes::ByteBuf;

use super::error::{Error, Result};
use super::index_vec::{DirectoryIndex, EntryIndex, IndexRange, IndexVec};
use super::listing::{Directory, Entry, Link, Listing};
use super::submodule::Projects;

/// The maximum depth of a tree: git's own limit (`core.maxTreeDepth`).
const MAX_DEPTH: u32 = 2048;

/// The maximum length of a path in bytes, including the terminating NUL: `PATH_MAX` on Linux.
const MAX_PATH: u32 = 4096;

/// A listing, and the entries that an older listing contains, too.
#[derive(Debug)]
pub struct Plan {
    /// All paths of the release.
    pub listing: Listing,
    /// For each entry, the entry in the older listing with the same path, type, and id.
    pub same_in_old: IndexVec<EntryIndex, Option<EntryIndex>>,
    /// For each directory, the directory in the older listing with the same path.
    pub directory_in_old: IndexVec<DirectoryIndex, Option<DirectoryIndex>>,
}

/// An entry of the older listing with the same path.
pub enum InOld {
    /// A file or link with the same type and id.
    File(EntryIndex),
    Directory(DirectoryIndex),
}

/// A directory that is yet to be read.
struct Pending {
    parent: DirectoryIndex,
    entry: Option<EntryIndex>,
    /// The directory in the older listing with the same path.
    in_old: Option<DirectoryIndex>,
    depth: u32,
    path_len: u32,
    /// The index of the project that contains it.
    project: usize,
}

/// Reads the trees of a commit into a plan.
struct Planner<'a, 'p> {
    reader: Rc<Reader<'p>>,
    max_entries: u32,
    older: Option<&'a Listing>,
    plan: Plan,
    pending: Vec<Pending>,
    /// The projects, if submodules are deployed.
    projects: Option<&'a mut Projects<'p>>,
    /// The submodules of the older listing. They are never copied, because they may be empty there.
    older_submodules: Vec<EntryIndex>,
}

impl Plan {
    /// Reads and validates the whole tree `root`, with at most `max_entries` entries. Compares it with the `older` listing, and
    /// does not read directories that are equal in both.
    pub fn read<'p>(
        objects: &'p ObjectStore<'p>,
        root: ObjectId,
        older: Option<&Listing>,
        max_entries: u32,
        projects: Option<&mut Projects<'p>>,
    ) -> Result<Self> {
        let submodules = |older: &Listing| {
            let is_submodule = |entry: &EntryIndex| older.entries[*entry].kind == EntryKind::Submodule;
            older.entries.indices().filter(is_submodule).collect()
        };
        let mut planner = Planner {
            reader: Rc::new(objects.reader()),
            projects,
            older_submodules: older.map(submodules).unwrap_or_default(),
            max_entries,
            older: older.filter(|older| older.root.len() == objects.format().id_len()),
            plan: Plan {
                listing: Listing::new(root),
                same_in_old: IndexVec::default(),
                directory_in_old: IndexVec::default(),
            },
            pending: Vec::new(),
        };
        let parent = DirectoryIndex::ROOT;
        let in_old = planner.older.map(|_| DirectoryIndex::ROOT);
        planner.pending.push(Pending { parent, entry: None, in_old, depth: 0, path_len: 0, project: 0 });
        while let Some(directory) = planner.pending.pop() {
            planner.read_directory(&directory)?;
        }
        planner.read_links()?;
        planner.plan.close();
        Ok(planner.plan)
    }

    /// Finds an entry in the older listing.
    #[must_use]
    pub fn in_old(&self, entry: EntryIndex) -> Option<InOld> {
        if self.listing.entries[entry].kind.is_directory() {
            self.directory_in_old[self.listing.directory_at(entry)].map(InOld::Directory)
        } else {
            self.same_in_old[entry].map(InOld::File)
        }
    }

    /// Returns the sizes in bytes of the files and links that are not in the older listing.
    pub fn new_sizes(&self) -> impl Iterator<Item = u64> {
        self.new_entries().map(|entry| self.listing.size_of(entry))
    }

    /// Returns the files and links that are not in the older listing.
    pub fn new_entries(&self) -> impl Iterator<Item = EntryIndex> {
        let is_new = |entry: &EntryIndex| {
            self.same_in_old[*entry].is_none() && !self.listing.entries[*entry].kind.is_directory()
        };
        self.listing.entries.indices().filter(is_new)
    }

    /// Computes the end of each subtree and which directories are created, from the leaves to the root.
    fn close(&mut self) {
        let Listing { entries, directories, .. } = &mut self.listing;
        for at in directories.indices().rev() {
            let Directory { parent, entry, first, last, end, is_created } = directories[at];
            let is_file = |entry: &Entry| entry.kind != EntryKind::Directory;
            let is_submodule = entry.is_some_and(|entry| entries[entry].kind == EntryKind::Submodule);
            let is_created = is_created
                || at == DirectoryIndex::ROOT
                || is_submodule
                || entries[IndexRange { start: first, end: last }].iter().any(is_file);
            let end = end.max(at.next());
            directories[at].is_created = is_created;
            directories[at].end = end;
            let parent = &mut directories[parent];
            parent.is_created |= is_created;
            parent.end = parent.end.max(end);
        }
    }
}

impl Planner<'_, '_> {
    fn read_directory(&mut self, pending: &Pending) -> Result<()> {
        let id = match pending.entry {
            None => self.plan.listing.root.clone(),
            Some(entry) => ByteBuf::from(self.plan.listing.raw_id(entry)),
        };
        let is_submodule =
            pending.entry.is_some_and(|entry| self.plan.listing.entries[entry].kind == EntryKind::Submodule);
        if let (Some(older), Some(in_old), false) = (self.older, pending.in_old, is_submodule)
            && !self.has_submodules(older, in_old)
            && older.directory_id(in_old) == id.as_slice()
        {
            self.copy_subtree(older, in_old, pending);
            return self.check_limit();
        }
        let directory = self.plan.listing.directories.next_index();
        let first = self.plan.listing.entries.next_index();
        let new = Directory {
            parent: pending.parent,
            entry: pending.entry,
            first,
            last: first,
            end: directory,
            is_created: false,
        };
        self.plan.listing.directories.push(new);
        self.plan.directory_in_old.push(pending.in_old);
        if let Some(entry) = pending.entry {
            self.plan.listing.set_directory(entry, directory);
        }
        let mut tree = ObjectId::from_bytes(&id).unwrap_or(ObjectId::NULL);
        let mut project = pending.project;
        if is_submodule {
            let Some(opened) = self.open_submodule(directory, tree, project)? else { return Ok(()) };
            (tree, project) = opened;
        }
        let reader = Rc::clone(&self.reader);
        let data = reader.tree(tree)?;
        let invalid = |invalid: tree::InvalidTree| self.invalid(directory, &invalid.name, invalid.problem);
        let entries = tree::parse(&data, reader.format()).map_err(invalid)?;
        for entry in &entries {
            self.plan.listing.push(entry);
            self.plan.same_in_old.push(None);
        }
        self.plan.listing.directories[directory].last = self.plan.listing.entries.next_index();
        self.check_limit()?;
        self.descend(directory, &entries, &Pending { project, ..*pending })
    }

    /// Returns the tree of a submodule and its project, if submodules are deployed.
    fn open_submodule(
        &mut self,
        directory: DirectoryIndex,
        commit: ObjectId,
        project: usize,
    ) -> Result<Option<(ObjectId, usize)>> {
        let Some(projects) = &mut self.projects else { return Ok(None) };
        let listing = &self.plan.listing;
        let outer = &projects.all[project];
        let gitmodules = outer.gitmodules(listing);
        let path = outer.path_in(listing, &listing.directory_path(directory));
        let tree = projects.open(project, gitmodules, &path, commit, directory)?;
        let project = projects.all.len() - 1;
        self.reader = Rc::new(projects.objects().reader());
        Ok(Some((tree, project)))
    }

    fn has_submodules(&self, older: &Listing, directory: DirectoryIndex) -> bool {
        let below = older.below(directory);
        let at = self.older_submodules.partition_point(|&entry| entry < below.start);
        self.older_submodules.get(at).is_some_and(|&entry| below.contains(entry))
    }

    /// Looks up a directory's entries in the older listing, and pushes its subdirectories onto the stack, so that the first one
    /// is read next.
    fn descend(&mut self, directory: DirectoryIndex, entries: &[TreeEntry], pending: &Pending) -> Result<()> {
        let indices = self.plan.listing.entries_of(directory);
        let mut older = self.older.zip(pending.in_old).map(|(old, in_old)| (old, old.entries_of(in_old)));
        let mut children = Vec::new();
        for (entry, index) in entries.iter().zip(indices) {
            let path_len = pending.path_len + entry.name.len() as u32 + 1;
            let depth = pending.depth + 1;
            if path_len > MAX_PATH || depth > MAX_DEPTH {
                return Err(self.invalid(directory, entry.name, "the path is too long or too deep"));
            }
            let found = older.as_mut().and_then(|(old, rest)| Some((*old, find(old, rest, entry)?)));
            if entry.kind.is_directory() {
                let in_old = found.map(|(old, found)| old.directory_at(found));
                let project = pending.project;
                let entry = Some(index);
                children.push(Pending { parent: directory, entry, in_old, depth, path_len, project });
            } else if let Some((old, found)) = found
                && old.raw_id(found) == entry.id.as_bytes()
                && old.entries[found].kind == entry.kind
            {
                self.plan.same_in_old[index] = Some(found);
                self.plan.listing.set_size(index, old.size_of(found));
            }
        }
        self.pending.extend(children.into_iter().rev());
        Ok(())
    }

    /// Copies a directory and everything below it from the older listing, which contains it with the same path and id.
    fn copy_subtree(&mut self, older: &Listing, in_old: DirectoryIndex, pending: &Pending) {
        self.plan.listing.append_subtree(older, in_old, pending.parent, pending.entry);
        let kept = |entry: EntryIndex| Some(entry).filter(|_| !older.entries[entry].kind.is_directory());
        self.plan.same_in_old.extend(older.below(in_old).map(kept));
        self.plan.directory_in_old.extend(older.subtree(in_old).map(Some));
    }

    /// Reads the targets of the links that were not copied, and sorts all links.
    fn read_links(&mut self) -> Result<()> {
        let listing = &mut self.plan.listing;
        listing.links.sort_unstable_by_key(|link| link.entry);
        let known: Vec<EntryIndex> = listing.links.iter().map(|link| link.entry).collect();
        for entry in listing.entries.indices() {
            if listing.entries[entry].kind != EntryKind::Link || known.binary_search(&entry).is_ok() {
                continue;
            }
            let id = listing.id(entry);
            let size = self.reader.blob_size(id)?;
            let problem = match size {
                0 => "the link has no target",
                1..4096 => {
                    let blob = self.reader.blob(id)?;
                    if !blob.contains(&0) {
                        listing.set_size(entry, size);
                        listing.links.push(Link { entry, target: ByteBuf::from(blob) });
                        continue;
                    }
                    "the link's target contains a NUL byte"
                }
                _ => "the link's target is too long",
            };
            let path = listing.path(listing.directory_of(entry), entry);
            return Err(Error::Tree { path, problem: problem.into() });
        }
        listing.links.sort_unstable_by_key(|link| link.entry);
        Ok(())
    }

    fn check_limit(&self) -> Result<()> {
        let Listing { entries, names, .. } = &self.plan.listing;
        let max_entries = EntryIndex::MAX_LEN.min(self.max_entries as usize);
        if entries.len() <= max_entries && names.len() < u32::MAX as usize {
            return Ok(());
        }
        let limit = self.max_entries.to_string();
        Err(Error::Limit { limit, what: "files and directories", key: "max-files" })
    }

    fn invalid(&self, directory: DirectoryIndex, name: &[u8], problem: &str) -> Error {
        let path = self.plan.listing.directory_path(directory).join(OsStr::from_bytes(name));
        Error::Tree { path, problem: problem.into() }
    }
}

/// Finds the entry with the same name in the older listing. A directory matches only a directory. Both sides are in git's
/// order, so the search continues where the last one stopped.
fn find(older: &Listing, rest: &mut IndexRange<EntryIndex>, entry: &TreeEntry) -> Option<EntryIndex> {
    while let Some(candidate) = rest.clone().next() {
        let kind = older.entries[candidate].kind;
        match sort_key(kind, older.name(candidate)).cmp(sort_key(entry.kind, entry.name)) {
            std::cmp::Ordering::Less => rest.start = candidate.next(),
            std::cmp::Ordering::Equal if kind.is_directory() == entry.kind.is_directory() => {
                rest.start = candidate.next();
                return Some(candidate);
            }
            _ => break,
        }
    }
    None
}
