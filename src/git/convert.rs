//! Conversions by git, which knows the filters that the repository's owner and the machine define.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use nix::unistd::{Uid, User};

use super::said::Said;
use super::{Repository, failure};
use crate::error::{Error, Result};
use crate::run::child;

impl Repository {
    /// All settings that git sees for the repository's owner, with their scope, as `-z` prints them.
    pub fn settings(&self) -> Result<Vec<u8>> {
        let output = self
            .owners_command()
            .args(["config", "--list", "--show-scope", "-z"])
            .output()
            .map_err(Error::GitMissing)?;
        if output.status.success() { Ok(output.stdout) } else { Err(failure("config", &output)) }
    }

    /// Runs a git that may convert, with a private index and work tree; returns its output and its
    /// complaints.
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
        let said = Said::by(git.stderr.take());
        // git answers while it reads: both sides must be served at once.
        let mut output = thread::scope(|scope| {
            // A git that ends early prints why; that it did not read everything says nothing more.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
            git.wait_with_output().map_err(Error::GitMissing)
        })?;
        output.stderr = said.until_end();
        let complaints = String::from_utf8_lossy(&output.stderr);
        let complaints = || complaints.lines().map(str::to_owned).collect::<Vec<_>>();
        if output.status.success() {
            return Ok((output.stdout, complaints()));
        }
        let is_reason = |line: &String| line.starts_with("fatal: ") || line.starts_with("error: ");
        let reason = complaints().into_iter().rfind(is_reason).or_else(|| complaints().pop());
        Err(Error::Conversion(reason.unwrap_or_else(|| format!("{}", output.status))))
    }

    /// A git in a session of its own that knows the filters that the owner and the machine define. Settings that could change
    /// other files of a checkout are for the caller to set.
    pub(super) fn owners_command(&self) -> Command {
        let mut git = self.prepare(child::in_session("git"), &[]);
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
}
