//! A server of a side as its client reaches it: over ssh, called as git calls it, or on this machine.

use std::fmt::Display;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::config::{ServerSpec, invalid};
use crate::error::{Error, Result};
use crate::program::{self, Output};
use crate::ssh::{CANNOT_CONNECT, Client, Ssh, quoted, split};
use bluegreen_process as process;
use bluegreen_process::signals::Stop;
use bluegreen_protocol::history::Entry;
use bluegreen_protocol::status::Status;
use bluegreen_text::{MAX_MESSAGE_CHARS, message, truncated};
use serde::de::DeserializeOwned;

/// The time in which a server must report its state or its history.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// One server of a side.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The address that `git push` takes, which is its name in messages too.
    pub url: String,
    ssh: Option<Ssh>,
    path: String,
    port: u16,
    address: OnceLock<String>,
}

impl Remote {
    /// Parses the address of a server. `port` is that of the public address.
    pub fn parse(spec: &ServerSpec, port: u16, client: &Client) -> Result<Self> {
        let server = Self::to_push_to(spec, client)?;
        let address = match (&spec, &server.ssh) {
            (ServerSpec::Table { address: Some(address), .. }, _) => address.clone().into(),
            (_, Some(_)) => OnceLock::new(),
            (_, None) => {
                let url = &server.url;
                let hint = format!("write {{ ssh = \"{url}\", address = \"127.0.0.1:8081\" }}");
                return Err(invalid(format!("`{url}` is on this machine and has no `address`"), hint));
            }
        };
        Ok(Self { port, address, ..server })
    }

    /// Parses the address of a server whose web server is not needed.
    pub fn to_push_to(spec: &ServerSpec, client: &Client) -> Result<Self> {
        let url = spec.url();
        let (ssh, path) = split(url, client).ok_or_else(|| {
            invalid(
                format!("invalid address of a repository: `{}`", truncated(url, MAX_MESSAGE_CHARS)),
                "write `deploy@blue:sample_app`, or a path",
            )
        })?;
        Ok(Self { url: url.to_owned(), ssh, path, port: 0, address: OnceLock::new() })
    }

    /// Returns host and port of its web server; with `http://` before them, it speaks plain HTTP behind an https URL. The
    /// first call may run ssh, which resolves the host by its config.
    #[must_use]
    pub fn address(&self) -> &str {
        self.address.get_or_init(|| {
            let host = self.ssh.as_ref().map(Ssh::host_name).unwrap_or_default();
            format!("{host}:{}", self.port)
        })
    }

    /// Returns the host of the address, or the path of a repository on this machine.
    #[must_use]
    pub fn host(&self) -> &str {
        self.ssh.as_ref().map_or(&self.path, Ssh::machine)
    }

    /// Prepares a git that reaches this server. It never prompts, and it soon gives up on a server that does not
    /// respond, unless the config of git or ssh says otherwise.
    #[must_use]
    pub fn git(&self) -> Command {
        let mut git = process::command("git");
        git.env("GIT_TERMINAL_PROMPT", "0");
        if let Some(line) = self.ssh.as_ref().and_then(Ssh::patient_line) {
            git.env("GIT_SSH_COMMAND", line);
        }
        git
    }

    /// Prepares a command of this program on the server.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let Some(ssh) = &self.ssh else {
            let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
            let mut command = process::command(program);
            command.arg("-C").arg(&self.path).args(words);
            return Ok(command);
        };
        // The repository comes before a `--` among the words.
        let (verb, rest) = words.split_at(words.len().min(1));
        let line = [&["bluegreen"], verb, &["-C", &self.path], rest].concat();
        let line = shlex::try_join(line).map_err(|_| invalid("an argument contains a NUL", "remove it"))?;
        let mut command = ssh.command();
        command.arg(&ssh.host).arg(line);
        Ok(command)
    }

    /// Requests the state of the server.
    pub fn status(&self, stop: Option<&Stop>) -> Result<Status> {
        self.json("status", &["status", "--json"], stop)
    }

    /// Requests the newest entries of the history, the newest first.
    pub fn history(&self, limit: usize, stop: Option<&Stop>) -> Result<Vec<Entry>> {
        let limit = limit.to_string();
        let entries: Vec<Entry> = self.json("history", &["history", "--json", "--limit", &limit], stop)?;
        Ok(entries.into_iter().map(Entry::bounded).collect())
    }

    /// Runs a command of this program on the server, and parses what it prints.
    fn json<T: DeserializeOwned>(
        &self,
        name: &'static str,
        words: &[&str],
        stop: Option<&Stop>,
    ) -> Result<T> {
        let mut command = self.command(words)?;
        let output = match program::run(&mut command, RESPONSE_TIMEOUT, stop) {
            Ok(output) => output,
            // The program itself could not be started, or the server sent more than the limit.
            Err(Error::Run { source, .. }) if source.kind() == std::io::ErrorKind::Other => {
                return Err(self.invalid_response(&source));
            }
            Err(error) => return Err(error),
        };
        if !output.is_ok() {
            return Err(self.failed(name, &output));
        }
        serde_json::from_str(&output.stdout).map_err(|error| self.invalid_response(&error))
    }

    /// Explains why a command of this program failed on the server.
    #[must_use]
    pub fn failed(&self, command: &'static str, output: &Output) -> Error {
        self.unreachable(output.status, &output.stderr).unwrap_or_else(|| Error::Command {
            url: self.url.clone(),
            command,
            how: output.words(),
            try_it: self.line(command),
        })
    }

    /// Explains why git or `hold` could not connect, from its standard error, if that is the reason.
    #[must_use]
    pub fn explain(&self, stderr: &str) -> Option<Error> {
        let is_reason = ["REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key verification failed"];
        let ssh = self.ssh.as_ref().filter(|_| is_reason.iter().any(|words| stderr.contains(words)))?;
        Some(ssh.explain(&self.url, stderr))
    }

    /// The error for a command of this program that did not respond in time.
    #[must_use]
    pub fn timed_out(&self, command: &'static str, timeout: Duration) -> Error {
        let how = format!("timed out after {}", humantime::format_duration(timeout));
        Error::Command { url: self.url.clone(), command, how, try_it: self.line("status") }
    }

    /// Returns the error for a connection that ssh could not establish, from ssh's exit status and standard error.
    #[must_use]
    pub fn unreachable(&self, status: Option<i32>, stderr: &str) -> Option<Error> {
        let ssh = self.ssh.as_ref().filter(|_| status == Some(CANNOT_CONNECT))?;
        Some(ssh.explain(&self.url, stderr))
    }

    /// The error for a response that cannot be parsed.
    #[must_use]
    pub fn invalid_response(&self, problem: &impl Display) -> Error {
        Error::Response { url: self.url.clone(), problem: message(problem) }
    }

    /// Returns the command line that runs a command of this program on the server, quoted for a shell.
    #[must_use]
    pub fn line(&self, command: &'static str) -> String {
        let path = quoted(&self.path);
        match &self.ssh {
            // Two shells parse what ssh sends: this machine's and the server's.
            Some(ssh) if path == self.path => format!("`{} {command} -C {path}`", ssh.line()),
            Some(ssh) => format!("`{} {}`", ssh.line(), quoted(&format!("{command} -C {path}"))),
            None => format!("`bluegreen -C {path} {command}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_for_a_server_has_its_port_and_is_quoted() {
        let client = Client::find(Some("ssh".into()), None);
        let line =
            |url: &str| Remote::to_push_to(&ServerSpec::Url(url.into()), &client).unwrap().line("status");
        for (url, expected) in [
            ("deploy@blue:app", "`ssh deploy@blue status -C app`"),
            ("ssh://deploy@blue:2222/app", "`ssh -p 2222 deploy@blue status -C /app`"),
            ("deploy@blue:my app", "`ssh deploy@blue \"status -C 'my app'\"`"),
            ("$(id)@blue:app;id", "`ssh '$(id)@blue' \"status -C 'app;id'\"`"),
            ("/srv/my app", "`bluegreen -C '/srv/my app' status`"),
        ] {
            assert_eq!(line(url), expected);
        }
    }
}
