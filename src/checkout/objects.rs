//! Reads the repository's objects: loose ones, and those in packs, in the repository itself, in its alternates and in the
//! repositories of submodules. `refs/replace` changes nothing.
//!
//! Nothing here trusts a pack or its index: what is damaged is an error. Git is asked for what is too large for the memory,
//! and for what cannot be decoded here, but only once it is known that the chain of deltas ends: git follows a cycle for
//! ever.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use git2::{ObjectFormat, ObjectType, Oid};

use super::loose::{self, Loose};
use super::pack::{Packs, STREAMED};
use super::pack_object::PackReader;
use super::trees::Trees;
use crate::error::{Error, Result};
use crate::git::Repository;
use crate::text::bytes;

/// The most characters of the first line of a commit's message that records and messages keep.
const LONGEST_SUBJECT: usize = 200;

/// The largest commit or tree that is read, in bytes: a tree of a million entries.
const MAX_OBJECT: u64 = 64 << 20;

/// The size in bytes up to which a reader keeps trees, and the most trees that it keeps.
const SMALL_TREE: usize = 4 << 10;
const MAX_TREES: usize = 1 << 10;

/// The depth to which alternates of alternates are followed, as in git.
const MAX_ALTERNATES: usize = 5;

/// The objects of a repository; [`Objects::reader`] gives a reader.
#[derive(Debug)]
pub struct Objects<'a> {
    repository: &'a Repository,
    format: ObjectFormat,
    /// The object directories of submodules.
    others: Mutex<Vec<PathBuf>>,
    /// The object directories and their packs, once they were opened.
    stores: Mutex<Option<Stores>>,
    /// The trees that were read in advance.
    trees: OnceLock<Trees>,
}

/// Object directories, and their packs.
#[derive(Debug, Clone)]
struct Stores {
    directories: Arc<[PathBuf]>,
    packs: Arc<Packs>,
}

/// A reader of objects, for one thread.
pub struct Reader<'a> {
    objects: &'a Objects<'a>,
    /// The stores that were opened when it first read, and a reader of their packs.
    open: RefCell<Option<(Stores, PackReader)>>,
    /// Small trees that it read: a commit can have a million directories and yet few trees.
    trees: RefCell<HashMap<Oid, Vec<u8>>>,
}

/// An object that was found.
struct Found {
    kind: ObjectType,
    size: u64,
    content: Option<Vec<u8>>,
}

/// The content of a commit object.
#[derive(Debug)]
pub struct Commit {
    /// The id of its tree.
    pub tree: Oid,
    /// The first line of its message.
    pub subject: String,
}

impl<'a> Objects<'a> {
    /// The objects of a repository whose ids have the given format.
    #[must_use]
    pub fn new(repository: &'a Repository, format: ObjectFormat) -> Self {
        Self {
            repository,
            format,
            others: Mutex::default(),
            stores: Mutex::default(),
            trees: OnceLock::new(),
        }
    }

    /// Gives the length of an id in bytes.
    #[must_use]
    pub fn id_len(&self) -> usize {
        if self.format == ObjectFormat::Sha256 { 32 } else { 20 }
    }

    /// Gives the repository that they belong to.
    #[must_use]
    pub fn repository(&self) -> &'a Repository {
        self.repository
    }

    /// Gives the format of ids.
    #[must_use]
    pub fn format(&self) -> ObjectFormat {
        self.format
    }

    /// Adds the objects of a submodule, for readers that have read nothing yet.
    pub fn add(&self, directory: PathBuf) {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).push(directory);
        self.reopen();
    }

    fn others(&self) -> Vec<PathBuf> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the packs, and opens them the first time.
    pub fn packs(&self) -> Arc<Packs> {
        self.stores().packs
    }

    fn stores(&self) -> Stores {
        let open = || {
            let mut directories = vec![self.repository.path().join("objects")];
            directories.extend(self.others());
            add_alternates(&mut directories);
            let packs = Arc::new(Packs::open(&directories, self.id_len()));
            Stores { directories: directories.into(), packs }
        };
        self.stores.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(open).clone()
    }

    /// Gives the stores, and a reader of their packs.
    fn open(&self) -> (Stores, PackReader) {
        (self.stores(), PackReader::default())
    }

    /// Has the stores opened anew.
    fn reopen(&self) {
        *self.stores.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Reads all trees of a commit in advance.
    pub fn read_trees(&self, root: Oid, threads: usize) {
        // Most are in packs; the planner says what is wrong with one that cannot be read.
        let read = |reader: &mut Reader, id: &[u8]| {
            let other = || reader.read(Oid::from_bytes(id).ok()?, ObjectType::Tree).ok().map(Arc::new);
            reader.packed_tree(id).or_else(other)
        };
        let read = || Trees::read(root.as_bytes(), self.id_len(), threads, || self.reader(), read);
        self.trees.get_or_init(read);
    }

    /// Makes a reader.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { objects: self, open: RefCell::default(), trees: RefCell::default() }
    }
}

impl Reader<'_> {
    /// Reads a commit.
    pub fn commit(&self, id: Oid) -> Result<Commit> {
        let data = self.read(id, ObjectType::Commit)?;
        let tree = data
            .strip_prefix(b"tree ")
            .and_then(|rest| rest.get(..self.objects.id_len() * 2))
            .and_then(|digits| Oid::from_str_ext(std::str::from_utf8(digits).ok()?, self.objects.format).ok())
            .ok_or_else(|| unreadable(id, ObjectType::Commit, "it names no tree"))?;
        let message = data.windows(2).position(|end| end == b"\n\n").map_or(&data[..0], |at| &data[at + 2..]);
        let line = message.trim_ascii_start().split(|&byte| byte == b'\n').next().unwrap_or_default();
        let subject = String::from_utf8_lossy(&line[..line.len().min(4 * LONGEST_SUBJECT)]);
        Ok(Commit { tree, subject: subject.trim().chars().take(LONGEST_SUBJECT).collect() })
    }

    /// Reads a raw tree object.
    pub fn tree(&self, id: Oid) -> Result<Cow<'_, [u8]>> {
        if let Some(tree) = self.objects.trees.get().and_then(|trees| trees.get(id.as_bytes())) {
            return Ok(tree.into());
        }
        let mut trees = self.trees.borrow_mut();
        if let Some(tree) = trees.get(&id) {
            return Ok(tree.clone().into());
        }
        let tree = self.read(id, ObjectType::Tree)?;
        if tree.len() <= SMALL_TREE {
            if trees.len() == MAX_TREES {
                trees.clear();
            }
            trees.insert(id, tree.clone());
        }
        Ok(tree.into())
    }

    fn packed_tree(&self, id: &[u8]) -> Option<Arc<Vec<u8>>> {
        let mut open = self.open.borrow_mut();
        let (stores, reader) = open.get_or_insert_with(|| self.objects.open());
        let location = reader.find(&stores.packs, id)?;
        let (kind, tree) = reader.read(&stores.packs, location, STREAMED)?;
        (kind == ObjectType::Tree).then_some(tree)
    }

    /// Reads a blob.
    pub fn blob(&self, id: Oid) -> Result<Vec<u8>> {
        self.read(id, ObjectType::Blob)
    }

    /// Reads the size of a blob in bytes, without its content.
    pub fn blob_size(&self, id: Oid) -> Result<u64> {
        Ok(self.find(id, ObjectType::Blob, false)?.size)
    }

    /// Writes a blob of known size to a file.
    pub fn write_blob(&self, id: Oid, size: u64, file: &mut File) -> Result<io::Result<()>> {
        match self.find(id, ObjectType::Blob, size < STREAMED)?.content {
            Some(content) => Ok(file.write_all(&content)),
            None => self.objects.repository.stream_object("blob", id, size, &self.objects.others(), file),
        }
    }

    fn read(&self, id: Oid, kind: ObjectType) -> Result<Vec<u8>> {
        let found = self.find(id, kind, true)?;
        if let Some(content) = found.content {
            return Ok(content);
        }
        if found.size > MAX_OBJECT {
            return Err(unreadable(id, kind, &format!("it has more than {}", bytes(MAX_OBJECT))));
        }
        let (mut content, others) = (Vec::new(), self.objects.others());
        let read =
            self.objects.repository.stream_object(kind.str(), id, found.size, &others, &mut content)?;
        read.map_err(|error| unreadable(id, kind, &error.to_string()))?;
        Ok(content)
    }

    /// Finds an object of a type, and reads it if that is wanted and it is neither too large nor odd.
    fn find(&self, id: Oid, kind: ObjectType, with_content: bool) -> Result<Found> {
        let mut found = self.look_up(id, kind, with_content);
        if !matches!(found, Ok(Some(_))) {
            // `git gc` may just have put it into a new pack.
            self.objects.reopen();
            self.open.replace(None);
            found = self.look_up(id, kind, with_content);
        }
        let found = found?.ok_or_else(|| unreadable(id, kind, "there is no such object"))?;
        if found.kind == kind {
            Ok(found)
        } else {
            Err(unreadable(id, kind, &format!("it is a {}", found.kind)))
        }
    }

    fn look_up(&self, id: Oid, kind: ObjectType, with_content: bool) -> Result<Option<Found>> {
        let mut open = self.open.borrow_mut();
        let (stores, reader) = open.get_or_insert_with(|| self.objects.open());
        let mut damaged = None;
        for directory in &*stores.directories {
            match loose::read(directory, id, with_content) {
                Ok(None) => {}
                Ok(Some(Loose { kind, size, content })) => return Ok(Some(Found { kind, size, content })),
                Err(error) => damaged = Some(error),
            }
        }
        let packs = &*stores.packs;
        let Some(location) = reader.find(packs, id.as_bytes()) else {
            return match damaged {
                Some(error) => Err(unreadable(id, kind, &error.to_string())),
                None if packs.is_incomplete() => {
                    Err(unreadable(id, kind, "it is in no pack whose index can be read"))
                }
                None => Ok(None),
            };
        };
        if with_content && let Some((kind, content)) = reader.read(packs, location, STREAMED) {
            return Ok(Some(Found { kind, size: content.len() as u64, content: Some(content.to_vec()) }));
        }
        let header = reader.header(packs, location);
        let (kind, size) = header.ok_or_else(|| unreadable(id, kind, "its pack is damaged"))?;
        Ok(Some(Found { kind, size, content: None }))
    }
}

/// Adds the alternates of object directories, and their alternates.
fn add_alternates(directories: &mut Vec<PathBuf>) {
    let mut known = 0;
    for _ in 0..MAX_ALTERNATES {
        let level = known..directories.len();
        known = directories.len();
        for at in level {
            for directory in alternates(&directories[at]) {
                if !directories.contains(&directory) {
                    directories.push(directory);
                }
            }
        }
    }
}

/// Reads the alternates of an object directory.
fn alternates(objects: &Path) -> Vec<PathBuf> {
    let text = fs::read(objects.join("info/alternates")).unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    lines.map(|line| objects.join(OsStr::from_bytes(line))).collect()
}

fn unreadable(id: Oid, kind: ObjectType, message: &str) -> Error {
    Error::Object { kind: kind.str(), id, message: message.to_owned() }
}
