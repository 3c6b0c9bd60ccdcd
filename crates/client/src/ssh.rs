//! The ssh client, found and called as git finds and calls it.

use std::process::Command;
use std::time::Duration;

use crate::config::{git, local_path};
use crate::error::Error;
use crate::program::{self, last_lines};
use bluegreen_process as process;

/// The options by which a server that does not respond is detected.
const KEEPALIVE: [&str; 3] = ["ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=2"];

/// The status with which ssh exits if it cannot connect.
pub const CANNOT_CONNECT: i32 = 255;

/// The client that git would call.
#[derive(Debug, Clone)]
pub struct Client {
    /// A command for the shell.
    line: Option<String>,
    /// A program, if there is no command.
    program: Option<String>,
}

/// A server that ssh reaches.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// The host, with the user if the address has one.
    pub host: String,
    port: Option<String>,
    client: Client,
}

impl Client {
    /// Finds the client. `line` and `program` are `GIT_SSH_COMMAND` and `GIT_SSH` of the environment.
    #[must_use]
    pub fn find(line: Option<String>, program: Option<String>) -> Self {
        Self { line: line.or_else(|| git(&["config", "core.sshCommand"])), program }
    }
}

impl Ssh {
    /// Prepares a command that runs the client, up to the host.
    #[must_use]
    pub fn command(&self) -> Command {
        let Client { line, program } = &self.client;
        let program = program.as_deref().unwrap_or("ssh");
        let mut command = match line {
            Some(line) => {
                let mut shell = process::command("sh");
                shell.arg("-c").arg(format!("{line} \"$@\"")).arg(line);
                shell
            }
            None => process::command(program),
        };
        if is_ssh(line.as_deref().unwrap_or(program)) {
            for option in KEEPALIVE {
                command.args(["-o", option]);
            }
        }
        if let Some(port) = &self.port {
            command.args(["-p", port]);
        }
        command
    }

    /// Returns the command by which git itself calls a client that detects when a server does not respond; `None` if
    /// the client is not OpenSSH.
    #[must_use]
    pub fn patient_line(&self) -> Option<String> {
        let Client { line, program } = &self.client;
        let line = line.as_deref().unwrap_or("ssh");
        let options = KEEPALIVE.map(|option| format!(" -o {option}")).concat();
        (is_ssh(line) && program.is_none()).then(|| format!("{line}{options}"))
    }

    /// Returns the host without the user.
    #[must_use]
    pub fn machine(&self) -> &str {
        self.host.rsplit('@').next().unwrap_or_default()
    }

    /// Returns the command line that connects, quoted for a shell.
    #[must_use]
    pub fn line(&self) -> String {
        let port = self.port.as_ref().map(|port| format!("-p {port} ")).unwrap_or_default();
        format!("ssh {port}{}", quoted(&self.host))
    }

    /// Returns the host name that the config of ssh has for this host.
    #[must_use]
    pub fn host_name(&self) -> String {
        let mut command = self.command();
        let output = program::run(command.args(["-G", &self.host]), Duration::from_secs(10), None).ok();
        let found = output.and_then(|output| {
            output.stdout.lines().find_map(|line| line.strip_prefix("hostname ").map(str::to_owned))
        });
        found.unwrap_or_else(|| self.machine().to_owned())
    }

    /// Explains why ssh could not connect to a machine that is not a server of a side.
    #[must_use]
    pub fn explain_machine(&self, stderr: &str) -> Error {
        match self.explain(&self.host, stderr) {
            Error::Unreachable { url, reason, .. } if !stderr.contains("Host key verification failed") => {
                let hint = format!("run `{} true`, and see `host` in .promote.toml", self.line());
                Error::Unreachable { url, reason, hint }
            }
            error => error,
        }
    }

    /// Explains why ssh could not connect, from its standard error.
    #[must_use]
    pub fn explain(&self, url: &str, stderr: &str) -> Error {
        let url = url.to_owned();
        if stderr.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            let host = match &self.port {
                Some(port) => quoted(&format!("[{}]:{port}", self.machine())),
                None => quoted(self.machine()),
            };
            return Error::HostKey { url, host };
        }
        let reason = last_lines(stderr, 1).pop().unwrap_or_else(|| "ssh gives no reason".into());
        let reason = reason.trim_start_matches("ssh: ").to_owned();
        let hint = if stderr.contains("Host key verification failed") {
            format!("connect once to accept its host key: `{}`", self.line())
        } else if stderr.contains("Permission denied") {
            "add your public key on the server: `install.sh --key NAME=FILE`".into()
        } else {
            format!("run `{} status`", self.line())
        };
        Error::Unreachable { url, reason, hint }
    }
}

/// Parses the name of a machine: `ops@lb` or `ssh://ops@lb:2222`.
#[must_use]
pub fn machine(host: &str, client: &Client) -> Option<Ssh> {
    let name = host.strip_prefix("ssh://").unwrap_or(host);
    let is_name = !name.contains(|char: char| char == '/' || char.is_whitespace() || char.is_control());
    let is_port = |name: &str| !name.contains(':') || host.len() > name.len();
    let url = if host.starts_with("ssh://") { format!("{host}/") } else { format!("{host}:.") };
    split(&url, client).filter(|_| is_name && is_port(name))?.0
}

/// Quotes a word for a shell.
pub fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| "''".into(), Into::into)
}

/// Returns whether a shell command runs OpenSSH, whose options are known.
fn is_ssh(line: &str) -> bool {
    line.split(' ').next().unwrap_or_default().rsplit('/').next() == Some("ssh")
}

/// Splits an address as git does: `ssh://`, `host:path`, or else a path.
#[must_use]
pub fn split(url: &str, client: &Client) -> Option<(Option<Ssh>, String)> {
    let ssh = |host: &str, port| {
        let is_safe = !host.is_empty() && !host.starts_with('-');
        is_safe.then(|| Some(Ssh { host: host.into(), port, client: client.clone() }))
    };
    if let Some(rest) = url.strip_prefix("ssh://") {
        let (host, path) = rest.split_once('/')?;
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, Some(port.to_owned()))
            }
            _ => (host, None),
        };
        let path = if path.starts_with('~') { in_home(path) } else { format!("/{path}") };
        return Some((ssh(host, port)?, path));
    }
    if let Some(path) = local_path(url) {
        return Some((None, path.into()));
    }
    match url.split_once(':') {
        // git runs a program of its own for `NAME::ADDRESS`.
        Some((_, path)) if path.is_empty() || path.starts_with("//") || path.starts_with(':') => None,
        Some((host, path)) if !host.contains('/') => Some((ssh(host, None)?, in_home(path))),
        _ => None,
    }
}

/// Returns a path as the account's own commands take it: they run in the home directory.
fn in_home(path: &str) -> String {
    path.strip_prefix("~/").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_user_and_a_port_at_most() {
        let client = Client { line: None, program: None };
        let show = |host: &str| machine(host, &client).map(|ssh| (ssh.host, ssh.port));
        assert_eq!(show("ops@lb"), Some(("ops@lb".into(), None)));
        assert_eq!(show("ssh://ops@lb:2222"), Some(("ops@lb".into(), Some("2222".into()))));
        for wrong in
            ["", "lb:2222", "ops@lb:/etc", "lb/x", "-oProxyCommand=id", "ssh://-x", "ssh://lb/x", "a b"]
        {
            assert_eq!(show(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_are_split_as_git_does() {
        let client = Client { line: None, program: None };
        let show = |url: &str| {
            split(url, &client).map(|(ssh, path)| {
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
            ("file:///srv/%61pp", None),
            ("ext::sh -c id", None),
            ("deploy@blue:", None),
            ("", None),
        ] {
            assert_eq!(show(url).as_deref(), expected, "{url}");
        }
    }
}
