//! The repository, and the one place that runs git itself.
//!
//! Only git can resolve a revision in every ref format and with every extension, convert files, and fetch.
//! Objects are read by [`crate::checkout`].

pub mod convert;
mod fetch;
pub mod id;
pub mod push;
mod receive;
pub mod settings;

pub use self::receive::Setting;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use git2::Oid;
use nix::unistd::{Uid, User};

use self::id::CommitId;
use crate::error::{Error, Result};

/// A repository on this machine. [`Repository::refuse_foreign`] makes sure that it is the user's own.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
    /// All that programs of the repository may see, where the environment is somebody else's.
    environment: Option<Vec<(OsString, OsString)>>,
}

impl Repository {
    /// Opens the repository at `path`: a bare one, or a `.git` directory.
    pub fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).map_err(Error::io("open", path))?;
        if !path.join("objects").is_dir() || !path.join("HEAD").exists() {
            return Err(Error::NotARepository(path));
        }
        Ok(Self { path, environment: None })
    }

    /// The same repository for a program that was started by somebody else than its owner: the programs
    /// that git would start with the caller's environment get these variables instead.
    #[must_use]
    pub fn in_environment(self, variables: Vec<(OsString, OsString)>) -> Self {
        Self { environment: Some(variables), ..self }
    }

    /// Keeps the environment from a program where it is not the owner's.
    fn hide_environment(&self, program: &mut Command) {
        if let Some(variables) = &self.environment {
            program.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        }
    }

    /// Its absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The user who owns it.
    pub fn owner(&self) -> Result<Uid> {
        let metadata = self.path.metadata().map_err(Error::io("open", &self.path))?;
        Ok(Uid::from_raw(metadata.uid()))
    }

    /// Refuses a repository that somebody else owns: git would, and what we wrote would be ours.
    pub fn refuse_foreign(&self) -> Result<()> {
        let (owner, user) = (self.owner()?, Uid::effective());
        if owner == user {
            return Ok(());
        }
        Err(Error::NotOwner { path: self.path.clone(), owner: login_name(owner), user: login_name(user) })
    }

    /// The commit that a branch points to, where there is such a branch.
    pub fn tip(&self, branch: &str) -> Result<Option<CommitId>> {
        self.resolve(&format!("refs/heads/{branch}"))
    }

    /// The commit that a revision names: a branch, a tag, any abbreviation that git resolves.
    pub fn resolve(&self, revision: &str) -> Result<Option<CommitId>> {
        if revision.starts_with('-') || revision.contains('\0') {
            return Ok(None);
        }
        let output = self.run(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])?;
        match output.status.code() {
            Some(0) => Ok(CommitId::parse(output.stdout.trim_ascii())),
            Some(1) => Ok(None),
            // Git answers so for an ambiguous abbreviation and for paths like `HEAD:file`.
            _ if [&b"ambiguous"[..], b"unknown revision"]
                .iter()
                .any(|words| output.stderr.windows(words.len()).any(|window| window == *words)) =>
            {
                Ok(None)
            }
            _ => Err(failure("rev-parse", &output)),
        }
    }

    /// The settings of a file in the repository, as `git config -z` prints them.
    pub fn settings_of_blob(&self, blob: Oid) -> Result<Vec<u8>> {
        let output = self.run(&["config", "--blob", &blob.to_string(), "--list", "-z"])?;
        if output.status.success() { Ok(output.stdout) } else { Err(failure("config", &output)) }
    }

    /// Streams a blob of this repository, or of one of the object directories `others`, into a file, for
    /// one that is too big to be held in memory.
    pub fn stream_blob(
        &self,
        id: Oid,
        size: u64,
        others: &[PathBuf],
        file: &mut File,
    ) -> Result<io::Result<()>> {
        let others = std::env::join_paths(others).unwrap_or_default();
        let mut git = self
            .command(&["cat-file", "blob", &id.to_string()])
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", others)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::GitMissing)?;
        let copied = git.stdout.take().map_or(Ok(0), |mut stdout| io::copy(&mut stdout, file));
        let output = git.wait_with_output().map_err(Error::GitMissing)?;
        match copied {
            Ok(copied) if copied == size && output.status.success() => Ok(Ok(())),
            Ok(_) => Err(failure("cat-file", &output)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// A setting of the repository's own config.
    pub fn setting(&self, key: &str) -> Result<Option<String>> {
        let output = self.run(&["config", "--get", key])?;
        match output.status.code() {
            Some(0) => Ok(Some(String::from_utf8_lossy(output.stdout.trim_ascii_end()).into_owned())),
            Some(1) => Ok(None),
            _ => Err(failure("config", &output)),
        }
    }

    /// Major and minor version of git itself.
    pub fn git_version(&self) -> Result<(u32, u32)> {
        let output = self.run(&["version"])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers =
            text.trim_start_matches("git version ").split('.').map_while(|number| number.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) => Ok((major, minor)),
            _ => Err(failure("version", &output)),
        }
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments).output().map_err(Error::GitMissing)
    }

    /// A git that sees this repository and no settings but the repository's own.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.prepare(Command::new("git"), arguments)
    }

    /// Lets a git see this repository and no settings but the repository's own.
    fn prepare(&self, mut git: Command, arguments: &[&str]) -> Command {
        git.env_clear()
            .env("PATH", search_path())
            // Messages are recognised by their English words.
            .env("LC_ALL", "C")
            // A pusher may push refs/replace/*, and what is deployed is what the commit names.
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            // Without HOME git looks for no user's settings, and cannot stumble over an unreadable one.
            .arg("--git-dir")
            .arg(&self.path)
            .args(arguments)
            .stdin(Stdio::null());
        git
    }
}

/// The search path for git and its helpers.
#[must_use]
pub fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"))
}

/// The login name of a user, or the number where there is none.
#[must_use]
pub fn login_name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| user.name)
}

fn failure(command: &str, output: &Output) -> Error {
    let text = String::from_utf8_lossy(&output.stderr);
    // What git goes on to list belongs to its last complaint: the extensions that it does not know.
    let last = text.rfind("fatal: ").or_else(|| text.trim_end().rfind('\n')).unwrap_or_default();
    let stderr = text[last..].split_whitespace().collect::<Vec<_>>().join(" ");
    Error::Git { command: command.into(), stderr }
}

/// Returns whether a directory holds a repository, bare or not, and where its git directory is.
#[must_use]
pub fn git_dir_of(path: &Path) -> Option<PathBuf> {
    [path.to_path_buf(), path.join(OsStr::new(".git"))]
        .into_iter()
        .find(|dir| dir.join("objects").is_dir() && dir.join("HEAD").exists())
}
