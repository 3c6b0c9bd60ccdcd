//! The errors of a checkout.

use std::io;
use std::path::PathBuf;

use bluegreen_object_store::CopyError;
use bluegreen_text::explain::{Explain, IoError};
use bluegreen_text::{listed, printable};

use bluegreen_git as git;
use bluegreen_process::signals::Cancelled;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A checkout that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// An object of the repository is missing or damaged.
    #[error(transparent)]
    Object(#[from] bluegreen_object_store::Error),
    #[error(transparent)]
    Git(#[from] git::Error),
    /// A tree with a path that must not be written.
    #[error("cannot check out `{}`: {problem}", printable(.path))]
    Tree { path: PathBuf, problem: String },
    /// A path to the folder that is to be deployed that is not a folder.
    #[error("cannot deploy the folder `{}`: `{}` {problem}", printable(.path), printable(.at))]
    Subdirectory {
        path: PathBuf,
        /// The folder itself, or one of its parents.
        at: PathBuf,
        problem: &'static str,
    },
    /// A symlink that points outside the release.
    #[error("symlink `{}` points outside the release, to `{}`", printable(.path), printable(.target))]
    LinkOutside { path: PathBuf, target: PathBuf },
    /// Submodules, although the options reject them.
    #[error("the commit has {} and `submodules = \"refuse\"`", submodules(.0))]
    Submodules(Vec<PathBuf>),
    /// A submodule that could not be fetched.
    #[error("submodule `{}`: {problem}", printable(.path))]
    Submodule {
        /// The path in the project that contains it.
        path: PathBuf,
        problem: String,
    },
    /// Git LFS files whose content is missing.
    #[error("{problem}: {}", listed(.paths))]
    Lfs { problem: &'static str, paths: Vec<PathBuf> },
    /// The commit exceeds a limit of the options.
    #[error("the commit has more than {limit} {what}")]
    Limit {
        limit: String,
        what: &'static str,
        /// The key of the limit in bluegreen.toml.
        key: &'static str,
    },
}

impl Error {
    /// Returns a function that adds a verb and a path to an I/O error, for `map_err`.
    pub(super) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let add = IoError::on(verb, path);
        move |source| Self::Io(add(source))
    }

    /// Converts the error of a blob that could not be copied to a path.
    pub(super) fn copy(error: CopyError, path: impl Into<PathBuf>) -> Self {
        match error {
            CopyError::Read(error) => error.into(),
            CopyError::Write(error) => Self::io("write", path)(error),
        }
    }
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io(error) => return error.hint(),
            Self::Git(error) => return error.hint(),
            Self::Cancelled(_) => return None,
            Self::Object(_) => "check the repository with `git fsck`, then push again",
            Self::Tree { .. } => "remove the path from the commit, then push again",
            Self::Subdirectory { .. } => {
                "set `subdirectory` in bluegreen.toml to a folder of the commit, or push a commit that has the folder"
            }
            Self::LinkOutside { .. } => "remove the symlink, or set `symlinks = \"any\"` in bluegreen.toml",
            Self::Submodules(_) => "set `submodules = \"warn\"` or \"fetch\" in bluegreen.toml",
            Self::Submodule { .. } => {
                "fix it, or leave submodules empty: `submodules = \"warn\"` in bluegreen.toml"
            }
            Self::Lfs { .. } => {
                "push them with `git lfs push --all <remote>`, or set `lfs = \"warn\"` in bluegreen.toml to deploy pointers"
            }
            Self::Limit { key, .. } => {
                return Some(format!("raise `{key}` in bluegreen.toml if this is intended"));
            }
        };
        Some(hint.into())
    }
}

fn submodules(paths: &[PathBuf]) -> String {
    let noun = if paths.len() == 1 { "submodule" } else { "submodules" };
    format!("{} {noun} ({})", paths.len(), listed(paths))
}
