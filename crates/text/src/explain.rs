//! [`Explain`]: the form of all errors of the program, and [`IoError`], which most of them contain.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::{printable, reason};

/// An error that tells its reader what to do. Its message is that of [`Display`](std::fmt::Display): lower case, no full
/// stop, the user's words in backticks.
pub trait Explain: std::error::Error {
    /// Returns one action for the reader, a line without a full stop.
    fn hint(&self) -> Option<String>;

    /// Returns the exit status of a program that ends with this error.
    fn exit_status(&self) -> u8 {
        1
    }
}

/// A system call on a path that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} `{}`: {}", printable(.path), reason(.source))]
pub struct IoError {
    /// An infinitive: "write".
    pub verb: &'static str,
    /// The object of the verb.
    pub path: PathBuf,
    pub source: io::Error,
}

impl IoError {
    /// Returns a function that adds a verb and a path to an error, for `map_err`.
    pub fn on(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { verb, path, source }
    }
}

impl Explain for IoError {
    fn hint(&self) -> Option<String> {
        match self.source.kind() {
            ErrorKind::PermissionDenied => {
                Some(format!("let the repository's owner own `{}`", printable(&self.path)))
            }
            _ => system_hint(&self.source),
        }
    }
}

/// Returns the hint for an error that does not depend on what was attempted: a limit, or a state of the file system.
#[must_use]
pub fn system_hint(error: &io::Error) -> Option<String> {
    // EMFILE and ENFILE have no kind. Their numbers are the same on all supported systems.
    if let Some(23 | 24) = error.raw_os_error() {
        return Some("raise the limit of open files: `ulimit -n 4096`".into());
    }
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space, or lower `keep` in bluegreen.toml"
        }
        ErrorKind::OutOfMemory => "raise the limit of memory: `ulimit -v unlimited`",
        ErrorKind::FileTooLarge => "raise the limit of file sizes: `ulimit -f unlimited`",
        ErrorKind::ReadOnlyFilesystem => "mount the file system writable, then push again",
        _ => return None,
    };
    Some(hint.into())
}
