//! The errors of deployments, rollbacks, and recovery, worded for the person who pushed.
//!
//! Each variant has an exit status and may have a hint. The deployment prints the last line of a failure, which names the
//! live release.

mod admin;
mod explain;
mod wording;

pub use self::admin::{as_owner, change_mode, give_away};

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bluegreen_text::explain::IoError;
use bluegreen_text::{printable, reason};

use self::wording::{controlled, place};
use bluegreen_checkout as checkout;
use bluegreen_git as git;
use bluegreen_process::signals::Cancelled;
use bluegreen_protocol::freeze::Freeze;

/// The result of fallible functions in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a deployment, a rollback, or a recovery stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input of `proc-receive` does not come from git.
    #[error("unexpected request of `git receive-pack`: {}", reason(.0))]
    Protocol(io::Error),
    /// The config is invalid.
    #[error("{place}: {message}", place = place(.file, *.line))]
    Config {
        file: PathBuf,
        /// The line number, counted from 1; 0 for the whole file.
        line: usize,
        /// The key, the problem, and the expected value.
        message: String,
    },
    /// The config contains commands, and is owned by another user or writable by others.
    #[error("`{}` {problem}", printable(.file))]
    ConfigUnsafe {
        file: PathBuf,
        /// The owner or mode that is wrong.
        problem: String,
    },
    /// A system call on a path failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The helper that starts and stops instances failed.
    #[error("cannot {} the application: `{command} {verb}` failed: {how}", controlled(verb))]
    AppControl {
        /// The helper's verb: "start", "stop", or "live".
        verb: &'static str,
        command: String,
        /// The exit status and the last line of its output.
        how: String,
    },
    /// An instance did not become healthy, so its release is not live.
    #[error("the application is unhealthy: `GET {path}` {how}")]
    AppUnhealthy {
        /// The path of the health check.
        path: String,
        /// The unexpected response, or why there was none.
        how: String,
    },
    /// git failed, or the repository is unusable.
    #[error(transparent)]
    Git(git::Error),
    /// A commit could not be checked out.
    #[error(transparent)]
    Checkout(checkout::Error),
    /// An object of the repository is missing or damaged.
    #[error(transparent)]
    Object(#[from] bluegreen_object_store::Error),
    /// The file system lacks the space for the release.
    #[error("not enough space in `{}`: the release needs {needed}, {free} are free", printable(.path))]
    NoSpace {
        /// The site.
        path: PathBuf,
        /// The required space, with its unit.
        needed: String,
        /// The free space, with its unit.
        free: String,
    },
    /// A shared file does not exist yet.
    #[error("the shared file `{}` is missing", printable(.0))]
    SharedMissing(PathBuf),
    /// A path in `shared/` is a file but a directory in the config, or vice versa.
    #[error("`{}` must be a {wanted}, as configured in bluegreen.toml", printable(.path))]
    SharedKind {
        path: PathBuf,
        /// "directory" or "file".
        wanted: &'static str,
    },
    /// A path in the commit cannot be replaced with the symlink to a shared path.
    #[error("`{}` is {kind} in the commit, but `{}` is in `{wanted}` of `[shared]`", printable(.path), printable(.shared))]
    SharedInTheWay {
        /// The path in the commit.
        path: PathBuf,
        kind: &'static str,
        shared: PathBuf,
        /// "dirs" or "files".
        wanted: &'static str,
    },
    /// The site's directory does not exist.
    #[error("the site `{}` does not exist", printable(.0))]
    NoSite(PathBuf),
    /// `current` is not a symlink, so no rename can replace it.
    #[error("`{}` is {kind}, not a symlink", printable(.path))]
    CurrentOccupied {
        /// The path of `current`.
        path: PathBuf,
        /// "a directory" or "a file".
        kind: &'static str,
    },
    /// `releases` is a symlink, through which the relative symlinks to shared paths would not work.
    #[error("`{}` is a symlink to `{}`, not a directory", printable(.path), printable(.target))]
    ReleasesLink {
        /// The path of `releases`.
        path: PathBuf,
        target: PathBuf,
    },
    /// A file system is mounted inside a directory to be removed or moved.
    #[error("cannot remove or move `{}`: a file system is mounted at `{}`", printable(.path), printable(.mount))]
    Mounted {
        /// The path to be removed or moved.
        path: PathBuf,
        mount: PathBuf,
    },
    /// A step moved or removed its own release.
    #[error("a step moved, removed, or replaced the directory of release {0}")]
    Replaced(String),
    /// A release's directory has another inode number than its record.
    #[error("the directory of release {0} was replaced after the deployment")]
    ReplacedSince(String),
    /// The release that a rollback would choose is older than the config of a shared directory.
    #[error("release {release} does not share `{}`: it hides what is in there, and keeps what is written meanwhile to itself", printable(.path))]
    NotShared {
        /// Its name.
        release: String,
        /// The shared directory.
        path: PathBuf,
        /// The first digits of its commit.
        commit: String,
    },
    /// A surplus release contains files that may be uploads.
    #[error("release {release} is not removed: its `{}` contains files that are not in the commit", printable(.path))]
    OwnFiles {
        /// Its name.
        release: String,
        /// The shared directory of the config.
        path: PathBuf,
        /// The directory in `shared/`.
        shared: PathBuf,
    },
    /// Another process holds the lock.
    #[error("timed out after {}: the site is still locked by {holder}", humantime::format_duration(*.waited))]
    Locked { holder: String, waited: Duration },
    /// A step of this release tries to change the site, but its own deployment holds the lock.
    #[error("a step of release {0} cannot change the site: its own deployment holds the lock")]
    InStep(String),
    /// The release does not exist.
    #[error("unknown release `{}`", printable(.0))]
    NoRelease(String),
    /// The release must not become live again.
    #[error("cannot roll back to release {name}: it is {state}")]
    InvalidRelease {
        /// The release.
        name: String,
        /// The reason: "marked bad".
        state: &'static str,
    },
    /// No good release is older than the live one.
    #[error("no good release is older than the live one")]
    NoOlderRelease,
    /// A step failed.
    #[error("step `{}` {how}", printable(.name))]
    Step {
        name: String,
        /// "exited with status 1".
        how: String,
        hint: String,
    },
    /// An activation was interrupted before the release was verified.
    #[error("release {0} was never verified")]
    Unverified(String),
    /// An activation was interrupted before the release became live.
    #[error("the activation of release {0} was interrupted before it became live")]
    Interrupted(String),
    /// An operator has locked the server.
    #[error("{server} is {freeze}")]
    Frozen {
        /// The server's name.
        server: String,
        /// The lock.
        freeze: Box<Freeze>,
        hint: String,
    },
    /// The server to lock is already locked.
    #[error("{server} is {freeze}")]
    AlreadyFrozen {
        /// The server's name.
        server: String,
        /// The lock.
        freeze: Box<Freeze>,
    },
    /// The lock's file cannot be parsed, so the server may be locked.
    #[error("cannot read `{}`, so the server counts as locked: {problem}", printable(.path))]
    DamagedFreeze {
        /// The file.
        path: PathBuf,
        problem: String,
    },
    /// A client whose version of the protocol of `hold` is too old for this server.
    #[error("the client's version of bluegreen is too old: {0}")]
    OldClient(String),
    /// The config refuses a push to the public side.
    #[error("{0} is public")]
    Public(String),
    /// A client of `hold` sent an invalid request.
    #[error("{0}")]
    Request(String),
    /// The client of `hold` disconnected or timed out.
    #[error("lost the connection to the promotion that held the lock")]
    HoldLost,
    /// A signal requested a stop.
    #[error("cancelled")]
    Cancelled,
    /// The error was already printed.
    #[error("{0}")]
    Reported(Box<Error>),
    /// The new release is live, but a later part of the deployment failed.
    #[error("{0}")]
    AfterActivation(Box<Error>),
}

impl From<Cancelled> for Error {
    fn from(Cancelled: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<git::Error> for Error {
    fn from(error: git::Error) -> Self {
        match error {
            git::Error::Cancelled(_) => Self::Cancelled,
            git::Error::Io(error) => Self::Io(error),
            error => Self::Git(error),
        }
    }
}

impl From<checkout::Error> for Error {
    fn from(error: checkout::Error) -> Self {
        match error {
            checkout::Error::Cancelled(_) => Self::Cancelled,
            checkout::Error::Io(error) => Self::Io(error),
            checkout::Error::Git(error) => error.into(),
            error => Self::Checkout(error),
        }
    }
}

impl Error {
    /// Wraps an error of the system with a verb and a path.
    pub fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let add = IoError::on(verb, path);
        move |source| Self::Io(add(source))
    }
}
