//! Fetches submodules: the only part of a deployment that connects to other machines.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bluegreen_object_store::{ObjectFormat, ObjectId};
use bluegreen_text::{MAX_MESSAGE_CHARS, truncated};

use super::error::{Error, Result};
use super::{Repository, failure, search_path};
use bluegreen_process::signals::Cancelled;
use bluegreen_process::{self as process, End, Limits, keep_end};

/// The protocols allowed in a submodule's URL. `file` and `ext` would give access to this machine.
const PROTOCOLS: &str = "https:ssh:git";

/// The ssh command. It must not prompt for a password or a host key, because there is no terminal.
const SSH: &str = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=30";

impl Repository {
    /// Creates a bare repository.
    #[expect(clippy::disallowed_methods, reason = "there is no repository yet")]
    pub fn init(path: &Path, format: ObjectFormat) -> Result<()> {
        let format = if format == ObjectFormat::Sha256 { "sha256" } else { "sha1" };
        let output = Command::new("git")
            .env_clear()
            .env("PATH", search_path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["init", "--quiet", "--bare", "--template=", "--object-format", format])
            .arg(path)
            .output()
            .map_err(Error::NotStarted)?;
        if output.status.success() { Ok(()) } else { Err(failure("init", &output)) }
    }

    /// Fetches one commit: by its id if the server allows that, otherwise with all branches and tags.
    pub fn fetch(&self, url: &str, commit: ObjectId, limits: Limits) -> Result<()> {
        let alone = format!("+{commit}:refs/bluegreen/{commit}");
        let begun = Instant::now();
        let first = self.fetch_refs(&["--depth=1", "--", url, &alone], limits);
        first.or_else(|error| match limits.timeout.saturating_sub(begun.elapsed()) {
            _ if matches!(error, Error::Cancelled(_)) => Err(error),
            Duration::ZERO => Err(error),
            timeout => {
                let all = ["--", url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
                self.fetch_refs(&all, Limits { timeout, ..limits })
            }
        })
    }

    fn fetch_refs(&self, arguments: &[&str], limits: Limits) -> Result<()> {
        let mut git = self.owners_command();
        git.args(["-c", "gc.auto=0", "-c", "maintenance.auto=false", "fetch", "--quiet", "--no-tags"])
            .args(["--no-write-fetch-head", "--no-recurse-submodules"])
            .args(arguments)
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
            .env("GIT_SSH_COMMAND", SSH);
        let mut stderr = Vec::new();
        let end = process::run(&mut git, limits.timeout, limits.stop, |bytes| keep_end(&mut stderr, bytes));
        match end.map_err(Error::NotStarted)? {
            End::Exited(status) if status.success() => Ok(()),
            End::Exited(status) => Err(refusal(&Output { status, stdout: Vec::new(), stderr })),
            End::TimedOut => {
                let stderr = format!("gave up after {}", humantime::format_duration(limits.timeout));
                Err(Error::Failed { command: "fetch".into(), stderr })
            }
            End::Cancelled => Err(Cancelled.into()),
        }
    }
}

/// Creates the error for a failed fetch. If ssh could not connect, the reason is in ssh's last lines, not git's.
fn refusal(output: &Output) -> Error {
    let text = String::from_utf8_lossy(&output.stderr);
    let before = text.split_once("fatal: Could not read from remote repository").map(|(before, _)| before);
    let lines: Vec<&str> = before.unwrap_or_default().lines().map(str::trim).collect();
    // ssh names the unknown host, possibly after a banner.
    let last = lines[lines.len().saturating_sub(2)..].join(" ");
    if last.is_empty() {
        return failure("fetch", output);
    }
    let stderr: String =
        last.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    Error::Failed { command: "fetch".into(), stderr: truncated(&stderr, MAX_MESSAGE_CHARS).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_ssh_are_the_reason() {
        let end = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct \
                   access rights\nand the repository exists.\n";
        let banner = "@@@@\n@ WARNING @\n@@@@\r\n";
        for (said, reason) in [
            (
                format!("{banner}Host key for x has changed.\r\nHost key verification failed.\r\n{end}"),
                "Host key for x has changed. Host key verification failed.",
            ),
            (format!("a@b: Permission denied (publickey).\r\n{end}"), "a@b: Permission denied (publickey)."),
            (
                end.to_owned(),
                "fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.",
            ),
            (
                "warning: x\nfatal: transport 'file' not allowed\n".to_owned(),
                "fatal: transport 'file' not allowed",
            ),
        ] {
            let output = Output {
                status: std::process::ExitStatus::default(),
                stdout: Vec::new(),
                stderr: said.into(),
            };
            assert_eq!(refusal(&output).to_string(), format!("`git fetch` failed: {reason}"));
        }
    }
}
