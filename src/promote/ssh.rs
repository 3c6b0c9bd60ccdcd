//! The ssh client, found and called as git finds and calls it.

use std::process::Command;
use std::time::Duration;

use super::config::git;
use super::program;

/// The options by which a server that does not answer is noticed.
const PATIENT: [&str; 3] = ["ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=2"];

/// The client that git would call.
#[derive(Debug, Clone)]
pub struct Client {
    /// A line for the shell.
    line: Option<String>,
    /// A program, where there is no line.
    program: Option<String>,
}

/// A server that ssh reaches.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// The host, with the user where the address has one.
    pub host: String,
    port: Option<String>,
    client: Client,
}

impl Client {
    /// Finds the client. `line` and `program` are what the environment has as `GIT_SSH_COMMAND` and `GIT_SSH`.
    #[must_use]
    pub fn find(line: Option<String>, program: Option<String>) -> Self {
        Self { line: line.or_else(|| git(&["config", "core.sshCommand"])), program }
    }
}

impl Ssh {
    /// A command that runs the client, up to the host.
    #[must_use]
    pub fn command(&self) -> Command {
        let Client { line, program } = &self.client;
        let program = program.as_deref().unwrap_or("ssh");
        let mut command = match line {
            Some(line) => {
                let mut shell = program::command("sh");
                shell.arg("-c").arg(format!("{line} \"$@\"")).arg(line);
                shell
            }
            None => program::command(program),
        };
        if is_ssh(line.as_deref().unwrap_or(program)) {
            for option in PATIENT {
                command.args(["-o", option]);
            }
        }
        if let Some(port) = &self.port {
            command.args(["-p", port]);
        }
        command
    }

    /// The line by which git itself calls a client that notices when a server does not answer; `None` where we
    /// do not know the client.
    #[must_use]
    pub fn patient_line(&self) -> Option<String> {
        let Client { line, program } = &self.client;
        let line = line.as_deref().unwrap_or("ssh");
        let options = PATIENT.map(|option| format!(" -o {option}")).concat();
        (is_ssh(line) && program.is_none()).then(|| format!("{line}{options}"))
    }

    /// The host without the user.
    #[must_use]
    pub fn machine(&self) -> &str {
        self.host.rsplit('@').next().unwrap_or_default()
    }

    /// The host as the config of ssh has it.
    #[must_use]
    pub fn host_name(&self) -> String {
        let mut command = self.command();
        let asked = program::run(command.args(["-G", &self.host]), Duration::from_secs(10), None).ok();
        let found = asked.and_then(|output| {
            output.stdout.lines().find_map(|line| line.strip_prefix("hostname ").map(str::to_owned))
        });
        found.unwrap_or_else(|| self.machine().to_owned())
    }
}

/// Returns whether a shell line runs OpenSSH, whose options we know.
fn is_ssh(line: &str) -> bool {
    line.split(' ').next().unwrap_or_default().rsplit('/').next() == Some("ssh")
}

/// Parts an address as git does: `ssh://`, `host:path`, else a path.
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
    if let Some(path) = url.strip_prefix("file://") {
        return Some((None, path.into()));
    }
    match url.split_once(':') {
        Some((_, path)) if path.is_empty() || path.starts_with("//") => None,
        Some((host, path)) if !host.contains('/') => Some((ssh(host, None)?, in_home(path))),
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
            ("deploy@blue:", None),
            ("", None),
        ] {
            assert_eq!(show(url).as_deref(), expected, "{url}");
        }
    }
}
