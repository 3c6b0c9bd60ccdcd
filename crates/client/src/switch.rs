//! The switch: a program that shows and sets the public side. The exit status of `set` proves nothing, so `show` is
//! run afterwards.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::config::{Public, invalid};
use crate::error::{Error, Result};
use crate::program::{self, Output};
use crate::ssh::{self, CANNOT_CONNECT, Client, Ssh};
use crate::trust::{Judge, Subject};
use bluegreen_process as process;
use bluegreen_process::signals::Stop;
use bluegreen_text::{MAX_NAME_CHARS, truncated};

const SHIPPED: [(&str, &str); 8] = [
    ("address", include_str!("../switches/address")),
    ("apache", include_str!("../switches/apache")),
    ("aws", include_str!("../switches/aws")),
    ("caddy", include_str!("../switches/caddy")),
    ("digitalocean", include_str!("../switches/digitalocean")),
    ("haproxy", include_str!("../switches/haproxy")),
    ("hetzner", include_str!("../switches/hetzner")),
    ("nginx", include_str!("../switches/nginx")),
];

/// The timeout of `show`.
const SHOW_TIMEOUT: Duration = Duration::from_secs(30);

/// The additional time for a switch at another machine, in which ssh connects, or notices that it cannot.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The status of `timeout` if the time is up.
const TIMED_OUT: i32 = 124;

/// The comment by which a switch declares its settings: names, `SIDE` for the name of each side, and a `!` after those
/// that name a file to write or a host that receives secrets.
const DECLARATION: &str = "# settings: ";

/// The bytes at the beginning of a program in which a declaration is looked for.
const MAX_HEADER: u64 = 4096;

/// A switch with its settings.
#[derive(Debug)]
pub struct Switch {
    program: Program,
    /// The machine on which it runs, unless it is this one.
    host: Option<Ssh>,
    within: Duration,
    settings: Vec<(String, String)>,
    /// The settings that have to be trusted, as `key = value`.
    sensitive: Vec<String>,
}

#[derive(Debug)]
enum Program {
    Shipped(&'static str, &'static str),
    Own(PathBuf),
}

impl Switch {
    /// Finds the switch of the config. A relative path starts at the config's folder.
    pub fn new(public: &Public, folder: &Path, sides: &[&str], client: &Client) -> Result<Self> {
        let host = public.host.as_deref().map(|host| host_of(host, client)).transpose()?;
        let shipped = SHIPPED.iter().find(|(name, _)| *name == public.switch);
        let program = match shipped {
            Some((name, text)) => Program::Shipped(name, text),
            None if host.is_some() && public.switch.starts_with('/') => {
                Program::Own(PathBuf::from(&public.switch))
            }
            None if host.is_some() && public.switch.contains('/') => {
                return Err(invalid(
                    "with `host`, the path of a switch must begin with a slash",
                    "write the path of the program on that machine",
                ));
            }
            None if public.switch.contains('/') => {
                let path = folder.join(&public.switch);
                Program::Own(path.canonicalize().unwrap_or(path))
            }
            None => {
                let names = SHIPPED.map(|(name, _)| name).join(", ");
                return Err(invalid(
                    format!("unknown switch `{}`", truncated(&public.switch, MAX_NAME_CHARS)),
                    format!("use one of {names}, or a path with a slash"),
                ));
            }
        };
        let is_elsewhere = host.is_some() && shipped.is_none();
        let declared = if is_elsewhere { None } else { program.declaration() };
        let mut sensitive = check(public, declared.as_deref(), sides)?;
        if let Some(host) = &public.host {
            sensitive.push(format!("host = {}", truncated(host, MAX_NAME_CHARS)));
            let own = is_elsewhere.then(|| format!("switch = {}", truncated(&public.switch, MAX_NAME_CHARS)));
            sensitive.extend(own);
        }
        let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let name = |key: &str| format!("SWITCH_{}", key.to_uppercase().replace('-', "_"));
        let settings = public.settings.iter().map(|(key, value)| (name(key), text(value))).collect();
        Ok(Self { program, host, within: public.within, settings, sensitive })
    }

    /// Fails if the switch or one of these commands uses something of a clone that is not trusted.
    pub fn check_trust(
        &self,
        config: &Path,
        commands: &[String],
        state: Option<&Path>,
        judge: &dyn Judge,
    ) -> Result<()> {
        let program = match &self.program {
            // A program of another machine is trusted by its path.
            Program::Own(path) if self.host.is_none() => Some(path.as_path()),
            _ => None,
        };
        Subject { config, program, settings: &self.sensitive, commands }.check(state, judge)
    }

    /// Returns the public side; `None` if there is none.
    pub fn show(&self, stop: Option<&Stop>) -> Result<Option<String>> {
        let output = self.run(&["show"], false, SHOW_TIMEOUT, stop)?;
        let side = output.stdout.trim();
        Ok((!side.is_empty()).then(|| truncated(side, MAX_NAME_CHARS).into_owned()))
    }

    /// Sets the public side, with `force` even if the front end reports it as down. Only its timeout interrupts it, and
    /// only `show` can tell what it has done.
    pub fn set(&self, side: &str, force: bool) -> Result<()> {
        self.run(&["set", side], force, self.within, None).map(|_| ())
    }

    /// Runs the switch and fails if it does.
    fn run(&self, words: &[&str], force: bool, timeout: Duration, stop: Option<&Stop>) -> Result<Output> {
        let settings = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let variables: Vec<_> = settings.chain(force.then_some(("SWITCH_FORCE", "1"))).collect();
        let program = match &self.program {
            Program::Shipped(name, text) => vec!["sh", "-c", text, name],
            Program::Own(path) => vec![path.to_str().unwrap_or_default()],
        };
        let line = [&program[..], words].concat();
        let (mut command, timeout) = if let Some(ssh) = &self.host {
            (at_host(ssh, &variables, &line, timeout)?, timeout + CONNECT_TIMEOUT)
        } else {
            let mut command = match &self.program {
                Program::Shipped(..) => process::command("sh"),
                Program::Own(path) => process::command(path),
            };
            command.args(&line[1..]).envs(variables);
            (command, timeout)
        };
        let output = program::run(&mut command, timeout, stop)?;
        if output.is_ok() {
            return Ok(output);
        }
        let error = match &self.host {
            Some(ssh) if output.status == Some(CANNOT_CONNECT) => ssh.explain_machine(&output.stderr),
            Some(_) if output.status == Some(TIMED_OUT) => {
                let limit = humantime::format_duration(timeout.saturating_sub(CONNECT_TIMEOUT));
                Error::Switch {
                    command: words.join(" "),
                    how: format!("timed out after {limit}"),
                    hint: None,
                }
            }
            _ => failed(words.join(" "), &output),
        };
        Err(error)
    }
}

/// Parses `[public] host`.
fn host_of(host: &str, client: &Client) -> Result<Ssh> {
    ssh::machine(host, client).ok_or_else(|| {
        let problem = format!("invalid `host`: `{}`", truncated(host, MAX_NAME_CHARS));
        invalid(problem, "write what ssh takes: `ops@lb`, or `ssh://ops@lb:2222`")
    })
}

/// Prepares a command at another machine. That machine enforces the timeout, because a switch would survive the end of
/// its connection, and could set a side after this program has gone back.
fn at_host(ssh: &Ssh, variables: &[(&str, &str)], line: &[&str], timeout: Duration) -> Result<Command> {
    let limit = format!("{:.3}", timeout.as_secs_f64());
    let variables: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let words = ["timeout", "-k", "5", limit.as_str(), "env"].into_iter();
    let words = words.chain(variables.iter().map(String::as_str)).chain(line.iter().copied());
    let line = shlex::try_join(words)
        .map_err(|_| invalid("a setting contains a NUL", "remove it from `[public.settings]`"))?;
    let mut command = ssh.command();
    command.arg(&ssh.host).arg(line);
    Ok(command)
}

impl Program {
    /// Returns the settings that the switch declares; `None` if a program of the user's own declares none.
    fn declaration(&self) -> Option<String> {
        let text = match self {
            Self::Shipped(_, text) => (*text).to_owned(),
            Self::Own(path) => {
                let mut header = Vec::new();
                File::open(path).ok()?.take(MAX_HEADER).read_to_end(&mut header).ok()?;
                String::from_utf8_lossy(&header).into_owned()
            }
        };
        text.lines().find_map(|line| line.strip_prefix(DECLARATION)).map(str::to_owned)
    }
}

/// Checks the settings against what the switch declares; returns those that have to be trusted.
fn check(public: &Public, declared: Option<&str>, sides: &[&str]) -> Result<Vec<String>> {
    let is_name = |key: &str| {
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let mut known: Vec<(&str, bool)> = Vec::new();
    for word in declared.unwrap_or_default().split_whitespace() {
        match word.strip_suffix('!') {
            Some(name) => known.push((name, true)),
            None if word == "SIDE" => known.extend(sides.iter().map(|side| (*side, false))),
            None => known.push((word, false)),
        }
    }
    let mut sensitive = Vec::new();
    for (key, value) in &public.settings {
        let found = known.iter().find(|(name, _)| name == key);
        // A switch of the user's own that declares nothing takes everything, except what `--force` stands for.
        if !is_name(key) || key == "force" || (declared.is_some() && found.is_none()) {
            let problem = format!(
                "unknown setting `{}` of the switch `{}`",
                truncated(key, MAX_NAME_CHARS),
                public.switch
            );
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let hint = if names.is_empty() {
                "use lower-case letters, digits, and hyphens".into()
            } else {
                format!("`[public.settings]` takes {}", names.join(", "))
            };
            return Err(invalid(problem, hint));
        }
        let text = value.to_string();
        if text.contains('\0') || value.as_str().is_some_and(|text| text.contains('\0')) {
            return Err(invalid(format!("the setting `{key}` contains a NUL"), "remove it"));
        }
        if found.is_some_and(|(_, is_sensitive)| *is_sensitive) {
            sensitive.push(format!("{key} = {}", truncated(&text, MAX_NAME_CHARS)));
        }
    }
    Ok(sensitive)
}

/// The reason is what curl, ssh or a provider's client printed before the switch's own error.
fn failed(command: String, output: &Output) -> Error {
    let hint = output.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).map(program::shorten);
    Error::Switch { command, how: output.words_with(3), hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bluegreen_text::explain::Explain;

    fn public(switch: &str, settings: &str) -> Public {
        let text = format!("url = 'http://x/'\nswitch = '{switch}'\n[settings]\n{settings}\n");
        toml::from_str(&text).unwrap()
    }

    fn client() -> Client {
        Client::find(Some("ssh".into()), None)
    }

    fn problem(switch: &str, settings: &str) -> String {
        let switch =
            Switch::new(&public(switch, settings), Path::new("/nowhere"), &["blue", "green"], &client());
        let error = switch.err().map(|error| format!("{error}; {}", error.hint().unwrap()));
        error.unwrap_or_default()
    }

    #[test]
    fn every_shipped_switch_declares_its_settings() {
        for (name, text) in SHIPPED {
            let declared = Program::Shipped(name, text).declaration().unwrap();
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                for (at, _) in line.match_indices("${SWITCH_") {
                    let key = line[at + 9..].split(['-', ':', '}']).next().unwrap();
                    let key = key.to_lowercase().replace('_', "-");
                    let is_known = declared.split(' ').any(|word| word.trim_end_matches('!') == key);
                    assert!(is_known || key == "force", "{name}: {key}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_setting_is_an_error_that_lists_the_known_ones() {
        assert_eq!(
            problem("haproxy", "sockett = '/run/x'"),
            "unknown setting `sockett` of the switch `haproxy`; `[public.settings]` takes socket, master, map, key"
        );
        assert_eq!(problem("haproxy", "socket = '/run/x'\nkey = 'a'"), "");
        assert_eq!(problem("hetzner", "floating-ip = 1\nblue = 2\ngreen = 3"), "");
        assert!(problem("hetzner", "red = 2").contains("blue, green"));
        assert_eq!(problem("./own", "anything = 1"), "");
        for key in ["force = 1", "\"a=b\" = 1", "\"\" = 1"] {
            assert!(problem("./own", key).starts_with("unknown setting"), "{key}");
        }
        assert!(problem("./own", "a = \"\\u0000\"").contains("contains a NUL"));
    }

    #[test]
    fn settings_that_write_files_or_receive_secrets_need_trust() {
        let sensitive = |switch: &str, settings: &str| {
            Switch::new(&public(switch, settings), Path::new("/"), &["blue", "green"], &client())
                .unwrap()
                .sensitive
        };
        assert_eq!(sensitive("hetzner", "api = 'https://evil'\nblue = 1"), ["api = \"https://evil\""]);
        assert_eq!(sensitive("nginx", "flag = '/home/me/.ssh-is-green'").len(), 1);
        assert_eq!(sensitive("haproxy", "map = '/etc/passwd'").len(), 1);
        assert!(sensitive("haproxy", "socket = '/run/x'").is_empty());
    }
}
