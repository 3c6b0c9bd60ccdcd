//! Fetching submodules: the only thing that reaches out to other machines.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use git2::{ObjectFormat, Oid};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::said::Said;
use super::{Repository, failure, search_path};
use crate::error::{Error, Result};

/// The protocols that a tree may name; not `file` and not `ext`, which reach into this machine.
const PROTOCOLS: &str = "https:ssh:git";

/// Nobody is there to answer: no password, no unknown host key.
const SSH: &str = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=30";

impl Repository {
    /// Makes a bare repository.
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
            .map_err(Error::GitMissing)?;
        if output.status.success() { Ok(()) } else { Err(failure("init", &output)) }
    }

    /// Fetches one commit, alone where the server allows that, else with all branches and tags.
    pub fn fetch(&self, url: &str, commit: Oid, timeout: Duration) -> Result<()> {
        let alone = format!("+{commit}:refs/bluegreen/{commit}");
        let begun = Instant::now();
        let first = self.fetch_refs(&["--depth=1", "--", url, &alone], timeout);
        first.or_else(|error| match timeout.saturating_sub(begun.elapsed()) {
            Duration::ZERO => Err(error),
            rest => {
                self.fetch_refs(&["--", url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"], rest)
            }
        })
    }

    fn fetch_refs(&self, arguments: &[&str], timeout: Duration) -> Result<()> {
        let child = self
            .owners_command()
            .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false", "fetch", "--quiet", "--no-tags"])
            .args(["--no-write-fetch-head", "--no-recurse-submodules"])
            .args(arguments)
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
            .env("GIT_SSH_COMMAND", SSH)
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::GitMissing)?;
        wait(child, timeout)
    }
}

/// Waits for a fetch, and ends it with all that it started when its time is over.
fn wait(mut child: Child, timeout: Duration) -> Result<()> {
    let said = Said::by(child.stderr.take());
    let begun = Instant::now();
    loop {
        match child.try_wait().map_err(Error::GitMissing)? {
            Some(status) => {
                let output = Output { status, stdout: Vec::new(), stderr: said.until_end() };
                return if status.success() { Ok(()) } else { Err(refusal(&output)) };
            }
            None if begun.elapsed() >= timeout => {
                let group = Pid::from_raw(child.id().cast_signed());
                let _ = killpg(group, Signal::SIGKILL);
                let _ = child.wait();
                let stderr = format!("gave up after {}", humantime::format_duration(timeout));
                return Err(Error::Git { command: "fetch".into(), stderr });
            }
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Words the failure of a fetch. Where ssh could not connect, git itself only says that there is no
/// connection.
fn refusal(output: &Output) -> Error {
    let text = String::from_utf8_lossy(&output.stderr);
    let before = text.split_once("fatal: Could not read from remote repository").map(|(before, _)| before);
    let lines: Vec<&str> = before.unwrap_or_default().lines().map(str::trim).collect();
    // ssh names the host that it does not know; a banner may come before that.
    let last = lines[lines.len().saturating_sub(2)..].join(" ");
    if last.is_empty() {
        return failure("fetch", output);
    }
    let stderr = last.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    Error::Git { command: "fetch".into(), stderr }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_the_reason() {
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
