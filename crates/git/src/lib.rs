//! The repository, and the only crate that runs git on a server.
//!
//! git resolves revisions in every ref format and with every extension, converts files, and fetches. A branch in a plain
//! repository is read without git, and so are objects, by [`bluegreen_object_store`].

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

use bluegreen_git_types::RUN_NOTHING;
use bluegreen_object_store::{ObjectFormat, ObjectId, ObjectStore};
use bluegreen_text::{MAX_MESSAGE_CHARS, truncated};
use nix::unistd::{Uid, User};

/// A repository on this machine. [`Repository::refuse_foreign`] checks that the current user owns it.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
    /// The environment of git and hooks if root started this program. Otherwise they inherit the caller's.
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

    /// Sets the environment that hooks, and git commands that act as receive-pack, get instead of the caller's. Used if root
    /// started this program.
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

    /// Returns the absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the owner.
    pub fn owner(&self) -> Result<Uid> {
        let metadata = self.path.metadata().map_err(Error::io("open", &self.path))?;
        Ok(Uid::from_raw(metadata.uid()))
    }

    /// Fails if another user owns the repository. git would refuse it, and files that we create in it would have the wrong
    /// owner.
    pub fn refuse_foreign(&self) -> Result<()> {
        let (owner, user) = (self.owner()?, Uid::effective());
        if owner == user {
            return Ok(());
        }
        Err(Error::NotOwner { path: self.path.clone(), owner: login_name(owner), user: login_name(user) })
    }

    /// Returns the commit that a branch points to, if the branch exists.
    pub fn tip(&self, branch: &str) -> Result<Option<ObjectId>> {
        match self.plain_tip(branch) {
            Some(tip) => Ok(tip.commit()),
            None => self.resolve(&format!("refs/heads/{branch}")),
        }
    }

    /// Returns the commit that a branch points to, for a record. Usually reads only the ref's own file.
    pub fn tip_to_record(&self, branch: &str) -> Result<Option<ObjectId>> {
        let loose = std::fs::read(self.path.join("refs/heads").join(branch)).ok();
        match loose.and_then(|id| ObjectId::parse(id.strip_suffix(b"\n")?)) {
            Some(id) => Ok(Some(id)),
            None => self.tip(branch),
        }
    }

    /// Resolves a revision to a commit: a branch, a tag, or any other form that git accepts.
    pub fn resolve(&self, revision: &str) -> Result<Option<ObjectId>> {
        if revision.starts_with('-') || revision.contains('\0') {
            return Ok(None);
        }
        let output = self.run(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])?;
        match output.status.code() {
            Some(0) => Ok(ObjectId::parse(output.stdout.trim_ascii())),
            Some(1) => Ok(None),
            // git prints this for ambiguous abbreviations and for paths like `HEAD:file`.
            _ if [&b"ambiguous"[..], b"unknown revision"]
                .iter()
                .any(|words| output.stderr.windows(words.len()).any(|window| window == *words)) =>
            {
                Ok(None)
            }
            _ => Err(failure("rev-parse", &output)),
        }
    }

    /// Parses a blob as a git config: returns the output of `git config --blob -z`.
    pub fn settings_of_blob(&self, blob: ObjectId) -> Result<Vec<u8>> {
        let output = self.run(&["config", "--blob", &blob.to_string(), "--list", "-z"])?;
        if output.status.success() { Ok(output.stdout) } else { Err(failure("config", &output)) }
    }

    /// Returns the objects of this repository, whose ids have the given format.
    #[must_use]
    pub fn objects(&self, format: ObjectFormat) -> ObjectStore<'_> {
        ObjectStore::new(&self.path.join("objects"), format, self)
    }

    /// Returns all settings of the repository's own config, in order. The last setting of a name wins.
    pub fn own_settings(&self) -> Result<Vec<Setting>> {
        let output =
            self.with_hooks().args(["config", "--null", "--list"]).output().map_err(Error::NotStarted)?;
        if output.status.success() {
            Ok(Setting::parse_all(&output.stdout))
        } else {
            Err(failure("config", &output))
        }
    }

    /// Returns a setting of the repository's own config.
    pub fn setting(&self, key: &str) -> Result<Option<String>> {
        // `git config` runs no hooks, and our own value would hide the repository's `core.hooksPath`.
        let output = self.with_hooks().args(["config", "--get", key]).output().map_err(Error::NotStarted)?;
        match output.status.code() {
            Some(0) => Ok(Some(String::from_utf8_lossy(output.stdout.trim_ascii_end()).into_owned())),
            Some(1) => Ok(None),
            _ => Err(failure("config", &output)),
        }
    }

    /// Returns the major and minor version of git.
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

    /// Prepares a git command for this repository that reads only the repository's own settings. It never connects to other
    /// machines.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut git = self.with_hooks();
        git.args(NO_HOOKS).args(arguments);
        git
    }

    /// Prepares the same command, except that it runs hooks.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn with_hooks(&self) -> Command {
        let mut git = Command::new("git");
        self.prepare(&mut git);
        git.env("GIT_ALLOW_PROTOCOL", "none");
        git
    }

    /// Sets arguments and environment so that git uses this repository, and only its settings.
    fn prepare(&self, git: &mut Command) {
        git.env_clear()
            .env("PATH", search_path())
            // This crate parses git's messages in English.
            .env("LC_ALL", "C")
            // Developers can push refs/replace/*, but the commit itself must be deployed.
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(RUN_NOTHING)
            .args(NO_FSMONITOR)
            // Without HOME, git reads no user settings, and does not fail if they are unreadable.
            .arg("--git-dir")
            .arg(&self.path)
            .stdin(Stdio::null());
    }
}

/// The arguments that prevent git from running hooks, such as `reference-transaction` for each ref update.
const NO_HOOKS: [&str; 2] = ["-c", "core.hooksPath=/dev/null"];

/// The arguments that prevent git from running a file system monitor.
const NO_FSMONITOR: [&str; 2] = ["-c", "core.fsmonitor=false"];

/// Returns the `PATH` for git and its helpers.
#[must_use]
pub fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"))
}

/// Returns a user's login name, or `user <uid>` if there is none.
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
    // The lines after the last `fatal:` are part of it, such as a list of unknown extensions.
    let last = text.rfind("fatal: ").or_else(|| text.trim_end().rfind('\n')).unwrap_or_default();
    let last = text[last..].split_whitespace().collect::<Vec<_>>().join(" ");
    truncated(&last, MAX_MESSAGE_CHARS).into_owned()
}

/// Finds a repository's git directory. The repository may be bare or not.
#[must_use]
pub fn git_dir_of(path: &Path) -> Option<PathBuf> {
    [path.to_path_buf(), path.join(OsStr::new(".git"))]
        .into_iter()
        .find(|dir| dir.join("objects").is_dir() && dir.join("HEAD").exists())
}
