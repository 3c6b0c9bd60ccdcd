//! [`Subdirectory`]: the deployed folder of a commit, and the files outside of it that affect its checkout: the
//! `.gitattributes` of parent folders, and `.gitmodules`.
//!
//! git applies the `.gitattributes` of all parent folders to a file, and reads `.gitmodules` at the root only.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bluegreen_object_store::tree::{EntryKind, parse};
use bluegreen_object_store::{ObjectId, Reader};

use super::error::{Error, Result};

/// The folder of a commit that is deployed. The path is empty if the whole commit is deployed.
#[derive(Debug, Clone)]
pub struct Subdirectory {
    /// The path in the commit.
    pub path: PathBuf,
    /// The tree of the folder.
    pub tree: ObjectId,
    /// The `.gitattributes` of the parent folders, the outermost one first.
    pub attributes: Vec<ParentFile>,
    /// The `.gitmodules` at the root of the commit, unless the whole commit is deployed.
    pub gitmodules: Option<ObjectId>,
}

/// A file in a parent folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentFile {
    pub path: PathBuf,
    pub kind: EntryKind,
    pub id: ObjectId,
}

impl Subdirectory {
    /// Represents a whole tree.
    #[must_use]
    pub fn whole(tree: ObjectId) -> Self {
        Self { path: PathBuf::new(), tree, attributes: Vec::new(), gitmodules: None }
    }

    /// Finds the folder `path` in the tree `root`.
    pub fn find(reader: &Reader, root: ObjectId, path: &Path) -> Result<Self> {
        let mut found = Self { path: path.into(), ..Self::whole(root) };
        let mut parent = PathBuf::new();
        for name in path {
            let data = reader.tree(found.tree)?;
            let entries = parse(&data, reader.format()).map_err(|invalid| Error::Tree {
                path: parent.join(std::ffi::OsStr::from_bytes(&invalid.name)),
                problem: invalid.problem.into(),
            })?;
            let entry = |name: &[u8]| entries.iter().find(|entry| entry.name == name);
            if let Some(file) = entry(b".gitattributes").filter(|entry| !entry.kind.is_directory()) {
                let path = parent.join(".gitattributes");
                found.attributes.push(ParentFile { path, kind: file.kind, id: file.id });
            }
            if parent.as_os_str().is_empty() {
                found.gitmodules = entry(b".gitmodules").map(|entry| entry.id);
            }
            parent.push(name);
            let problem = match entry(name.as_bytes()).map(|entry| (entry.kind, entry.id)) {
                Some((EntryKind::Directory, tree)) => {
                    found.tree = tree;
                    continue;
                }
                Some((EntryKind::Link, _)) => "is a symlink",
                Some((EntryKind::Submodule, _)) => "is a submodule",
                Some((EntryKind::File | EntryKind::Executable, _)) => "is a file",
                None => "is missing in the commit",
            };
            return Err(Error::Subdirectory { path: path.into(), at: parent, problem });
        }
        Ok(found)
    }

    /// Returns whether a checkout of both folders creates the same files. The URLs of submodules do not matter, because the
    /// tree contains their commits.
    #[must_use]
    pub fn has_same_files(&self, other: &Self) -> bool {
        (&self.path, self.tree, &self.attributes) == (&other.path, other.tree, &other.attributes)
    }
}
