//! Entries of a commit, in the syntax of `git fast-import`, which accepts any bytes as a name.

use std::fmt::Write as _;

/// A change to a path in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    File(Vec<u8>),
    Executable(Vec<u8>),
    Link(Vec<u8>),
    Submodule,
    /// The file at another path is renamed to this one.
    Renamed(Vec<u8>),
    Nothing,
}

impl Node {
    pub fn file(content: impl AsRef<[u8]>) -> Self {
        Self::File(content.as_ref().to_vec())
    }

    pub fn link(target: impl AsRef<[u8]>) -> Self {
        Self::Link(target.as_ref().to_vec())
    }

    /// Appends the fast-import commands that create this node at `path`.
    pub fn import(&self, path: &[u8], to: &mut Vec<u8>) {
        let path = quote(path);
        let mut inline = |mode: &str, content: &[u8]| {
            to.extend(format!("M {mode} inline {path}\ndata {}\n", content.len()).bytes());
            to.extend(content);
            to.push(b'\n');
        };
        match self {
            Self::File(content) => inline("100644", content),
            Self::Executable(content) => inline("100755", content),
            Self::Link(target) => inline("120000", target),
            Self::Submodule => to.extend(format!("M 160000 {} {path}\n", "1".repeat(40)).bytes()),
            Self::Renamed(from) => to.extend(format!("R {} {path}\n", quote(from)).bytes()),
            Self::Nothing => to.extend(format!("D {path}\n").bytes()),
        }
    }
}

/// Quotes a path, with every unusual byte as an octal escape.
fn quote(path: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for &byte in path {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'\\' {
            quoted.push(byte.into());
        } else {
            write!(quoted, "\\{byte:03o}").unwrap();
        }
    }
    quoted + "\""
}
