//! Directories as maps from path to entry, to compare them byte by byte.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// All paths below a directory, with type, permission bits, and content.
pub type Snapshot = BTreeMap<OsString, Found>;

/// A file, directory, or symlink.
#[derive(Clone, PartialEq, Eq)]
pub enum Found {
    File { mode: u32, content: Vec<u8> },
    Link { target: OsString },
    Directory { mode: u32 },
}

impl std::fmt::Debug for Found {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { mode, content } => {
                write!(to, "file {mode:o} \"{}\"", content[..content.len().min(60)].escape_ascii())
            }
            Self::Link { target } => write!(to, "link to \"{}\"", target.as_bytes().escape_ascii()),
            Self::Directory { mode } => write!(to, "directory {mode:o}"),
        }
    }
}

/// Reads everything below `root`, including the root's own mode.
pub fn snapshot(root: &Path) -> Snapshot {
    let mut found = Snapshot::new();
    add(root, Path::new(""), &mut found);
    found
}

fn add(root: &Path, path: &Path, found: &mut Snapshot) {
    let full = root.join(path);
    let metadata = full.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", full.display()));
    let mode = metadata.permissions().mode() & 0o7777;
    let node = if metadata.is_symlink() {
        Found::Link { target: full.read_link().unwrap().into() }
    } else if metadata.is_dir() {
        for entry in full.read_dir().unwrap_or_else(|error| panic!("{}: {error}", full.display())) {
            add(root, &path.join(entry.unwrap().file_name()), found);
        }
        Found::Directory { mode }
    } else {
        Found::File { mode, content: std::fs::read(&full).unwrap() }
    };
    found.insert(path.into(), node);
}

/// Compares two snapshots and reports each path that differs.
#[track_caller]
pub fn assert_same(found: &Snapshot, expected: &Snapshot, what: &str) {
    let paths: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differing: Vec<String> = paths
        .into_iter()
        .filter(|path| found.get(*path) != expected.get(*path))
        .map(|path| {
            let name = path.as_bytes().escape_ascii();
            format!("\"{name}\": found {:?}, expected {:?}", found.get(path), expected.get(path))
        })
        .collect();
    assert!(differing.is_empty(), "{what} differs:\n{}", differing.join("\n"));
}
