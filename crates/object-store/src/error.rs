//! The errors of this crate. Each names the object that could not be read.

use std::io;

use crate::tree::InvalidTree;
use bluegreen_git_types::{ObjectId, ObjectKind};

/// The result of reading an object.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An object that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An object is missing, damaged, too large, or has another type.
    #[error("cannot read {kind} {id}: {problem}")]
    Object { kind: ObjectKind, id: ObjectId, problem: String },
    /// A tree object contains an entry that git would reject.
    #[error("invalid tree {id}: {source}")]
    Tree { id: ObjectId, source: InvalidTree },
}

/// A blob that could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It could not be read from the repository.
    #[error(transparent)]
    Read(#[from] Error),
    /// It could not be written to its destination.
    #[error(transparent)]
    Write(io::Error),
}
