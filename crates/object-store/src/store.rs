//! [`ObjectStore`]: the objects of a repository, loose and packed, of its alternates, and of added directories.
//!
//! `refs/replace` is ignored. A [`Fallback`] reads deltas that are too large for memory and what cannot be decoded here, but
//! only after the delta chain was found to end, because git follows a cyclic chain forever.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::alternates;
use crate::commit::Commit;
use crate::error::{CopyError, Error, Result};
use crate::loose::{self, Loose};
use crate::pack::delta_tree::PackedBlobs;
use crate::pack::reader::PackReader;
use crate::pack::{MAX_IN_MEMORY, Packs};
use crate::stream::StreamError;
use crate::tree_cache::TreeCache;
use bluegreen_git_types::{ObjectFormat, ObjectId, ObjectKind};

/// The maximum size of a commit or a tree, in bytes: a tree with a million entries.
const MAX_OBJECT: u64 = 64 << 20;

/// A reader caches up to `MAX_TREES` trees of up to `SMALL_TREE` bytes.
const SMALL_TREE: usize = 4 << 10;
const MAX_TREES: usize = 1 << 10;

/// Copies objects that the store does not decode, such as deltas of 16 MiB and more. Usually it runs `git cat-file`.
pub trait Fallback: Debug + Sync {
    /// Copies the content of an object whose type and size are known. `alternates` are object directories to search
    /// besides the repository's own.
    fn copy(&self, object: &LargeObject, alternates: &[PathBuf], to: &mut dyn Write)
    -> Result<(), CopyError>;
}

/// An object that a [`Fallback`] copies.
#[derive(Debug, Clone, Copy)]
pub struct LargeObject {
    pub id: ObjectId,
    pub kind: ObjectKind,
    /// In bytes.
    pub size: u64,
}

/// The objects of a repository. Each thread reads them through its own [`Reader`].
#[derive(Debug)]
pub struct ObjectStore<'a> {
    directory: PathBuf,
    format: ObjectFormat,
    fallback: &'a dyn Fallback,
    /// Object directories that were added, such as those of submodules.
    added: Mutex<Vec<PathBuf>>,
    /// Opened by the first read.
    opened: Mutex<Option<Opened>>,
    trees: OnceLock<TreeCache>,
}

/// Object directories and their packs.
#[derive(Debug, Clone)]
struct Opened {
    directories: Arc<[PathBuf]>,
    packs: Arc<Packs>,
}

/// A reader of objects, for one thread.
pub struct Reader<'a> {
    store: &'a ObjectStore<'a>,
    /// The directories at the time of the first read, and the reader of their packs.
    opened: RefCell<Option<(Opened, PackReader)>>,
    /// Small trees. A commit can have a million directories that share a few trees.
    trees: RefCell<HashMap<ObjectId, Vec<u8>>>,
}

/// An object that was found.
struct Found {
    kind: ObjectKind,
    size: u64,
    /// Absent if it was not requested, is too large, or cannot be decoded here.
    content: Option<Vec<u8>>,
}

impl<'a> ObjectStore<'a> {
    /// Creates the store of an `objects` directory. Reads nothing yet.
    #[must_use]
    pub fn new(directory: &Path, format: ObjectFormat, fallback: &'a dyn Fallback) -> Self {
        Self {
            directory: directory.into(),
            format,
            fallback,
            added: Mutex::default(),
            opened: Mutex::default(),
            trees: OnceLock::new(),
        }
    }

    #[must_use]
    pub fn format(&self) -> ObjectFormat {
        self.format
    }

    /// Adds another `objects` directory. Readers that have already read something may not find its objects.
    pub fn add(&self, directory: PathBuf) {
        self.added.lock().unwrap_or_else(PoisonError::into_inner).push(directory);
        self.reopen();
    }

    /// Finds the packed blobs among these, in `threads` threads.
    #[must_use]
    pub fn find_blobs(&self, ids: &[ObjectId], threads: usize) -> PackedBlobs {
        PackedBlobs::find(self.opened().packs, ids, threads)
    }

    /// Reads all trees of a commit in advance, in `threads` threads. Errors are reported when a tree is used.
    pub fn prefetch_trees(&self, root: ObjectId, threads: usize) {
        let read = |reader: &mut Reader, id| {
            let other = || reader.read(id, ObjectKind::Tree).ok().map(Arc::new);
            reader.packed_tree(id).or_else(other)
        };
        self.trees.get_or_init(|| TreeCache::read(root, threads, || self.reader(), read));
    }

    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { store: self, opened: RefCell::default(), trees: RefCell::default() }
    }

    fn added(&self) -> Vec<PathBuf> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn opened(&self) -> Opened {
        let open = || {
            let mut directories = vec![self.directory.clone()];
            directories.extend(self.added());
            alternates::append(&mut directories);
            let packs = Arc::new(Packs::open(&directories, self.format));
            Opened { directories: directories.into(), packs }
        };
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(open).clone()
    }

    fn reopen(&self) {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Reader<'_> {
    #[must_use]
    pub fn format(&self) -> ObjectFormat {
        self.store.format
    }

    pub fn commit(&self, id: ObjectId) -> Result<Commit> {
        let data = self.read(id, ObjectKind::Commit)?;
        Commit::parse(&data, self.store.format)
            .ok_or_else(|| unreadable(id, ObjectKind::Commit, "it names no tree"))
    }

    /// Reads a tree object, for [`tree::parse`](crate::tree::parse).
    pub fn tree(&self, id: ObjectId) -> Result<Cow<'_, [u8]>> {
        if let Some(tree) = self.store.trees.get().and_then(|trees| trees.get(id)) {
            return Ok(tree.into());
        }
        let mut trees = self.trees.borrow_mut();
        if let Some(tree) = trees.get(&id) {
            return Ok(tree.clone().into());
        }
        let tree = self.read(id, ObjectKind::Tree)?;
        if tree.len() <= SMALL_TREE {
            if trees.len() == MAX_TREES {
                trees.clear();
            }
            trees.insert(id, tree.clone());
        }
        Ok(tree.into())
    }

    fn packed_tree(&self, id: ObjectId) -> Option<Arc<Vec<u8>>> {
        let mut opened = self.opened.borrow_mut();
        let (opened, reader) = opened.get_or_insert_with(|| (self.store.opened(), PackReader::default()));
        let location = reader.find(&opened.packs, id)?;
        let object = reader.read(&opened.packs, location, MAX_IN_MEMORY)?;
        (object.kind == ObjectKind::Tree).then_some(object.content)
    }

    /// Returns the type of an object, without reading its content.
    pub fn kind(&self, id: ObjectId) -> Result<ObjectKind> {
        Ok(self.find_any(id, ObjectKind::Commit, false)?.kind)
    }

    pub fn blob(&self, id: ObjectId) -> Result<Vec<u8>> {
        self.read(id, ObjectKind::Blob)
    }

    /// Returns the size of a blob in bytes, without reading its content.
    pub fn blob_size(&self, id: ObjectId) -> Result<u64> {
        Ok(self.find(id, ObjectKind::Blob, false)?.size)
    }

    /// Writes a blob of known size to a file.
    pub fn write_blob(&self, id: ObjectId, size: u64, file: &mut File) -> Result<(), CopyError> {
        if let Some(content) = self.find(id, ObjectKind::Blob, size < MAX_IN_MEMORY)?.content {
            return file.write_all(&content).map_err(CopyError::Write);
        }
        if let Some(written) = self.stream(id, size, file) {
            return written.map_err(CopyError::Write);
        }
        // The beginning of a damaged copy may have been written.
        file.rewind().and_then(|()| file.set_len(0)).map_err(CopyError::Write)?;
        self.copy(LargeObject { id, kind: ObjectKind::Blob, size }, file)
    }

    /// Copies a large blob that is stored as a whole, loose or in a pack. Returns `None` for a delta, and if the blob is damaged:
    /// another copy may be intact.
    fn stream(&self, id: ObjectId, size: u64, to: &mut File) -> Option<io::Result<()>> {
        let mut opened = self.opened.borrow_mut();
        let (opened, reader) = opened.as_mut()?;
        let loose = opened.directories.iter().find_map(|directory| loose::copy(directory, id, size, to));
        match loose.or_else(|| reader.copy(&opened.packs, id, size, to))? {
            Ok(()) => Some(Ok(())),
            Err(StreamError::Write(error)) => Some(Err(error)),
            Err(StreamError::Damaged) => None,
        }
    }

    fn read(&self, id: ObjectId, kind: ObjectKind) -> Result<Vec<u8>> {
        let found = self.find(id, kind, true)?;
        if let Some(content) = found.content {
            return Ok(content);
        }
        if found.size > MAX_OBJECT {
            return Err(unreadable(id, kind, "it is larger than 64 MiB"));
        }
        let mut content = Vec::new();
        match self.copy(LargeObject { id, kind, size: found.size }, &mut content) {
            Ok(()) => Ok(content),
            Err(CopyError::Read(error)) => Err(error),
            Err(CopyError::Write(error)) => Err(unreadable(id, kind, &error.to_string())),
        }
    }

    fn copy(&self, object: LargeObject, to: &mut dyn Write) -> Result<(), CopyError> {
        self.store.fallback.copy(&object, &self.store.added(), to)
    }

    /// Finds an object of the given type. Reads its content on request, unless it is too large or cannot be decoded here.
    fn find(&self, id: ObjectId, kind: ObjectKind, with_content: bool) -> Result<Found> {
        let found = self.find_any(id, kind, with_content)?;
        if found.kind == kind {
            Ok(found)
        } else {
            Err(unreadable(id, kind, &format!("it is a {}", found.kind)))
        }
    }

    /// Finds an object of any type. `expected` is the type for errors.
    fn find_any(&self, id: ObjectId, expected: ObjectKind, with_content: bool) -> Result<Found> {
        let mut found = self.look_up(id, expected, with_content);
        if !matches!(found, Ok(Some(_))) {
            // A concurrent `git gc` may have moved it into a new pack.
            self.store.reopen();
            self.opened.replace(None);
            found = self.look_up(id, expected, with_content);
        }
        found?.ok_or_else(|| unreadable(id, expected, "it does not exist"))
    }

    fn look_up(&self, id: ObjectId, kind: ObjectKind, with_content: bool) -> Result<Option<Found>> {
        let mut opened = self.opened.borrow_mut();
        let (opened, reader) = opened.get_or_insert_with(|| (self.store.opened(), PackReader::default()));
        let mut damaged = None;
        for directory in &*opened.directories {
            match loose::read(directory, id, with_content) {
                Ok(None) => {}
                Ok(Some(Loose { kind, size, content })) => return Ok(Some(Found { kind, size, content })),
                Err(error) => damaged = Some(error),
            }
        }
        let packs = &*opened.packs;
        let Some(location) = reader.find(packs, id) else {
            return match damaged {
                Some(error) => Err(unreadable(id, kind, &error.to_string())),
                None if packs.is_incomplete() => {
                    Err(unreadable(id, kind, "it is in no pack whose index can be read"))
                }
                None => Ok(None),
            };
        };
        if with_content && let Some(object) = reader.read(packs, location, MAX_IN_MEMORY) {
            let content = object.content.to_vec();
            return Ok(Some(Found { kind: object.kind, size: content.len() as u64, content: Some(content) }));
        }
        let header = reader.header(packs, location);
        let header = header.ok_or_else(|| unreadable(id, kind, "its pack is damaged"))?;
        Ok(Some(Found { kind: header.kind, size: header.size, content: None }))
    }
}

fn unreadable(id: ObjectId, kind: ObjectKind, problem: &str) -> Error {
    Error::Object { kind, id, problem: problem.to_owned() }
}
