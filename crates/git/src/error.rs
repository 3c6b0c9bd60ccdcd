//! The errors of git and of repositories.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use bluegreen_text::explain::{Explain, IoError, system_hint};
use bluegreen_text::{printable, reason};

use bluegreen_process::signals::Cancelled;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed git command, or a failed operation on a repository.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("`{}` is not a git repository", printable(.0))]
    NotARepository(PathBuf),
    /// The repository is owned by another user.
    #[error("the repository `{}` is owned by {owner}, and you are {user}", printable(.path))]
    NotOwner { path: PathBuf, owner: String, user: String },
    #[error("cannot run `git`: {}", reason(.0))]
    NotStarted(io::Error),
    #[error("`git {command}` failed: {stderr}")]
    Failed {
        command: String,
        /// The end of git's output.
        stderr: String,
    },
    /// git could not convert a file as its attributes require.
    #[error("git cannot convert a file: {0}")]
    Conversion(String),
    #[error("git timed out after {} while it converted files", humantime::format_duration(*.0))]
    ConversionTimeout(Duration),
    /// git, or a hook that it ran, was killed before the ref moved.
    #[error("cannot move the branch: `git update-ref` timed out after {}", humantime::format_duration(*.0))]
    MoveTimeout(Duration),
    /// A hook's standard input is not a list of ref updates.
    #[error("expected `<old> <new> <ref>` on standard input, got `{}`", printable(OsStr::from_bytes(.0)))]
    InvalidRefUpdate(Vec<u8>),
    /// git's settings or the `update` hook reject a push.
    #[error("{0}")]
    PushRejected(String),
    /// A ref does not point to the commit that the push expects.
    #[error("`{}` has moved in the meantime", printable(OsStr::from_bytes(.0)))]
    RefMoved(Vec<u8>),
}

impl Error {
    /// Returns a function that adds a verb and a path to an I/O error, for `map_err`.
    pub(crate) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let add = IoError::on(verb, path);
        move |source| Self::Io(add(source))
    }
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io(error) => return error.hint(),
            Self::NotARepository(_) => {
                "name the bare repository, as in `bluegreen -C /home/deploy/sample_app status`".into()
            }
            Self::NotOwner { owner, .. } => format!("run it as {owner}: `sudo -u {owner} bluegreen ...`"),
            Self::NotStarted(error) if error.kind() == io::ErrorKind::NotFound => {
                "install git: `sudo apt-get install git`".into()
            }
            Self::NotStarted(error) => return system_hint(error),
            Self::Conversion(_) => "fix the filter or the attribute, then push again".into(),
            Self::ConversionTimeout(_) => {
                "check the filters in `.gitattributes`, or raise `filter-timeout` in bluegreen.toml".into()
            }
            Self::MoveTimeout(_) => {
                "check the repository's hook `reference-transaction`, then push again".into()
            }
            Self::InvalidRefUpdate(_) => "run `bluegreen --help`".into(),
            Self::RefMoved(_) => "run `git fetch`, then push again".into(),
            Self::Cancelled(_) | Self::Failed { .. } | Self::PushRejected(_) => return None,
        })
    }

    fn exit_status(&self) -> u8 {
        match self {
            Self::NotARepository(_) | Self::NotOwner { .. } | Self::InvalidRefUpdate(_) => 2,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_git_has_to_be_installed() {
        let hint = |error: io::Error| Error::NotStarted(error).hint();
        assert!(hint(io::ErrorKind::NotFound.into()).unwrap().contains("apt-get install git"));
        assert_eq!(hint(io::Error::other("it printed more than 1 MB")), None);
        assert_eq!(hint(io::ErrorKind::PermissionDenied.into()), None);
        let files = hint(io::Error::from_raw_os_error(24)).unwrap();
        assert_eq!(files, "raise the limit of open files: `ulimit -n 4096`");
    }
}
