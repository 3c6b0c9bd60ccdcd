//! The parts of `git receive-pack` that the gate replaces: settings, the `update` hook, and ref updates.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bluegreen_git_types::RUN_NOTHING;
use bluegreen_object_store::{ObjectId, ObjectKind};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::error::{Error, Result};
use super::push::RefUpdate;
use super::{NO_FSMONITOR, Repository, failure};
use bluegreen_process::signals::{Cancelled, Stop};
use bluegreen_process::{self as process, End, Limits, Task};

/// The prefix of the refs that protect objects during a push. `transfer.hideRefs` hides them from clients.
const KEPT: &str = "refs/bluegreen/deploying/";

/// The timeout of one of the repository's hooks.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// The maximum length of git's output when it updates a ref, in bytes.
const MAX_PRINTED: usize = 1024 * 1024;

const HOOKS_PATH: &str = "core.hookspath";

/// A guard that protects a commit's objects with a temporary ref.
#[must_use = "they are kept until it is dropped"]
#[derive(Debug)]
pub struct Kept<'a> {
    repository: &'a Repository,
    name: String,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.repository.release(&self.name);
    }
}

/// A git setting. Its name is in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// "receive.denydeletes".
    pub name: String,
    /// Its value; `None` for a name without `=`.
    pub value: Option<String>,
}

impl Setting {
    /// Parses the output of `git config --null`.
    pub(super) fn parse_all(output: &[u8]) -> Vec<Self> {
        let setting = |entry: &str| match entry.split_once('\n') {
            Some((name, value)) => Self { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Self { name: entry.to_owned(), value: None },
        };
        String::from_utf8_lossy(output).split_terminator('\0').map(setting).collect()
    }
}

impl Repository {
    /// Returns the commit that a ref points to, if it exists.
    pub fn id_of(&self, name: &[u8]) -> Result<Option<ObjectId>> {
        let branch = name.strip_prefix(b"refs/heads/").and_then(|branch| std::str::from_utf8(branch).ok());
        if let Some(tip) = branch.and_then(|branch| self.plain_tip(branch)) {
            return Ok(tip.commit());
        }
        let mut git = self.command(&["rev-parse", "--verify", "--quiet"]);
        let output = git.arg(OsStr::from_bytes(name)).output().map_err(Error::NotStarted)?;
        match output.status.code() {
            Some(0) => Ok(ObjectId::parse(output.stdout.trim_ascii())),
            Some(1) => Ok(None),
            _ => Err(failure("rev-parse", &output)),
        }
    }

    /// Moves, creates, or deletes a ref with a reflog entry, if it still points to the old id. The repository's
    /// `reference-transaction` hook runs, as it does when git moves a pushed ref. git and the hook are killed after
    /// [`HOOK_TIMEOUT`], or if `stop` requests it. The ref then decides the result, because the hook also runs after the update.
    pub fn move_ref(&self, update: &RefUpdate, message: &str, stop: Option<&Stop>) -> Result<()> {
        self.move_ref_within(update, message, Limits { timeout: HOOK_TIMEOUT, stop })
    }

    fn move_ref_within(&self, update: &RefUpdate, message: &str, limits: Limits) -> Result<()> {
        let (new, old) = (update.new.to_string(), update.old.to_string());
        let mut git = self.as_receive_pack(&["update-ref", "-m", message]);
        let name = OsStr::from_bytes(&update.name);
        if update.is_deletion() {
            git.arg("-d").arg(name)
        } else {
            git.arg(name).arg(new)
        };
        let task = Task::start(git.arg(old), limits.timeout, MAX_PRINTED);
        let (end, captured) = task.and_then(|task| task.finish(limits.stop)).map_err(Error::NotStarted)?;
        let status = match end {
            End::Exited(status) if status.success() => return Ok(()),
            End::Exited(status) => status,
            killed => {
                let expected = (!update.is_deletion()).then_some(update.new);
                return match self.id_of(&update.name) {
                    Ok(id) if id == expected => Ok(()),
                    _ if killed == End::Cancelled => Err(Cancelled.into()),
                    _ => Err(Error::MoveTimeout(limits.timeout)),
                };
            }
        };
        let output = Output { status, stdout: captured.stdout, stderr: captured.stderr };
        let said = String::from_utf8_lossy(&output.stderr);
        let has_moved = ["but expected", "reference already exists", "unable to resolve reference"];
        if has_moved.iter().any(|text| said.contains(text)) {
            return Err(Error::RefMoved(update.name.clone()));
        }
        Err(failure("update-ref", &output))
    }

    /// Returns `receive.*` and `core.hooksPath` as receive-pack reads them, in order. The last setting of a name wins.
    pub fn receive_settings(&self) -> Result<Vec<Setting>> {
        let pattern = format!("^receive\\.|^{HOOKS_PATH}$");
        let mut git = self.as_receive_pack(&["config", "--null", "--get-regexp", &pattern]);
        let output = git.output().map_err(Error::NotStarted)?;
        match output.status.code() {
            Some(0 | 1) => {}
            _ => return Err(failure("config", &output)),
        }
        Ok(Setting::parse_all(&output.stdout))
    }

    /// Returns whether git lets `proc-receive` move a branch.
    pub fn calls_proc_receive(&self, branch: &str) -> Result<bool> {
        let settings = self.receive_settings()?;
        let values = settings.into_iter().filter(|setting| setting.name == "receive.procreceiverefs");
        let values: Vec<String> = values.filter_map(|setting| setting.value).collect();
        Ok(is_proc_receive_ref(format!("refs/heads/{branch}").as_bytes(), &values))
    }

    /// Returns the ref that `HEAD` points to.
    pub fn head(&self) -> Result<Option<Vec<u8>>> {
        let output = self.run(&["symbolic-ref", "--quiet", "HEAD"])?;
        Ok(output.status.success().then(|| output.stdout.trim_ascii_end().to_vec()))
    }

    /// Returns whether a work tree has this branch checked out.
    pub fn is_checked_out(&self, name: &[u8]) -> Result<bool> {
        if self.is_plainly_bare() {
            return Ok(false);
        }
        let output = self.run(&["worktree", "list", "--porcelain"])?;
        if !output.status.success() {
            return Err(failure("worktree", &output));
        }
        let line = [b"branch ", name].concat();
        Ok(output.stdout.split(|&byte| byte == b'\n').any(|found| found == line))
    }

    /// Returns whether an object exists and is a commit.
    #[must_use]
    pub fn is_commit(&self, id: ObjectId) -> bool {
        self.objects(id.format()).reader().kind(id).is_ok_and(|kind| kind == ObjectKind::Commit)
    }

    /// Returns whether one commit is an ancestor of another.
    pub fn is_ancestor(&self, old: ObjectId, new: ObjectId) -> Result<bool> {
        let output = self.run(&["merge-base", "--is-ancestor", &old.to_string(), &new.to_string()])?;
        match output.status.code() {
            Some(code @ (0 | 1)) => Ok(code == 0),
            _ => Err(failure("merge-base", &output)),
        }
    }

    /// Returns the path where git looks for a hook, which respects `core.hooksPath`.
    pub fn hook_path(&self, name: &str) -> Result<PathBuf> {
        let mut git = self.as_receive_pack(&["rev-parse", "--git-path", &format!("hooks/{name}")]);
        let output = git.output().map_err(Error::NotStarted)?;
        if !output.status.success() {
            return Err(failure("rev-parse", &output));
        }
        Ok(self.path.join(OsStr::from_bytes(output.stdout.trim_ascii_end())))
    }

    /// Returns whether a ref is a symbolic ref to a branch, so that a push to it moves the branch. Reads the ref's file instead
    /// of starting git, because most pushes deploy nothing and should be fast.
    #[must_use]
    pub fn is_alias(&self, name: &[u8], branch: &str) -> bool {
        let file = self.path.join(OsStr::from_bytes(name));
        let target = std::fs::read(file).unwrap_or_default();
        target.strip_prefix(b"ref: ").map(<[u8]>::trim_ascii)
            == Some(format!("refs/heads/{branch}").as_bytes())
    }

    /// Returns whether the entire history of a commit is in the repository. It is incomplete after a push from a shallow clone,
    /// because git does not update its `shallow` file for a ref that the gate moves.
    pub fn has_history_of(&self, commit: ObjectId) -> Result<bool> {
        // The temporary refs prove nothing.
        let ours = format!("--exclude={KEPT}*");
        let output = self.run(&["rev-list", "--quiet", &commit.to_string(), "--not", &ours, "--all"])?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(128) => Ok(false),
            _ => Err(failure("rev-list", &output)),
        }
    }

    /// Protects the objects of an unreachable commit from `git gc` until the guard is dropped. Also removes the temporary refs
    /// of processes that no longer exist.
    pub fn keep(&self, commit: ObjectId) -> Result<Kept<'_>> {
        let output = self.run(&["for-each-ref", "--format=%(refname)", KEPT])?;
        let names = String::from_utf8_lossy(&output.stdout);
        for stale in names.lines().filter(|name| !is_of_running_process(name)) {
            self.release(stale);
        }
        let name = format!("{KEPT}{}-{commit}", std::process::id());
        let output = self.run(&["update-ref", &name, &commit.to_string()])?;
        if output.status.success() {
            return Ok(Kept { repository: self, name });
        }
        let is_missing = self.run(&["cat-file", "-e", &commit.to_string()])?.status.code() == Some(1);
        if is_missing {
            let reason = "its objects are missing: has `git gc --prune=now` removed them? push again";
            return Err(Error::PushRejected(reason.into()));
        }
        Err(failure("update-ref", &output))
    }

    /// Removes a temporary ref. If that fails, for example during `git pack-refs`, a later push removes it.
    fn release(&self, name: &str) {
        match self.run(&["update-ref", "-d", name]) {
            Ok(output) if output.status.success() => {}
            Ok(output) => log::warn!("{}", failure("update-ref", &output)),
            Err(error) => log::warn!("{error}"),
        }
    }

    /// Prepares one of the repository's hooks with the arguments and environment of receive-pack; `None` if there is no such
    /// hook.
    pub fn hook(&self, name: &str, update: &RefUpdate, settings: &[Setting]) -> Result<Option<Command>> {
        let is_elsewhere = settings.iter().any(|setting| setting.name == HOOKS_PATH);
        let path = if is_elsewhere || self.path.join("commondir").exists() {
            self.hook_path(name)?
        } else {
            self.path.join("hooks").join(name)
        };
        let is_executable = |file: std::fs::Metadata| file.is_file() && file.mode() & 0o111 != 0;
        if !path.metadata().is_ok_and(is_executable) {
            return Ok(None);
        }
        let mut hook = process::command(path);
        self.hide_environment(&mut hook);
        hook.arg(OsStr::from_bytes(&update.name))
            .args([update.old.to_string(), update.new.to_string()])
            .current_dir(&self.path)
            .env("GIT_DIR", &self.path);
        Ok(Some(hook))
    }

    /// Prepares a git command that acts as receive-pack does, with the settings of the system and the user, and the environment
    /// of the push.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn as_receive_pack(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        self.hide_environment(&mut git);
        git.env("LC_ALL", "C")
            .envs(RUN_NOTHING)
            .env("GIT_ALLOW_PROTOCOL", "none")
            .args(NO_FSMONITOR)
            .arg("--git-dir")
            .arg(&self.path)
            .args(arguments)
            .stdin(Stdio::null());
        git
    }
}

/// Returns whether the process that owns this temporary ref still exists.
fn is_of_running_process(name: &str) -> bool {
    let id =
        name.strip_prefix(KEPT).and_then(|name| name.split_once('-')).and_then(|(id, _)| id.parse().ok());
    // Any other error means that the process exists.
    id.and_then(Pid::from_raw).is_some_and(|id| test_kill_process(id) != Err(Errno::SRCH))
}

/// Returns whether these values of `receive.procReceiveRefs` match an update of this ref, as `proc_receive_ref_matches` in
/// git's receive-pack.c decides.
fn is_proc_receive_ref(name: &[u8], values: &[String]) -> bool {
    for value in values {
        let (flags, prefix) =
            value.split_once(':').map_or(("", value.as_str()), |(flags, prefix)| (flags, prefix));
        let is_any = !flags.contains(['a', 'd', 'm']);
        if !is_any && !flags.contains('m') {
            continue;
        }
        let prefix = prefix.trim_end_matches('/').as_bytes();
        let matches = name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
        if matches != flags.contains('!') {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Creates a repository with a commit on branch `a` and a hook.
    fn hooked(script: &str) -> (tempfile::TempDir, Repository, RefUpdate) {
        let dir = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let mut git = process::command("git");
            git.current_dir(dir.path()).args(arguments);
            for role in ["AUTHOR", "COMMITTER"] {
                git.env(format!("GIT_{role}_NAME"), "a").env(format!("GIT_{role}_EMAIL"), "a@localhost");
            }
            let output = git.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            ObjectId::parse(output.stdout.trim_ascii())
        };
        git(&["init", "--quiet", "--bare", "."]);
        let tree = git(&["hash-object", "-w", "-t", "tree", "/dev/null"]).unwrap().to_string();
        let commit = |message| git(&["commit-tree", "-m", message, &tree]).unwrap();
        let (old, new) = (commit("one"), commit("two"));
        git(&["update-ref", "refs/heads/a", &old.to_string()]);
        let hook = dir.path().join("hooks/reference-transaction");
        write(&hook, format!("#!/bin/sh\n{script}\n")).unwrap();
        set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
        let repository = Repository::open(dir.path()).unwrap();
        (dir, repository, RefUpdate { old, new, name: b"refs/heads/a".to_vec() })
    }

    #[test]
    fn a_hook_that_does_not_end_is_killed_and_the_ref_decides() {
        let limits = Limits { timeout: Duration::from_secs(1), stop: None };
        for (state, is_moved) in [("prepared", false), ("committed", true)] {
            let (_dir, repository, update) = hooked(&format!("[ $1 != {state} ] || exec sleep 1000"));
            let moved = repository.move_ref_within(&update, "test", limits);
            assert_eq!(moved.is_ok(), is_moved, "{state}: {moved:?}");
            assert!(is_moved || matches!(moved, Err(Error::MoveTimeout(_))), "{state}: {moved:?}");
            let expected = if is_moved { update.new } else { update.old };
            assert_eq!(repository.id_of(&update.name).unwrap(), Some(expected), "{state}");
            // git has removed its lock file.
            let back = RefUpdate { old: expected, new: expected, name: update.name };
            write(repository.path().join("hooks/reference-transaction"), "#!/bin/sh\n").unwrap();
            repository.move_ref(&back, "test", None).unwrap();
        }
    }

    #[test]
    fn a_process_that_the_hook_leaves_holds_nothing_up() {
        let (_dir, repository, update) = hooked("sleep 20 &");
        let started = std::time::Instant::now();
        repository.move_ref(&update, "test", None).unwrap();
        assert!(started.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn refs_are_given_to_the_hook_by_whole_prefixes() {
        let matches = |value: &str| is_proc_receive_ref(b"refs/heads/main", &[value.to_owned()]);
        for value in [
            "refs/heads/main",
            "refs/heads",
            "refs/heads/",
            "refs",
            "m:refs/heads",
            "ad!m:refs/tags",
            "!:refs/tags",
        ] {
            assert!(matches(value), "{value}");
        }
        for value in
            ["refs/heads/mai", "refs/heads/main2", "a:refs/heads", "ad:refs", "!:refs/heads", "refs/tags"]
        {
            assert!(!matches(value), "{value}");
        }
        assert!(!is_proc_receive_ref(b"refs/heads/main", &[]));
    }
}
