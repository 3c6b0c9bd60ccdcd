//! A server of a side as its client sees it: over ssh, called as git calls it, or on this machine.

use std::panic::resume_unwind;
use std::process::Command;
use std::thread;
use std::time::Duration;

use bluegreen_text::escape_controls;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::config::{ServerSpec, wrong};
use super::program;
use super::ssh::{Client, Ssh, split};
use crate::deploy::pending::Pending;
use crate::error::{Error, Result};
use crate::run::child;
use crate::run::signals::Stop;
use crate::site::Holder;
use crate::site::public::PublicMark;

/// The time in which a server must say what it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// One server of a side.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The address that `git push` takes, which is its name in messages too.
    pub url: String,
    ssh: Option<Ssh>,
    path: String,
    /// Host and port of its web server.
    pub address: String,
}

/// The state of a server, as `status --json` prints it.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq)]
pub struct State {
    /// Its name.
    pub server: String,
    /// The branch that deploys.
    #[serde(default)]
    pub branch: String,
    /// The commit of that branch.
    #[serde(default, deserialize_with = "commit")]
    pub tip: Option<String>,
    /// The live release.
    pub live: Option<String>,
    /// The live commit.
    #[serde(default, deserialize_with = "commit")]
    pub commit: Option<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// True if the live release did not fail its verification.
    pub good: bool,
    /// The mark of the last promotion.
    pub public: Option<PublicMark>,
    /// All that a crash left to be done; an older version of the program does not say it.
    #[serde(default)]
    pub pending: Vec<Pending>,
    /// The holder of the lock.
    pub running: Option<Value>,
}

impl State {
    /// The holder of the lock in words.
    #[must_use]
    pub fn busy(&self) -> Option<String> {
        let running = self.running.clone()?;
        let known = serde_json::from_value(running).map(|holder: Holder| holder.to_string());
        Some(known.unwrap_or_else(|_| "something runs".into()))
    }
}

impl Remote {
    /// Reads the address of a server. `port` is the one of the public address.
    pub fn parse(spec: &ServerSpec, port: u16, client: &Client) -> Result<Self> {
        let server = Self::to_push_to(spec, client)?;
        let address = match (&spec, &server.ssh) {
            (ServerSpec::Table { address: Some(address), .. }, _) => address.clone(),
            (_, Some(ssh)) => format!("{}:{port}", ssh.host_name()),
            (_, None) => {
                let url = &server.url;
                let hint = format!("write {{ ssh = \"{url}\", address = \"127.0.0.1:8081\" }}");
                return Err(wrong(format!("`{url}` is on this machine and has no `address`"), hint));
            }
        };
        Ok(Self { address, ..server })
    }

    /// Reads the address of a server whose web server nobody asks.
    pub fn to_push_to(spec: &ServerSpec, client: &Client) -> Result<Self> {
        let url = spec.url();
        let (ssh, path) = split(url, client).ok_or_else(|| {
            wrong(
                format!("`{url}` is no address of a repository"),
                "write `deploy@blue:sample_app`, or a path",
            )
        })?;
        Ok(Self { url: url.to_owned(), ssh, path, address: String::new() })
    }

    /// The host, as the address has it; of a repository on this machine its path.
    #[must_use]
    pub fn host(&self) -> &str {
        self.ssh.as_ref().map_or(&self.path, Ssh::machine)
    }

    /// A git that finds this server. It has no terminal to ask somebody at, and a server that does not
    /// answer is soon given up, unless the config of git or ssh says otherwise.
    #[must_use]
    pub fn git(&self) -> Command {
        let mut git = child::command("git");
        git.env("GIT_TERMINAL_PROMPT", "0");
        if let Some(line) = self.ssh.as_ref().and_then(Ssh::patient_line) {
            git.env("GIT_SSH_COMMAND", line);
        }
        git
    }

    /// A command of this program on the server.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let Some(ssh) = &self.ssh else {
            let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
            let mut command = program::command(&program.to_string_lossy());
            command.arg("-C").arg(&self.path).args(words);
            return Ok(command);
        };
        let quoted =
            shlex::try_join(["-C", &self.path]).map_err(|_| wrong("a path holds a NUL", "rename it"))?;
        let mut command = ssh.command();
        command.arg(&ssh.host).arg(format!("bluegreen {} {quoted}", words.join(" ")));
        Ok(command)
    }

    /// Asks the server for its state.
    pub fn state(&self, stop: Option<&Stop>) -> Result<State> {
        let output = program::run(&mut self.command(&["status", "--json"])?, PATIENCE, stop)?;
        if !output.is_ok() {
            return Err(Error::Promotion {
                problem: format!("`{}` does not say what it serves: {}", self.url, output.words()),
                hint: self.try_it(),
            });
        }
        serde_json::from_str(&output.stdout).map_err(|error| Error::Promotion {
            problem: format!("`{}` answers what cannot be read: {error}", self.url),
            hint: "install the same version of bluegreen on all servers".into(),
        })
    }

    /// The line with which somebody can see the problem.
    #[must_use]
    pub fn try_it(&self) -> String {
        format!("try {}", self.line("status"))
    }

    /// The line that runs a command of this program on the server, as one types it.
    #[must_use]
    pub fn line(&self, command: &str) -> String {
        match &self.ssh {
            Some(ssh) => format!("`ssh {} {command} -C {}`", ssh.host, self.path),
            None => format!("`bluegreen -C {} {command}`", self.path),
        }
    }
}

/// Reads the id of a commit: it becomes an argument of git.
fn commit<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<String>, D::Error> {
    let id = Option::<String>::deserialize(from)?;
    match id {
        Some(id) if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Err(serde::de::Error::custom(format!("`{}` is no commit", escape_controls(&id))))
        }
        id => Ok(id),
    }
}

/// Does the same for each of them at once, so that one that is slow keeps no other waiting; returns the results
/// in their order.
pub fn at_once<T: Send, R: Send>(all: impl IntoIterator<Item = T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let work = &work;
    thread::scope(|scope| {
        let begun: Vec<_> = all.into_iter().map(|each| scope.spawn(move || work(each))).collect();
        let end = |thread: thread::ScopedJoinHandle<'_, R>| {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        begun.into_iter().map(end).collect()
    })
}
