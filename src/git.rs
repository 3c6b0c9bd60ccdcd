//! The repository, and the one place that runs git itself.
//!
//! git is asked what only git knows, in every ref format and with every extension: what a revision
//! names. Objects are read by [`crate::checkout`].

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use git2::Oid;
use nix::unistd::{Uid, User};

use crate::error::{Error, Result};
use crate::push::parse_id;

/// A repository on this machine that belongs to the user who runs the program.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// Opens the repository at `path`: a bare one, or a `.git` directory.
    pub fn open(path: &Path) -> Result<Self> {
        let path = path.canonicalize().map_err(Error::io("open", path))?;
        if !path.join("objects").is_dir() || !path.join("HEAD").exists() {
            return Err(Error::NotARepository(path));
        }
        Ok(Self { path })
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
    pub fn tip(&self, branch: &str) -> Result<Option<Oid>> {
        self.resolve(&format!("refs/heads/{branch}"))
    }

    /// The commit that a revision names: a branch, a tag, any abbreviation that git resolves.
    pub fn resolve(&self, revision: &str) -> Result<Option<Oid>> {
        if revision.starts_with('-') || revision.contains('\0') {
            return Ok(None);
        }
        let output = self.run(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])?;
        match output.status.code() {
            Some(0) => Ok(parse_id(output.stdout.trim_ascii())),
            Some(1) => Ok(None),
            // Git answers so for an ambiguous abbreviation and for paths like `HEAD:file`.
            _ if output.stderr.windows(9).any(|words| words == b"ambiguous" || words == b"unknown r") => {
                Ok(None)
            }
            _ => Err(failure("rev-parse", &output)),
        }
    }

    /// Streams a blob into a file, for one that is too big to be held in memory.
    pub fn stream_blob(&self, id: Oid, size: u64, file: &mut File) -> Result<io::Result<()>> {
        let mut git = self
            .command(&["cat-file", "blob", &id.to_string()])
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

    /// All settings that git sees for the repository's owner, with their scope, as `-z` prints them.
    pub fn settings(&self) -> Result<Vec<u8>> {
        let output = self
            .owners_command()
            .args(["config", "--list", "--show-scope", "-z"])
            .output()
            .map_err(Error::GitMissing)?;
        if output.status.success() { Ok(output.stdout) } else { Err(failure("config", &output)) }
    }

    /// Runs a git that may convert, with a private index and work tree, and gives what it printed and
    /// the lines that it complained with.
    pub fn convert(
        &self,
        settings: &[OsString],
        index: &Path,
        work_tree: &Path,
        arguments: &[OsString],
        input: Vec<u8>,
    ) -> Result<(Vec<u8>, Vec<String>)> {
        let mut git = self
            .owners_command()
            .args(settings)
            .arg("--work-tree")
            .arg(work_tree)
            .args(arguments)
            .current_dir(work_tree)
            .env("GIT_INDEX_FILE", index)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::GitMissing)?;
        let stdin = git.stdin.take();
        // git answers while it reads: both sides must be served at once.
        let output = thread::scope(|scope| {
            // A git that ends early says why; that it did not read all is no news.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
            git.wait_with_output().map_err(Error::GitMissing)
        })?;
        let complaints = String::from_utf8_lossy(&output.stderr);
        let complaints = || complaints.lines().map(str::to_owned).collect::<Vec<_>>();
        if output.status.success() {
            return Ok((output.stdout, complaints()));
        }
        let is_reason = |line: &String| line.starts_with("fatal: ") || line.starts_with("error: ");
        let reason = complaints().into_iter().rfind(is_reason).or_else(|| complaints().pop());
        Err(Error::Conversion(reason.unwrap_or_else(|| format!("{}", output.status))))
    }

    /// A git that knows the filters that the owner and the machine define. Settings that could change
    /// what else a checkout writes are for the caller to pin.
    fn owners_command(&self) -> Command {
        let mut git = self.command(&[]);
        git.env_remove("GIT_CONFIG_NOSYSTEM").env("GIT_ATTR_NOSYSTEM", "1");
        if let Ok(Some(user)) = User::from_uid(Uid::effective()) {
            git.env("HOME", user.dir);
        }
        // Neither hooks nor helpers have a part in this, nor may the index be split into the repository.
        for setting in ["core.hooksPath=/dev/null", "core.fsmonitor=false", "core.splitIndex=false"] {
            git.args(["-c", setting]);
        }
        git
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments).output().map_err(Error::GitMissing)
    }

    /// A git that sees this repository and no settings but the repository's own.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
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

/// Where git and steps are looked for.
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
    let stderr = text.trim().rsplit('\n').next().unwrap_or_default().to_owned();
    Error::Git { command: command.into(), stderr }
}

/// Whether a directory holds a repository, bare or not, and where its git directory is.
#[must_use]
pub fn git_dir_of(path: &Path) -> Option<PathBuf> {
    [path.to_path_buf(), path.join(OsStr::new(".git"))]
        .into_iter()
        .find(|dir| dir.join("objects").is_dir() && dir.join("HEAD").exists())
}
