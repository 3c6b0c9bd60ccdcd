//! Plans a release: reads every path of a commit, and validates all of them before the first write.
//!
//! A [`Plan`] is a [`Listing`] plus the entries that the recycled release already contains. A directory with the same path
//! and id as in the older listing is copied from there, without reading its tree.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use bluegreen_object_store::ObjectId;
use bluegreen_object_store::tree::{self, EntryKind, TreeEntry, sort_key};
use bluegreen_object_store::{ObjectStore, Reader};
use serde_bytes::ByteBuf;

use super::error::{Error, Result};
use super::listing::{Directory, Entry, Listing, NONE};
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
    /// For each entry, the entry in the older listing with the same path, type, and id, or [`NONE`].
    pub same_in_old: Vec<u32>,
    /// For each directory, the directory in the older listing with the same path, or [`NONE`].
    pub directory_in_old: Vec<u32>,
}

/// A directory that is yet to be read.
struct Pending {
    parent: u32,
    entry: u32,
    /// The directory in the older listing with the same path, or [`NONE`].
    in_old: u32,
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
    older_submodules: Vec<u32>,
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
        let is_submodule = |entry: &u32| {
            older.is_some_and(|older| older.entries[*entry as usize].kind == EntryKind::Submodule)
        };
        let older_entries = older.map_or(0, |older| older.entries.len() as u32);
        let mut planner = Planner {
            reader: Rc::new(objects.reader()),
            projects,
            older_submodules: (0..older_entries).filter(is_submodule).collect(),
            max_entries,
            older: older.filter(|older| older.root.len() == objects.format().id_len()),
            plan: Plan { listing: Listing::new(root), same_in_old: Vec::new(), directory_in_old: Vec::new() },
            pending: Vec::new(),
        };
        let in_old = if planner.older.is_some() { 0 } else { NONE };
        planner.pending.push(Pending { parent: 0, entry: NONE, in_old, depth: 0, path_len: 0, project: 0 });
        while let Some(directory) = planner.pending.pop() {
            planner.read_directory(&directory)?;
        }
        planner.read_links()?;
        planner.plan.close();
        Ok(planner.plan)
    }

    /// Returns the sizes in bytes of the files and links that are not in the older listing.
    pub fn new_sizes(&self) -> impl Iterator<Item = u64> {
        self.new_entries().map(|entry| self.listing.size_of(entry))
    }

    /// Returns the files and links that are not in the older listing.
    pub fn new_entries(&self) -> impl Iterator<Item = u32> {
        let is_new = |entry: &u32| {
            self.same_in_old[*entry as usize] == NONE
                && !self.listing.entries[*entry as usize].kind.is_directory()
        };
        (0..self.listing.entries.len() as u32).filter(is_new)
    }

    /// Computes the end of each subtree and which directories are created, from the leaves to the root.
    fn close(&mut self) {
        let Listing { entries, directories, .. } = &mut self.listing;
        for at in (0..directories.len()).rev() {
            let Directory { parent, entry, first, last, end, is_made } = directories[at];
            let is_file = |entry: &Entry| entry.kind != EntryKind::Directory;
            let is_submodule = entry != NONE && entries[entry as usize].kind == EntryKind::Submodule;
            let is_made = is_made
                || at == 0
                || is_submodule
                || entries[first as usize..last as usize].iter().any(is_file);
            let end = end.max(at as u32 + 1);
            directories[at].is_made = is_made;
            directories[at].end = end;
            let parent = &mut directories[parent as usize];
            parent.is_made |= is_made;
            parent.end = parent.end.max(end);
        }
    }
}

impl Planner<'_, '_> {
    fn read_directory(&mut self, pending: &Pending) -> Result<()> {
        let id = match pending.entry {
            NONE => self.plan.listing.root.clone(),
            entry => ByteBuf::from(self.plan.listing.raw_id(entry)),
        };
        let is_submodule = pending.entry != NONE
            && self.plan.listing.entries[pending.entry as usize].kind == EntryKind::Submodule;
        if let Some(older) = self.older.filter(|_| pending.in_old != NONE && !is_submodule)
            && !self.has_submodules(older, pending.in_old)
            && older.directory_id(pending.in_old) == id.as_slice()
        {
            self.copy_subtree(older, pending);
            return self.check_limit();
        }
        let directory = self.plan.listing.directories.len() as u32;
        let first = self.plan.listing.entries.len() as u32;
        let new = Directory {
            parent: pending.parent,
            entry: pending.entry,
            first,
            last: first,
            end: 0,
            is_made: false,
        };
        self.plan.listing.directories.push(new);
        self.plan.directory_in_old.push(pending.in_old);
        if pending.entry != NONE {
            self.plan.listing.set_directory(pending.entry, directory);
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
            self.plan.same_in_old.push(NONE);
        }
        self.plan.listing.directories[directory as usize].last = self.plan.listing.entries.len() as u32;
        self.check_limit()?;
        self.descend(directory, &entries, &Pending { project, ..*pending })
    }

    /// Returns the tree of a submodule and its project, if submodules are deployed.
    fn open_submodule(
        &mut self,
        directory: u32,
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

    fn has_submodules(&self, older: &Listing, directory: u32) -> bool {
        let below = older.below(directory);
        let at = self.older_submodules.partition_point(|&entry| entry < below.start);
        self.older_submodules.get(at).is_some_and(|entry| below.contains(entry))
    }

    /// Looks up a directory's entries in the older listing, and pushes its subdirectories onto the stack, so that the first one
    /// is read next.
    fn descend(&mut self, directory: u32, entries: &[TreeEntry], pending: &Pending) -> Result<()> {
        let first = self.plan.listing.directories[directory as usize].first;
        let mut older =
            self.older.filter(|_| pending.in_old != NONE).map_or(0..0, |old| old.entries_of(pending.in_old));
        let mut children = Vec::new();
        for (entry, index) in entries.iter().zip(first..) {
            let path_len = pending.path_len + entry.name.len() as u32 + 1;
            let depth = pending.depth + 1;
            if path_len > MAX_PATH || depth > MAX_DEPTH {
                return Err(self.invalid(directory, entry.name, "the path is too long or too deep"));
            }
            let found = self.older.map_or(NONE, |old| find(old, &mut older, entry));
            if entry.kind.is_directory() {
                let in_old = self.older.filter(|_| found != NONE).map_or(NONE, |old| old.directory_at(found));
                let project = pending.project;
                children.push(Pending { parent: directory, entry: index, in_old, depth, path_len, project });
            } else if let Some(old) = self.older.filter(|_| found != NONE)
                && old.raw_id(found) == entry.id.as_bytes()
                && old.entries[found as usize].kind == entry.kind
            {
                self.plan.same_in_old[index as usize] = found;
                self.plan.listing.set_size(index, old.size_of(found));
            }
        }
        self.pending.extend(children.into_iter().rev());
        Ok(())
    }

    /// Copies a directory and everything below it from the older listing, which contains it with the same path and id.
    fn copy_subtree(&mut self, older: &Listing, pending: &Pending) {
        self.plan.listing.append_subtree(older, pending.in_old, pending.parent, pending.entry);
        let entries = older.below(pending.in_old);
        let kept = |entry: u32| if older.entries[entry as usize].kind.is_directory() { NONE } else { entry };
        self.plan.same_in_old.extend(entries.map(kept));
        self.plan.directory_in_old.extend(pending.in_old..older.directories[pending.in_old as usize].end);
    }

    /// Reads the targets of the links that were not copied, and sorts all links.
    fn read_links(&mut self) -> Result<()> {
        let listing = &mut self.plan.listing;
        listing.links.sort_unstable_by_key(|(entry, _)| *entry);
        let known: Vec<u32> = listing.links.iter().map(|(entry, _)| *entry).collect();
        for entry in 0..listing.entries.len() as u32 {
            if listing.entries[entry as usize].kind != EntryKind::Link || known.binary_search(&entry).is_ok()
            {
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
                        listing.links.push((entry, ByteBuf::from(blob)));
                        continue;
                    }
                    "the link's target contains a NUL byte"
                }
                _ => "the link's target is too long",
            };
            let path = listing.path(listing.directory_of(entry), entry);
            return Err(Error::Tree { path, problem: problem.into() });
        }
        listing.links.sort_unstable_by_key(|(entry, _)| *entry);
        Ok(())
    }

    fn check_limit(&self) -> Result<()> {
        let Listing { entries, names, .. } = &self.plan.listing;
        if entries.len() <= self.max_entries as usize && names.len() < NONE as usize {
            return Ok(());
        }
        let limit = self.max_entries.to_string();
        Err(Error::Limit { limit, what: "files and directories", key: "max-files" })
    }

    fn invalid(&self, directory: u32, name: &[u8], problem: &str) -> Error {
        let path = self.plan.listing.directory_path(directory).join(OsStr::from_bytes(name));
        Error::Tree { path, problem: problem.into() }
    }
}

/// Finds the entry with the same name in the older listing. A directory matches only a directory. Both sides are in git's
/// order, so the search continues where the last one stopped.
fn find(older: &Listing, rest: &mut Range<u32>, entry: &TreeEntry) -> u32 {
    while let Some(candidate) = rest.clone().next() {
        let kind = older.entries[candidate as usize].kind;
        match sort_key(kind, older.name(candidate)).cmp(sort_key(entry.kind, entry.name)) {
            std::cmp::Ordering::Less => rest.start += 1,
            std::cmp::Ordering::Equal if kind.is_directory() == entry.kind.is_directory() => {
                rest.start += 1;
                return candidate;
            }
            _ => break,
        }
    }
    NONE
}
