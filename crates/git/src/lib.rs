//! The repository, and the only module that runs git.
//!
//! Only git can resolve a revision in every ref format and with every extension, convert files, and fetch. A
//! branch whose ref is plain is read without it.
//! Objects are read by [`bluegreen_object_store`].

pub mod convert;
mod error;
mod fetch;
mod large_object;
mod locks;
mod plain;
pub mod push;
mod receive;
pub mod settings;

pub use self::error::{Error, Result};
pub use self::receive::{HOOK_TIMEOUT, Setting};

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bluegreen_object_store::{ObjectFormat, ObjectId, ObjectStore};
use bluegreen_text::{MAX_MESSAGE_CHARS, truncated};
use nix::unistd::{Uid, User};

/// A repository on this machine. [`Repository::refuse_foreign`] makes sure that it is the user's own.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
    /// The environment for git and hooks, if root started this program; else they inherit the caller's.
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

    /// The same repository for a program that root started: hooks, and git where it acts as receive-pack, get
    /// these variables instead of the caller's environment.
    #[must_use]
    pub fn in_environment(self, variables: Vec<(OsString, OsString)>) -> Self {
        Self { environment: Some(variables), ..self }
    }

    /// Replaces the environment of a child process, if root started this program.
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

    /// Refuses a repository that somebody else owns. git refuses it too, and files that we write in it would
    /// have the wrong owner.
    pub fn refuse_foreign(&self) -> Result<()> {
        let (owner, user) = (self.owner()?, Uid::effective());
        if owner == user {
            return Ok(());
        }
        Err(Error::NotOwner { path: self.path.clone(), owner: login_name(owner), user: login_name(user) })
    }

    /// The commit that a branch points to, if it exists.
    pub fn tip(&self, branch: &str) -> Result<Option<ObjectId>> {
        match self.plain_tip(branch) {
            Some(id) => Ok(Some(id)),
            None => self.resolve(&format!("refs/heads/{branch}")),
        }
    }

    /// The same for a record of it. Most often it is a file of its own, and then nothing else is read.
    pub fn tip_to_record(&self, branch: &str) -> Result<Option<ObjectId>> {
        let loose = std::fs::read(self.path.join("refs/heads").join(branch)).ok();
        match loose.and_then(|id| ObjectId::parse(id.strip_suffix(b"\n")?)) {
            Some(id) => Ok(Some(id)),
            None => self.tip(branch),
        }
    }

    /// The commit that a revision names: a branch, a tag, or any other form that git resolves.
    pub fn resolve(&self, revision: &str) -> Result<Option<ObjectId>> {
        if revision.starts_with('-') || revision.contains('\0') {
            return Ok(None);
        }
        let output = self.run(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])?;
        match output.status.code() {
            Some(0) => Ok(ObjectId::parse(output.stdout.trim_ascii())),
            Some(1) => Ok(None),
            // git prints this for an ambiguous abbreviation and for paths like `HEAD:file`.
            _ if [&b"ambiguous"[..], b"unknown revision"]
                .iter()
                .any(|words| output.stderr.windows(words.len()).any(|window| window == *words)) =>
            {
                Ok(None)
            }
            _ => Err(failure("rev-parse", &output)),
        }
    }

    /// Reads a blob as a file of settings: the output of `git config --blob -z`.
    pub fn settings_of_blob(&self, blob: ObjectId) -> Result<Vec<u8>> {
        let output = self.run(&["config", "--blob", &blob.to_string(), "--list", "-z"])?;
        if output.status.success() { Ok(output.stdout) } else { Err(failure("config", &output)) }
    }

    /// The objects of this repository, whose ids have the given format.
    #[must_use]
    pub fn objects(&self, format: ObjectFormat) -> ObjectStore<'_> {
        ObjectStore::new(&self.path.join("objects"), format, self)
    }

    /// All settings of the repository's own config, in order. The last one of a name counts.
    pub fn own_settings(&self) -> Result<Vec<Setting>> {
        let output =
            self.with_hooks().args(["config", "--null", "--list"]).output().map_err(Error::NotStarted)?;
        if output.status.success() {
            Ok(Setting::parse_all(&output.stdout))
        } else {
            Err(failure("config", &output))
        }
    }

    /// A setting of the repository's own config.
    pub fn setting(&self, key: &str) -> Result<Option<String>> {
        // `config` runs no hooks, and our own value must not hide the repository's `core.hooksPath`.
        let output = self.with_hooks().args(["config", "--get", key]).output().map_err(Error::NotStarted)?;
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
        self.command(arguments).output().map_err(Error::NotStarted)
    }

    /// Prepares a git command that sees this repository, and no settings but the repository's own. It connects to
    /// no other machine.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut git = self.with_hooks();
        git.args(NO_HOOKS).args(arguments);
        git
    }

    /// The same git without arguments, which would run hooks.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn with_hooks(&self) -> Command {
        let mut git = Command::new("git");
        self.prepare(&mut git);
        git.env("GIT_ALLOW_PROTOCOL", "none");
        git
    }

    /// Sets arguments and environment so that git sees this repository, and no settings but its own.
    fn prepare(&self, git: &mut Command) {
        git.env_clear()
            .env("PATH", search_path())
            // git's messages are matched in English.
            .env("LC_ALL", "C")
            // Anybody who may push can push refs/replace/*, but the commit itself must be deployed.
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(RUN_NOTHING)
            .args(NO_FSMONITOR)
            // Without HOME git reads no user's settings, and does not fail on an unreadable file there.
            .arg("--git-dir")
            .arg(&self.path)
            .stdin(Stdio::null());
    }
}

/// The environment in which git neither fetches objects that a partial clone lacks, with the repository's
/// `core.sshCommand`, nor asks for a password.
pub const RUN_NOTHING: [(&str, &str); 2] = [("GIT_NO_LAZY_FETCH", "1"), ("GIT_TERMINAL_PROMPT", "0")];

/// The arguments with which git runs no hooks, such as `reference-transaction` for each ref that moves.
const NO_HOOKS: [&str; 2] = ["-c", "core.hooksPath=/dev/null"];

/// The arguments with which git does not run the program that watches a work tree.
const NO_FSMONITOR: [&str; 2] = ["-c", "core.fsmonitor=false"];

/// The `PATH` for git and its helpers.
#[must_use]
pub fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"))
}

/// The login name of a user, or `user <uid>` if there is none.
#[must_use]
pub fn login_name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| user.name)
}

fn failure(command: &str, output: &Output) -> Error {
    Error::Failed { command: command.into(), stderr: reason(output) }
}

/// Returns the last error message of a failed git.
fn reason(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    // The lines after the last `fatal:` belong to it, such as a list of unknown extensions.
    let last = text.rfind("fatal: ").or_else(|| text.trim_end().rfind('\n')).unwrap_or_default();
    let last = text[last..].split_whitespace().collect::<Vec<_>>().join(" ");
    truncated(&last, MAX_MESSAGE_CHARS).into_owned()
}

/// Finds the git directory of a repository, bare or not.
#[must_use]
pub fn git_dir_of(path: &Path) -> Option<PathBuf> {
    [path.to_path_buf(), path.join(OsStr::new(".git"))]
        .into_iter()
        .find(|dir| dir.join("objects").is_dir() && dir.join("HEAD").exists())
}
