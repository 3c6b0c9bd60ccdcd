//! The repository, and the one place that runs git itself.
//!
//! git is asked what only git knows, in every ref format and with every extension: what a revision
//! names. Objects are read by [`crate::checkout`].

mod convert;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use git2::Oid;
use nix::unistd::{Uid, User};

use crate::error::{Error, Result};
use crate::push::{RefUpdate, parse_id};

/// One line of git's own config, its name in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// "receive.denydeletes".
    pub name: String,
    /// What it is set to; a name alone has nothing.
    pub value: Option<String>,
}

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
            _ if [&b"ambiguous"[..], b"unknown revision"]
                .iter()
                .any(|words| output.stderr.windows(words.len()).any(|window| window == *words)) =>
            {
                Ok(None)
            }
            _ => Err(failure("rev-parse", &output)),
        }
    }

    /// What a ref points to, where there is such a ref.
    pub fn id_of(&self, name: &[u8]) -> Result<Option<Oid>> {
        let mut git = self.command(&["rev-parse", "--verify", "--quiet"]);
        let output = git.arg(OsStr::from_bytes(name)).output().map_err(Error::GitMissing)?;
        match output.status.code() {
            Some(0) => Ok(parse_id(output.stdout.trim_ascii())),
            Some(1) => Ok(None),
            _ => Err(failure("rev-parse", &output)),
        }
    }

    /// Moves, makes or deletes a ref if it still is where the update says, with a line in its reflog.
    pub fn move_ref(&self, update: &RefUpdate, message: &str) -> Result<()> {
        let (new, old) = (update.new.to_string(), update.old.to_string());
        let mut git = self.as_receive_pack(&["update-ref", "-m", message]);
        let name = OsStr::from_bytes(&update.name);
        if update.is_deletion() {
            git.arg("-d").arg(name)
        } else {
            git.arg(name).arg(new)
        };
        let output = git.arg(old).output().map_err(Error::GitMissing)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let has_moved = ["but expected", "reference already exists", "unable to resolve reference"];
        if has_moved.iter().any(|text| said.contains(text)) {
            return Err(Error::RefMoved(update.name.clone()));
        }
        Err(failure("update-ref", &output))
    }

    /// The settings of a section as receive-pack sees them, in order; a later one counts.
    pub fn settings(&self, section: &str) -> Result<Vec<Setting>> {
        let mut git = self.as_receive_pack(&["config", "--null", "--get-regexp"]);
        let output = git.arg(format!("^{section}\\.")).output().map_err(Error::GitMissing)?;
        match output.status.code() {
            Some(0 | 1) => {}
            _ => return Err(failure("config", &output)),
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let setting = |entry: &str| match entry.split_once('\n') {
            Some((name, value)) => Setting { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Setting { name: entry.to_owned(), value: None },
        };
        Ok(text.split_terminator('\0').map(setting).collect())
    }

    /// The ref that `HEAD` names.
    pub fn head(&self) -> Result<Option<Vec<u8>>> {
        let output = self.run(&["symbolic-ref", "--quiet", "HEAD"])?;
        Ok(output.status.success().then(|| output.stdout.trim_ascii_end().to_vec()))
    }

    /// Whether a work tree has this branch checked out.
    pub fn is_checked_out(&self, name: &[u8]) -> Result<bool> {
        let output = self.run(&["worktree", "list", "--porcelain"])?;
        if !output.status.success() {
            return Err(failure("worktree", &output));
        }
        let line = [b"branch ", name].concat();
        Ok(output.stdout.split(|&byte| byte == b'\n').any(|found| found == line))
    }

    /// Whether one commit is in the history of another.
    pub fn is_ancestor(&self, old: Oid, new: Oid) -> Result<bool> {
        let output = self.run(&["merge-base", "--is-ancestor", &old.to_string(), &new.to_string()])?;
        match output.status.code() {
            Some(code @ (0 | 1)) => Ok(code == 0),
            _ => Err(failure("merge-base", &output)),
        }
    }

    /// One of the repository's hooks, to be run about a ref as receive-pack does; `None` without one.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn hook(&self, name: &str, update: &RefUpdate) -> Result<Option<Command>> {
        let mut git = self.as_receive_pack(&["rev-parse", "--git-path", &format!("hooks/{name}")]);
        let output = git.output().map_err(Error::GitMissing)?;
        if !output.status.success() {
            return Err(failure("rev-parse", &output));
        }
        let path = self.path.join(OsStr::from_bytes(output.stdout.trim_ascii_end()));
        let is_executable = |file: std::fs::Metadata| file.is_file() && file.mode() & 0o111 != 0;
        if !path.metadata().is_ok_and(is_executable) {
            return Ok(None);
        }
        let mut hook = Command::new(path);
        hook.arg(OsStr::from_bytes(&update.name))
            .args([update.old.to_string(), update.new.to_string()])
            .current_dir(&self.path)
            .env("GIT_DIR", &self.path);
        Ok(Some(hook))
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

    /// A git that sees what `git receive-pack` sees, for what that would do itself: the settings of the
    /// system and of the user, and who pushes.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub(crate) fn as_receive_pack(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.env("LC_ALL", "C").arg("--git-dir").arg(&self.path).args(arguments).stdin(Stdio::null());
        git
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
    // What git goes on to list belongs to its last complaint: the extensions that it does not know.
    let last = text.rfind("fatal: ").or_else(|| text.trim_end().rfind('\n')).unwrap_or_default();
    let stderr = text[last..].split_whitespace().collect::<Vec<_>>().join(" ");
    Error::Git { command: command.into(), stderr }
}

/// Whether a directory holds a repository, bare or not, and where its git directory is.
#[must_use]
pub fn git_dir_of(path: &Path) -> Option<PathBuf> {
    [path.to_path_buf(), path.join(OsStr::new(".git"))]
        .into_iter()
        .find(|dir| dir.join("objects").is_dir() && dir.join("HEAD").exists())
}
