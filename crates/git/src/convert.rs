//! Runs git to convert files, with the filters that the repository's owner and the machine define.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use bluegreen_text::{MAX_MESSAGE_CHARS, truncated};
use nix::unistd::{Uid, User};

use super::error::{Error, Result};
use super::{NO_HOOKS, Repository, failure};
use bluegreen_process::signals::Cancelled;
use bluegreen_process::{self as process, End, Limits, keep_end};

/// The settings and paths of a git process that converts files.
#[derive(Debug)]
pub struct Work<'a> {
    /// Its `-c` arguments.
    pub settings: &'a [OsString],
    pub index: &'a Path,
    /// The private work tree.
    pub tree: &'a Path,
    /// Its timeout, and the stop request.
    pub limits: Limits<'a>,
}

/// The maximum length of git's output while it converts files, in bytes.
const MAX_OUTPUT: usize = 256 << 20;

impl Repository {
    /// Lists all settings in effect for the repository's owner: the output of `--show-scope -z`.
    pub fn settings(&self) -> Result<Vec<u8>> {
        let output = self
            .owners_command()
            .args(["config", "--list", "--show-scope", "-z"])
            .output()
            .map_err(Error::NotStarted)?;
        if output.status.success() { Ok(output.stdout) } else { Err(failure("config", &output)) }
    }

    /// Runs git with a private index and work tree. Returns its output and the lines of its standard error.
    pub fn convert(
        &self,
        work: &Work,
        arguments: &[OsString],
        input: &[u8],
    ) -> Result<(Vec<u8>, Vec<String>)> {
        let mut git = self.owners_command();
        git.args(work.settings)
            .arg("--work-tree")
            .arg(work.tree)
            .args(arguments)
            .current_dir(work.tree)
            .env("GIT_INDEX_FILE", work.index);
        let mut stderr = Vec::new();
        let output =
            process::output(&mut git, input, work.limits, MAX_OUTPUT, |bytes| keep_end(&mut stderr, bytes));
        let stderr = String::from_utf8_lossy(&stderr);
        let complaints =
            || stderr.lines().map(|line| truncated(line, MAX_MESSAGE_CHARS).into_owned()).collect::<Vec<_>>();
        let status = match output.map_err(Error::NotStarted)? {
            (End::Exited(status), stdout) if status.success() => return Ok((stdout, complaints())),
            (End::Exited(status), _) => status,
            (End::TimedOut, _) => return Err(Error::ConversionTimeout(work.limits.timeout)),
            (End::Cancelled, _) => return Err(Cancelled.into()),
        };
        let is_reason = |line: &String| line.starts_with("fatal: ") || line.starts_with("error: ");
        let reason = complaints().into_iter().rfind(is_reason).or_else(|| complaints().pop());
        Err(Error::Conversion(reason.unwrap_or_else(|| format!("{status}"))))
    }

    /// Prepares a git command that reads the owner's and the system's settings, for their filters. The caller overrides the
    /// settings that would affect other files of a checkout.
    pub(super) fn owners_command(&self) -> Command {
        let mut git = process::command("git");
        self.prepare(&mut git);
        git.env_remove("GIT_CONFIG_NOSYSTEM").env("GIT_ATTR_NOSYSTEM", "1");
        if let Ok(Some(user)) = User::from_uid(Uid::effective()) {
            git.env("HOME", user.dir);
        }
        // Prevent git from writing a shared index into the repository.
        git.args(NO_HOOKS).args(["-c", "core.splitIndex=false"]);
        git
    }
}
