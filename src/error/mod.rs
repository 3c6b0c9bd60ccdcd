//! Errors: one variant for each situation in which the program stops, worded for the person who reads it
//! at the other end of a `git push`.
//!
//! A variant knows its hint and its exit status. The last line of a failure, which says what is still live,
//! is the deployment's: only that knows.

mod hint;
mod status;
mod wording;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use self::wording::{foreign, listed, no_log, place, reason, submodules};
use crate::text::printable;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A situation that ends a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Arguments or standard input that cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// No repository was named and none is around.
    #[error("no repository found")]
    NoRepository,
    /// A path that was named as a repository is not one.
    #[error("`{}` is not a git repository", printable(.0))]
    NotARepository(PathBuf),
    /// Somebody logs in to an account that has no shell, but these commands.
    #[error("this account takes `git push` and some commands; it has no shell")]
    NoShell(&'static [&'static str]),
    /// A command that the account's ssh does not run.
    #[error("this account does not run `{}`", printable(.command))]
    NotOverSsh {
        /// The command.
        command: String,
        /// Those that it runs.
        commands: &'static [&'static str],
    },
    /// A client named none of several repositories.
    #[error("this account has several repositories")]
    SeveralRepositories(Vec<String>),
    /// A repository that is not one of the account's.
    #[error("this account has no repository `{}`", printable(.named))]
    UnknownRepository {
        /// The name that a client gave.
        named: PathBuf,
        /// The names that there are.
        there: Vec<String>,
    },
    /// The repository belongs to another user.
    #[error("the repository `{}` belongs to {owner}, you are {user}", printable(.path))]
    NotOwner {
        /// The repository.
        path: PathBuf,
        /// Its owner's name.
        owner: String,
        /// The name of the user who runs the program.
        user: String,
    },
    /// A way to a repository that somebody else than its owner can change: path, owner, where, and by whom.
    #[error("root cannot work in `{}`: it belongs to {}, but `{}` {}", printable(.0), .1, printable(.2), foreign(.3.as_deref()))]
    ForeignWay(PathBuf, String, PathBuf, Option<String>),
    /// The config cannot be understood; the message names file, line and key.
    #[error("{place}: {message}", place = place(.file, *.line))]
    Config {
        /// The config file.
        file: PathBuf,
        /// The line of the problem, from 1; 0 where the file as a whole is meant.
        line: usize,
        /// Key, problem and what was expected.
        message: String,
    },
    /// The config may be written by others, or belongs to one: it holds commands.
    #[error("`{}` {problem}", printable(.file))]
    ConfigUnsafe {
        /// The config file.
        file: PathBuf,
        /// The fault of its owner or mode.
        problem: String,
    },
    /// A system call on a path failed.
    #[error("cannot {verb} `{}`: {}", printable(.path), reason(.source))]
    Io {
        /// The verb, an infinitive: "write".
        verb: &'static str,
        /// The path that the verb is about.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// git itself could not be started.
    #[error("cannot run `git`: {}", reason(.0))]
    GitMissing(io::Error),
    /// git ran and failed.
    #[error("`git {command}` failed: {stderr}")]
    Git {
        /// The subcommand.
        command: String,
        /// The end of what it printed.
        stderr: String,
    },
    /// git could not convert a file as its attributes ask for.
    #[error("git cannot convert what attributes name: {0}")]
    Conversion(String),
    /// A filter hangs, or has too much to do.
    #[error("git took longer than {} to convert files and was ended", humantime::format_duration(*.0))]
    ConversionTimeout(Duration),
    /// Files of Git LFS whose content is not at hand.
    #[error("{problem}: {}", listed(.paths))]
    Lfs {
        /// The reason: "git-lfs is not installed".
        problem: &'static str,
        /// The files that would be pointers.
        paths: Vec<PathBuf>,
    },
    /// A revision that git does not know.
    #[error("`{}` is not a commit in this repository", printable(.0))]
    UnknownRevision(String),
    /// An object of the repository is missing or damaged.
    #[error("cannot read {kind} {id} of the repository: {message}")]
    Object {
        /// "commit", "tree" or "blob".
        kind: &'static str,
        /// The object's id.
        id: git2::Oid,
        /// The object reader's own words.
        message: String,
    },
    /// A tree that no checkout may write.
    #[error("the commit cannot be checked out: `{}`: {problem}", printable(.path))]
    Tree {
        /// The path in the tree.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// A link that leads out of the release.
    #[error("link `{}` leads out of the release, to `{}`", printable(.path), printable(.target))]
    LinkOutside {
        /// The link's path in the tree.
        path: PathBuf,
        /// Its target.
        target: PathBuf,
    },
    /// A tree with submodules, where the config refuses them.
    #[error("the commit has {} and `submodules = \"refuse\"`", submodules(.0))]
    Submodules(Vec<PathBuf>),
    /// A submodule that could not be fetched.
    #[error("submodule `{}`: {problem}", printable(.path))]
    Submodule {
        /// Its path in its project.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// A limit of the config is passed.
    #[error("the commit has more than {limit} {what}")]
    Limit {
        /// The limit that is passed.
        limit: String,
        /// "files", "bytes".
        what: &'static str,
        /// The key of the config that holds the limit.
        key: &'static str,
    },
    /// The file system has not enough room for the release.
    #[error("not enough space in `{}`: the release needs {needed}, {free} are free", printable(.path))]
    NoSpace {
        /// The site.
        path: PathBuf,
        /// The space that is needed, with its unit.
        needed: String,
        /// The space that is free, with its unit.
        free: String,
    },
    /// A shared file that nobody made yet.
    #[error("the shared file `{}` does not exist", printable(.0))]
    SharedMissing(PathBuf),
    /// Something in `shared/` that is not what the config says.
    #[error("`{}` is no {wanted}, as bluegreen.toml has it", printable(.path))]
    SharedKind {
        /// Its path.
        path: PathBuf,
        /// "directory" or "file".
        wanted: &'static str,
    },
    /// Something in the commit that no link to a shared path can replace.
    #[error("`{}` is {kind} in the commit, but `{}` is in `{wanted}` of `[shared]`", printable(.path), printable(.shared))]
    SharedInTheWay {
        /// The path in the commit.
        path: PathBuf,
        /// Its kind.
        kind: &'static str,
        /// The shared path.
        shared: PathBuf,
        /// "dirs" or "files".
        wanted: &'static str,
    },
    /// The site's directory is not there.
    #[error("the site `{}` does not exist", printable(.0))]
    NoSite(PathBuf),
    /// `current` is something that a rename cannot replace.
    #[error("`{}` is {kind}, not a symbolic link", printable(.path))]
    CurrentOccupied {
        /// The path of `current`.
        path: PathBuf,
        /// "a directory" or "a file".
        kind: &'static str,
    },
    /// `releases` is a link, through which the links to shared paths would lead nowhere.
    #[error("`{}` is a link to `{}`, not a directory", printable(.path), printable(.target))]
    ReleasesLink {
        /// The path of `releases`.
        path: PathBuf,
        /// Its target.
        target: PathBuf,
    },
    /// Something is mounted where files were to be removed or moved.
    #[error("`{}` is left alone: something is mounted at `{}`", printable(.path), printable(.mount))]
    Mounted {
        /// The path that was to be removed or moved.
        path: PathBuf,
        /// The mount.
        mount: PathBuf,
    },
    /// A step moved or removed the release that it ran in.
    #[error("release {0} is not the directory that was filled: a step moved or removed it")]
    Replaced(String),
    /// An old release whose directory was exchanged since.
    #[error("release {0} is not the directory that was filled: it was replaced since")]
    ReplacedSince(String),
    /// Somebody else held the lock for too long.
    #[error("gave up after {}: {holder} still holds the site's lock", humantime::format_duration(*.waited))]
    Locked {
        /// The holder.
        holder: String,
        /// The time that the program waited.
        waited: Duration,
    },
    /// A step of this release asks for the lock that its own deployment holds.
    #[error("a step of release {0} cannot change the site: its own deployment holds the lock")]
    InStep(String),
    /// A release that does not exist.
    #[error("there is no release `{}`", printable(.0))]
    NoRelease(String),
    /// A release that must not become live again.
    #[error("release {name} is {state}")]
    UnfitRelease {
        /// The release.
        name: String,
        /// The reason: "marked bad".
        state: &'static str,
    },
    /// Nothing is older than the live release.
    #[error("there is no good release older than the live one")]
    NoOlderRelease,
    /// A step of the config failed.
    #[error("step `{}` {how}", printable(.name))]
    Step {
        /// Its first line.
        name: String,
        /// "exited with status 1".
        how: String,
        /// The server that it ran on.
        server: String,
    },
    /// A release whose publication was cut off before it was verified.
    #[error("release {0} was never verified")]
    Unverified(String),
    /// A release without a log, or no log at all.
    #[error("{}", no_log(.0.as_deref()))]
    NoLog(Option<String>),
    /// A deployment that was asked to stop and goes on.
    #[error("{holder} is still running after {}", humantime::format_duration(*.waited))]
    StillRunning {
        /// The holder of the lock.
        holder: String,
        /// The time that the program waited.
        waited: Duration,
    },
    /// A deployment that ended before it could be cancelled.
    #[error("it ended before it could be cancelled: {0}")]
    TooLate(String),
    /// A push that git's own rules, or the `update` hook, refuse.
    #[error("{0}")]
    PushRefused(String),
    /// A ref is not where a push expects it.
    #[error("`{}` has moved in the meantime", printable(OsStr::from_bytes(.0)))]
    RefMoved(Vec<u8>),
    /// The branch has no commit.
    #[error("the branch {0} does not exist")]
    NoBranch(String),
    /// A check of the set-up found problems, which are printed already.
    #[error("{0} found")]
    Unhealthy(String),
    /// A push to the side that visitors get, where the config refuses it.
    #[error("{0} is public")]
    Public(String),
    /// A client that holds the lock was not heard of for too long, or went away.
    #[error("the promotion that held the lock is gone")]
    HoldLost,
    /// The file `.promote.toml`, or what it leads to, cannot be used.
    #[error("{problem}")]
    PromoteConfig {
        /// The file and the problem.
        problem: String,
        /// One thing that the reader can do.
        hint: String,
    },
    /// A step of a promotion failed.
    #[error("{problem}")]
    Promotion {
        /// The problem.
        problem: String,
        /// One thing that the reader can do.
        hint: String,
    },
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

impl Error {
    /// Wraps what the system said with the verb and the path it was tried on.
    pub fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { verb, path, source }
    }
}
