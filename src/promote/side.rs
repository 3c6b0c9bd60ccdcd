//! A server of a side as its client sees it: over ssh, called as git calls it, or on this machine.

use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{ServerSpec, git, wrong};
use super::program;
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

#[derive(Debug, Clone)]
struct Ssh {
    host: String,
    port: Option<String>,
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
    pub tip: Option<String>,
    /// The live release.
    pub live: Option<String>,
    /// The live commit.
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
    pub fn parse(spec: &ServerSpec, port: u16) -> Result<Self> {
        let server = Self::to_push_to(spec)?;
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
    pub fn to_push_to(spec: &ServerSpec) -> Result<Self> {
        let (ServerSpec::Url(url) | ServerSpec::Table { ssh: url, .. }) = spec;
        let (ssh, path) = split(url).ok_or_else(|| {
            wrong(
                format!("`{url}` is no address of a repository"),
                "write `deploy@blue:sample_app`, or a path",
            )
        })?;
        Ok(Self { url: url.clone(), ssh, path, address: String::new() })
    }

    /// The host, as the address has it; of a repository on this machine its path.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.ssh.as_ref().map(|ssh| ssh.host.rsplit('@').next().unwrap_or_default());
        host.unwrap_or(&self.path)
    }

    /// A git that finds this server. It has no terminal to ask somebody at, and a server that does not
    /// answer is soon given up, unless the config of git or ssh says otherwise.
    #[must_use]
    pub fn git(&self) -> Command {
        let mut git = child::in_session("git");
        git.env("GIT_TERMINAL_PROMPT", "0");
        let line = ssh_line().unwrap_or_else(|| "ssh".into());
        if self.ssh.is_some() && is_ssh(&line) && std::env::var_os("GIT_SSH").is_none() {
            let options = PATIENT.map(|option| format!(" -o {option}")).concat();
            git.env("GIT_SSH_COMMAND", line + &options);
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

impl Ssh {
    /// The client as git finds it.
    fn command(&self) -> Command {
        let line = ssh_line();
        let program = std::env::var("GIT_SSH").unwrap_or_else(|_| "ssh".into());
        let mut command = match &line {
            Some(line) => {
                let mut shell = program::command("sh");
                shell.arg("-c").arg(format!("{line} \"$@\"")).arg(line);
                shell
            }
            None => program::command(&program),
        };
        if is_ssh(line.as_deref().unwrap_or(&program)) {
            for option in PATIENT {
                command.args(["-o", option]);
            }
        }
        if let Some(port) = &self.port {
            command.args(["-p", port]);
        }
        command
    }

    /// The host as the config of ssh has it.
    fn host_name(&self) -> String {
        let mut command = self.command();
        let asked = program::run(command.args(["-G", &self.host]), Duration::from_secs(10), None).ok();
        let found = asked.and_then(|output| {
            output.stdout.lines().find_map(|line| line.strip_prefix("hostname ").map(str::to_owned))
        });
        found.unwrap_or_else(|| self.host.rsplit('@').next().unwrap_or_default().to_owned())
    }
}

/// The options by which a server that does not answer is noticed.
const PATIENT: [&str; 3] = ["ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=2"];

/// The shell line that git calls ssh by, where one is set.
fn ssh_line() -> Option<String> {
    std::env::var("GIT_SSH_COMMAND").ok().or_else(|| git(&["config", "core.sshCommand"]))
}

/// Returns whether a shell line runs OpenSSH, whose options we know.
fn is_ssh(line: &str) -> bool {
    line.split(' ').next().unwrap_or_default().rsplit('/').next() == Some("ssh")
}

/// Parts an address as git does: `ssh://`, `host:path`, else a path.
fn split(url: &str) -> Option<(Option<Ssh>, String)> {
    let safe = |host: &str| !host.is_empty() && !host.starts_with('-');
    if let Some(rest) = url.strip_prefix("ssh://") {
        let (host, path) = rest.split_once('/')?;
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, Some(port.to_owned()))
            }
            _ => (host, None),
        };
        let path = if path.starts_with('~') { in_home(path) } else { format!("/{path}") };
        return safe(host).then(|| (Some(Ssh { host: host.into(), port }), path));
    }
    if let Some(path) = url.strip_prefix("file://") {
        return Some((None, path.into()));
    }
    match url.split_once(':') {
        Some((_, path)) if path.starts_with("//") => None,
        Some((host, path)) if !host.contains('/') => (safe(host) && !path.is_empty())
            .then(|| (Some(Ssh { host: host.into(), port: None }), in_home(path))),
        _ => (!url.is_empty() && !url.contains("://")).then(|| (None, url.into())),
    }
}

/// A path as the account's own commands take it: they run in the home, which `~/` stands for.
fn in_home(path: &str) -> String {
    path.strip_prefix("~/").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parted_as_git_does() {
        let show = |url: &str| {
            split(url).map(|(ssh, path)| {
                format!(
                    "{} {path}",
                    ssh.map_or("-".into(), |ssh| format!("{}/{}", ssh.host, ssh.port.unwrap_or_default()))
                )
            })
        };
        for (url, expected) in [
            ("deploy@blue:sample_app", Some("deploy@blue/ sample_app")),
            ("ssh://deploy@blue:2222/srv/app", Some("deploy@blue/2222 /srv/app")),
            ("ssh://deploy@blue/~/sample_app", Some("deploy@blue/ sample_app")),
            ("deploy@blue:~/sample_app", Some("deploy@blue/ sample_app")),
            ("/srv/app", Some("- /srv/app")),
            ("file:///srv/app", Some("- /srv/app")),
            ("./a:b", Some("- ./a:b")),
            ("-oProxyCommand=id:x", None),
            ("ssh://-oProxyCommand=id/x", None),
            ("https://example.org/x", None),
            ("", None),
        ] {
            assert_eq!(show(url).as_deref(), expected, "{url}");
        }
    }
}
