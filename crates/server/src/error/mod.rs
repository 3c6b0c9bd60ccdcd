//! Errors: one variant for each situation in which a deployment, a rollback, or a recovery stops, worded for the person
//! who pushed.
//!
//! Each variant has an exit status and may have a hint. The last line of a failure, which says what is still
//! live, comes from the deployment.

mod admin;
mod explain;
mod wording;

pub use self::admin::{as_owner, change_mode, give_away};

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bluegreen_text::explain::IoError;
use bluegreen_text::{printable, reason};

use self::wording::place;
use bluegreen_checkout as checkout;
use bluegreen_git as git;
use bluegreen_process::signals::Cancelled;
use bluegreen_protocol::freeze::Freeze;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A situation that ends a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A gated push whose request is not one of git.
    #[error("expected `git receive-pack` to ask: {}", reason(.0))]
    Protocol(io::Error),
    /// The config cannot be understood; the message names file, line and key.
    #[error("{place}: {message}", place = place(.file, *.line))]
    Config {
        file: PathBuf,
        /// The line of the problem, from 1; 0 where the file as a whole is meant.
        line: usize,
        /// Key, problem and what was expected.
        message: String,
    },
    /// The config is owned by another user or writable by others, although it contains commands.
    #[error("`{}` {problem}", printable(.file))]
    ConfigUnsafe {
        file: PathBuf,
        /// The problem with its owner or mode.
        problem: String,
    },
    /// A system call on a path failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The command that starts and stops instances failed.
    #[error("cannot {verb} the application: `{command} {verb}` failed: {how}")]
    AppControl {
        /// The verb: "start", "stop".
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
        /// The response, or why there was none.
        how: String,
    },
    /// git failed, or a repository cannot be used.
    #[error(transparent)]
    Git(git::Error),
    /// A commit could not be checked out.
    #[error(transparent)]
    Checkout(checkout::Error),
    /// An object of the repository is missing or damaged.
    #[error(transparent)]
    Object(#[from] bluegreen_object_store::Error),
    /// The file system has not enough space for the release.
    #[error("not enough space in `{}`: the release needs {needed}, {free} are free", printable(.path))]
    NoSpace {
        /// The site.
        path: PathBuf,
        /// The space that is needed, with its unit.
        needed: String,
        /// The space that is free, with its unit.
        free: String,
    },
    /// A shared file that does not exist yet.
    #[error("the shared file `{}` is missing", printable(.0))]
    SharedMissing(PathBuf),
    /// A path in `shared/` that is a file where the config says directory, or the other way round.
    #[error("`{}` must be a {wanted}, as configured in bluegreen.toml", printable(.path))]
    SharedKind {
        path: PathBuf,
        /// "directory" or "file".
        wanted: &'static str,
    },
    /// A path in the commit that cannot be replaced by the link to a shared path.
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
    /// `current` is not a symbolic link, so that no rename can replace it.
    #[error("`{}` is {kind}, not a symlink", printable(.path))]
    CurrentOccupied {
        /// The path of `current`.
        path: PathBuf,
        /// "a directory" or "a file".
        kind: &'static str,
    },
    /// `releases` is a symbolic link. The relative links to shared paths would not work through it.
    #[error("`{}` is a symlink to `{}`, not a directory", printable(.path), printable(.target))]
    ReleasesLink {
        /// The path of `releases`.
        path: PathBuf,
        target: PathBuf,
    },
    /// Something is mounted where files were to be removed or moved.
    #[error("cannot remove or move `{}`: a file system is mounted at `{}`", printable(.path), printable(.mount))]
    Mounted {
        /// The path that was to be removed or moved.
        path: PathBuf,
        mount: PathBuf,
    },
    /// A step moved or removed the release that it ran in.
    #[error("a step moved, removed, or replaced the directory of release {0}")]
    Replaced(String),
    /// An old release whose directory has another inode number than its record says.
    #[error("the directory of release {0} was replaced after the deployment")]
    ReplacedSince(String),
    /// The release that a rollback would choose is from before a directory was shared.
    #[error("release {release} does not share `{}`: it hides what is in there, and keeps what is written meanwhile to itself", printable(.path))]
    NotShared {
        /// Its name.
        release: String,
        /// The shared directory.
        path: PathBuf,
        /// The first digits of its commit.
        commit: String,
    },
    /// A surplus release has files that may be uploads.
    #[error("release {release} is not removed: its `{}` contains files that are not in the commit", printable(.path))]
    OwnFiles {
        /// Its name.
        release: String,
        /// The shared directory of the config.
        path: PathBuf,
        /// The directory in `shared/`.
        shared: PathBuf,
    },
    /// Another process held the lock for too long.
    #[error("timed out after {}: the site is still locked by {holder}", humantime::format_duration(*.waited))]
    Locked {
        holder: String,
        /// The time that the program waited.
        waited: Duration,
    },
    /// A step of this release wants to change the site, but its own deployment holds the lock.
    #[error("a step of release {0} cannot change the site: its own deployment holds the lock")]
    InStep(String),
    /// A release that does not exist.
    #[error("unknown release `{}`", printable(.0))]
    NoRelease(String),
    /// A release that must not become live again.
    #[error("cannot roll back to release {name}: it is {state}")]
    UnfitRelease {
        /// The release.
        name: String,
        /// The reason: "marked bad".
        state: &'static str,
    },
    /// No good release is older than the live one.
    #[error("no good release is older than the live one")]
    NoOlderRelease,
    /// A step of the config failed.
    #[error("step `{}` {how}", printable(.name))]
    Step {
        /// Its first line.
        name: String,
        /// "exited with status 1".
        how: String,
        /// One thing that the reader can do.
        hint: String,
    },
    /// A release whose publication was cut off before it was verified.
    #[error("release {0} was never verified")]
    Unverified(String),
    /// A release whose publication was cut off before it became live.
    #[error("the activation of release {0} was interrupted before it became live")]
    CutOff(String),
    /// The server is locked by an operator.
    #[error("{server} is {freeze}")]
    Frozen {
        /// The server's name.
        server: String,
        /// The lock.
        freeze: Box<Freeze>,
        /// One thing that the reader can do.
        hint: String,
    },
    /// `lock` on a server that is locked already.
    #[error("{server} is {freeze}")]
    AlreadyFrozen {
        /// The server's name.
        server: String,
        /// The lock.
        freeze: Box<Freeze>,
    },
    /// The file of a lock cannot be parsed, so that the server may be locked.
    #[error("cannot read `{}`, so the server counts as locked: {problem}", printable(.path))]
    DamagedFreeze {
        /// The file.
        path: PathBuf,
        problem: String,
    },
    /// A push to the public side, which the config refuses.
    #[error("{0} is public")]
    Public(String),
    /// A request of a client of `hold` that cannot be understood.
    #[error("{0}")]
    Request(String),
    /// The client of `hold` went away, or sent nothing for too long.
    #[error("lost the connection to the promotion that held the lock")]
    HoldLost,
    /// The operator or the system asked the program to stop.
    #[error("cancelled")]
    Cancelled,
    /// An error that is printed already.
    #[error("{0}")]
    Reported(Box<Error>),
    /// The new release is live, but something after the flip failed.
    #[error("{0}")]
    AfterFlip(Box<Error>),
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
