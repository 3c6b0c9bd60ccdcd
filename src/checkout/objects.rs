//! Reads the repository's objects through the object database of libgit2, the only part of libgit2 that is used.
//!
//! An object database needs no config, no refs and no `HOME`. It knows alternates, loose objects, packs and both object
//! formats, and ignores `refs/replace`. Every thread opens its own: a shared one holds its lock while it decompresses.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use git2::{ObjectFormat, ObjectType, Odb, OdbObject, Oid};

use super::pack::{Packs, STREAMED};
use super::trees::Trees;
use crate::error::{Error, Result};
use crate::git::Repository;

/// The most characters of the first line of a commit's message that records and messages keep.
const LONGEST_SUBJECT: usize = 200;

/// The objects of a repository; [`Objects::reader`] gives a reader.
#[derive(Debug)]
pub struct Objects<'a> {
    repository: &'a Repository,
    format: ObjectFormat,
    /// The object directories of submodules.
    others: Mutex<Vec<PathBuf>>,
    packs: OnceLock<Arc<Packs>>,
    /// The trees that were read in advance.
    trees: OnceLock<Trees>,
}

/// A reader of objects, for one thread. It opens the object database when it first reads from it.
pub struct Reader<'a> {
    objects: &'a Objects<'a>,
    odb: OnceCell<Odb<'static>>,
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
        // Git does not hash what it reads from a pack either: receiving the push verified it.
        git2::opts::strict_hash_verification(false);
        Self { repository, format, others: Mutex::default(), packs: OnceLock::new(), trees: OnceLock::new() }
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
    }

    fn others(&self) -> Vec<PathBuf> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the packs of the repository itself, and opens them the first time.
    pub fn packs(&self) -> Arc<Packs> {
        Arc::clone(self.packs.get_or_init(|| Arc::new(Packs::open(&self.path(), self.id_len()))))
    }

    /// Reads all trees of a commit in advance.
    pub fn read_trees(&self, root: Oid, threads: usize) -> Result<()> {
        let trees = Trees::read(&self.packs(), root.as_bytes(), self.id_len(), threads)?;
        self.trees.get_or_init(|| trees);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.repository.path().join("objects")
    }

    /// Makes a reader.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { objects: self, odb: OnceCell::new() }
    }

    fn open(&self) -> Result<Odb<'static>> {
        let path = self.path();
        let open = || {
            let odb = Odb::new_ext(self.format)?;
            for path in std::iter::once(&path).chain(&self.others()) {
                let path = path.to_str().ok_or_else(|| git2::Error::from_str("its path is not UTF-8"))?;
                odb.add_disk_alternate(path)?;
            }
            Ok(odb)
        };
        let error =
            |error: git2::Error| Error::io("read", &path)(io::Error::other(error.message().to_owned()));
        open().map_err(error)
    }
}

impl Reader<'_> {
    /// Reads a commit.
    pub fn commit(&self, id: Oid) -> Result<Commit> {
        let object = self.read(id, ObjectType::Commit)?;
        let data = object.data();
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
        match self.objects.trees.get().and_then(|trees| trees.get(id.as_bytes())) {
            Some(tree) => Ok(tree.into()),
            None => Ok(self.read(id, ObjectType::Tree)?.data().to_vec().into()),
        }
    }

    /// Reads a blob.
    pub fn blob(&self, id: Oid) -> Result<OdbObject<'_>> {
        self.read(id, ObjectType::Blob)
    }

    /// Reads the size of a blob in bytes, without its content.
    pub fn blob_size(&self, id: Oid) -> Result<u64> {
        match self.odb()?.read_header(id) {
            Ok((size, ObjectType::Blob)) => Ok(size as u64),
            Ok((_, kind)) => Err(unreadable(id, ObjectType::Blob, &format!("it is a {kind}"))),
            Err(error) => Err(unreadable(id, ObjectType::Blob, error.message())),
        }
    }

    /// Writes a blob of known size to a file.
    pub fn write_blob(&self, id: Oid, size: u64, file: &mut File) -> Result<io::Result<()>> {
        if size >= STREAMED {
            return self.objects.repository.stream_blob(id, size, &self.objects.others(), file);
        }
        let blob = self.blob(id)?;
        Ok(file.write_all(blob.data()))
    }

    fn odb(&self) -> Result<&Odb<'static>> {
        if let Some(odb) = self.odb.get() {
            return Ok(odb);
        }
        let odb = self.objects.open()?;
        Ok(self.odb.get_or_init(|| odb))
    }

    fn read(&self, id: Oid, kind: ObjectType) -> Result<OdbObject<'_>> {
        let object = self.odb()?.read(id).map_err(|error| unreadable(id, kind, error.message()))?;
        if object.kind() == kind {
            Ok(object)
        } else {
            Err(unreadable(id, kind, &format!("it is a {}", object.kind())))
        }
    }
}

/// Makes the error of a blob whose delta chain must not be followed.
pub(super) fn damaged(id: Oid) -> Error {
    unreadable(id, ObjectType::Blob, "its pack is damaged")
}

fn unreadable(id: Oid, kind: ObjectType, message: &str) -> Error {
    Error::Object { kind: kind.str(), id, message: message.to_owned() }
}
