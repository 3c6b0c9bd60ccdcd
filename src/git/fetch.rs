//! Fetching submodules: the only thing that reaches out to other machines.

use std::os::unix::process::CommandExt;
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
            .process_group(0)
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
                return if status.success() { Ok(()) } else { Err(failure("fetch", &output)) };
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
