//! The switch: a program that shows and sets the public side. The exit status of `set` proves nothing, so `show` is
//! run afterwards.

use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::config::{Public, invalid};
use crate::error::{Error, Result};
use crate::program::{self, Output};
use crate::ssh::{self, CANNOT_CONNECT, Client, Ssh};
use crate::switch_program::{Program, check};
use crate::trust::{Subject, TrustPrompt};
use bluegreen_process as process;
use bluegreen_process::signals::Stop;
use bluegreen_text::{MAX_NAME_CHARS, truncated};

/// The timeout of `show`.
const SHOW_TIMEOUT: Duration = Duration::from_secs(30);

/// The additional time for a switch on another machine, in which ssh connects or fails.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The exit status of `timeout` if the time is over.
const TIMED_OUT: i32 = 124;

/// The exit status of `drained` while requests are in flight.
const IN_FLIGHT: i32 = 3;

/// The exit status of a switch that does not support a command.
const NO_SUCH_COMMAND: i32 = 2;

/// The minimum and maximum timeout of `drained`.
const DRAINED_TIMEOUTS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

/// The exit statuses of a shell if a program does not exist or cannot be run.
const NOT_FOUND: [i32; 2] = [126, 127];

/// A switch with its settings.
#[derive(Debug)]
pub struct Switch {
    program: Program,
    /// The machine on which it runs, unless it is this one.
    host: Option<Ssh>,
    within: Duration,
    settings: Vec<(String, String)>,
    /// The settings that must be trusted, as `key = value`.
    sensitive: Vec<String>,
}

/// One call of a switch.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    words: &'a [&'a str],
    /// True if `set` accepts a side that the front end reports as down.
    force: bool,
    timeout: Duration,
}

/// The state of the front end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The public side.
    pub public: Option<String>,
    /// The other side's share of the requests, if it has one.
    pub split: Option<Split>,
}

/// The share of a side that is not public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The side.
    pub side: String,
    /// Its percentage of the requests.
    pub percent: u8,
}

impl Shown {
    /// Parses the output of `show`: the public side, and `weight SIDE PERCENT` if another one has a share.
    fn parse(text: &str) -> Self {
        let text = text.trim();
        let name = |text: &str| (!text.is_empty()).then(|| truncated(text, MAX_NAME_CHARS).into_owned());
        let split = text.split_once('\n').and_then(|(public, line)| {
            let (side, percent) = line.trim().strip_prefix("weight ")?.split_once(' ')?;
            let percent = percent.parse().ok().filter(|percent| *percent <= 100)?;
            Some((public, Split { side: name(side)?, percent }))
        });
        match split {
            Some((public, split)) => {
                Self { public: name(public.trim()), split: Some(split).filter(|split| split.percent > 0) }
            }
            None => Self { public: name(text), split: None },
        }
    }

    /// Returns the percentage of the requests that a side gets.
    #[must_use]
    pub fn percent(&self, side: &str) -> u8 {
        match &self.split {
            Some(split) if split.side == side => split.percent,
            split if self.public.as_deref() == Some(side) => {
                100 - split.as_ref().map_or(0, |split| split.percent)
            }
            _ => 0,
        }
    }
}

impl Display for Shown {
    fn fmt(&self, to: &mut Formatter) -> fmt::Result {
        let public = self.public.as_deref().unwrap_or("no side");
        match &self.split {
            Some(split) => write!(to, "{public}, with {}% for {}", split.percent, split.side),
            None => to.write_str(public),
        }
    }
}

/// The requests in flight at a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    /// This many.
    Requests(u64),
    /// The switch cannot count them.
    Uncountable,
}

impl Switch {
    /// Finds the switch of the config. A relative path starts at the config's folder.
    pub fn new(public: &Public, folder: &Path, sides: &[&str], client: &Client) -> Result<Self> {
        let host = public.host.as_deref().map(|host| host_of(host, client)).transpose()?;
        let program = Program::find(public, folder)?;
        let is_elsewhere = host.is_some() && matches!(program, Program::Own(_));
        let declared = if is_elsewhere { None } else { program.declaration() };
        let mut sensitive = check(public, declared.as_deref(), sides)?;
        if let Some(host) = &public.host {
            sensitive.push(format!("host = {host}"));
            let own = public.switch.as_ref().filter(|_| is_elsewhere);
            sensitive.extend(own.map(|path| format!("switch = {path}")));
        }
        let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let name = |key: &str| format!("SWITCH_{}", key.to_uppercase().replace('-', "_"));
        let settings = public.settings.iter().map(|(key, value)| (name(key), text(value))).collect();
        Ok(Self { program, host, within: public.within, settings, sensitive })
    }

    /// Fails if the switch or one of these commands uses a part of a clone that is not trusted.
    pub fn check_trust(
        &self,
        config: &Path,
        commands: &[String],
        state: Option<&Path>,
        prompt: &dyn TrustPrompt,
    ) -> Result<()> {
        let program = match &self.program {
            // A program of another machine is trusted by its path.
            Program::Own(path) if self.host.is_none() => Some(path.as_path()),
            _ => None,
        };
        Subject { config, program, settings: &self.sensitive, commands }.check(state, prompt)
    }

    /// Returns the public side; `None` if there is none.
    pub fn show(&self, stop: Option<&Stop>) -> Result<Option<String>> {
        Ok(self.shown(stop)?.public)
    }

    /// Returns the public side, and the share of the other one.
    pub fn shown(&self, stop: Option<&Stop>) -> Result<Shown> {
        let output = self.run(Call { words: &["show"], force: false, timeout: SHOW_TIMEOUT }, stop)?;
        Ok(Shown::parse(&output.stdout))
    }

    /// Gives a side that is not public a percentage of the requests. Only its timeout interrupts it.
    pub fn weight(&self, side: &str, percent: u8) -> Result<()> {
        let call =
            Call { words: &["weight", side, &percent.to_string()], force: false, timeout: self.within };
        let output = self.call(call, None)?;
        match output.status {
            Some(0) => Ok(()),
            Some(NO_SUCH_COMMAND) => Err(Error::Canary {
                problem: "the switch cannot give a side a part of the requests, which [canary] needs".into(),
                hint: "use a switch with `weight`, such as haproxy, or remove [canary]",
            }),
            _ => Err(self.failed(call, &output)),
        }
    }

    /// Sets the public side, with `force` even if the front end reports it as down. Only its timeout interrupts it, and
    /// only `show` can tell what it has done.
    pub fn set(&self, side: &str, force: bool) -> Result<()> {
        self.run(Call { words: &["set", side], force, timeout: self.within }, None).map(|_| ())
    }

    /// Returns how many requests are in flight at a side. `remaining` is the time that is left to wait for them.
    pub fn in_flight(&self, side: &str, remaining: Duration, stop: &Stop) -> Result<InFlight> {
        let [min, max] = DRAINED_TIMEOUTS;
        let call = Call { words: &["drained", side], force: false, timeout: remaining.clamp(min, max) };
        let output = self.call(call, Some(stop))?;
        let number = output.stdout.trim().parse::<u64>().ok();
        match (output.status, number) {
            (Some(0), Some(0)) => Ok(InFlight::Requests(0)),
            (Some(IN_FLIGHT), number) => Ok(InFlight::Requests(number.unwrap_or(1).max(1))),
            // A switch that ignores unknown commands would seem to have drained.
            (Some(0 | NO_SUCH_COMMAND), _) => Ok(InFlight::Uncountable),
            _ => Err(self.failed(call, &output)),
        }
    }

    /// Runs the switch and fails if it does.
    fn run(&self, call: Call, stop: Option<&Stop>) -> Result<Output> {
        let output = self.call(call, stop)?;
        if output.is_ok() { Ok(output) } else { Err(self.failed(call, &output)) }
    }

    /// Runs the switch.
    fn call(&self, call: Call, stop: Option<&Stop>) -> Result<Output> {
        match &self.host {
            None => program::run(&mut self.here(call), call.timeout, stop),
            Some(ssh) => {
                let (mut command, input) = self.at_host(ssh, call)?;
                let timeout = call.timeout + CONNECT_TIMEOUT;
                program::run_with_input(&mut command, input.as_bytes(), timeout, stop)
            }
        }
    }

    /// Prepares a call on this machine.
    fn here(&self, call: Call) -> Command {
        let mut command = match &self.program {
            Program::Shipped(name, text) => {
                let mut shell = process::command("sh");
                shell.args(["-c", text, name]);
                shell
            }
            Program::Own(path) => process::command(path),
            // Only another machine has an installed switch.
            Program::Installed => process::command("false"),
        };
        command.args(call.words).envs(self.variables(call));
        command
    }

    /// Prepares a call on another machine, and its standard input. That machine enforces the timeout, because a switch would
    /// survive the end of its connection, and could set a side after this program has gone back. The settings are part of the
    /// input, because all users of that machine can list the arguments of its processes.
    fn at_host(&self, ssh: &Ssh, call: Call) -> Result<(Command, String)> {
        let limit = format!("{:.3}", call.timeout.as_secs_f64());
        let program = match &self.program {
            Program::Shipped(name, text) => vec!["sh", "-c", text, name],
            Program::Own(path) => vec![path.to_str().unwrap_or_default()],
            Program::Installed => return installed(ssh, call),
        };
        let mut input = String::new();
        for (name, value) in self.variables(call) {
            input.extend(["export ", name, "=", &quoted([value])?, "\n"]);
        }
        input.push_str("exec ");
        input.push_str(&quoted(program.into_iter().chain(call.words.iter().copied()))?);
        let line = quoted(["timeout", "-k", "5", &limit, "sh", "-c", "eval \"$(cat)\""])?;
        let mut command = ssh.command();
        command.arg(&ssh.host).arg(line);
        Ok((command, input))
    }

    fn variables<'a>(&'a self, call: Call) -> impl Iterator<Item = (&'a str, &'a str)> {
        let settings = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        settings.chain(call.force.then_some(("SWITCH_FORCE", "1")))
    }

    /// The reason is the output of curl, ssh, or a provider's client before the switch's own error.
    fn failed(&self, call: Call, output: &Output) -> Error {
        let command = call.words.join(" ");
        let hint = output.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).map(program::shorten);
        match (&self.host, output.status) {
            (Some(ssh), Some(CANNOT_CONNECT)) => ssh.explain_machine(&output.stderr),
            (Some(_), Some(TIMED_OUT)) => {
                let limit = humantime::format_duration(call.timeout);
                Error::Switch { command, how: format!("timed out after {limit}"), hint }
            }
            (Some(ssh), Some(status)) if self.is_installed() && NOT_FOUND.contains(&status) => {
                let hint =
                    format!("set `switch` in [public], or run `install.sh --front-end` on {}", ssh.machine());
                Error::Switch { command, how: output.words_with(3), hint: Some(hint) }
            }
            _ => Error::Switch { command, how: output.words_with(3), hint },
        }
    }

    fn is_installed(&self) -> bool {
        matches!(self.program, Program::Installed)
    }
}

/// Parses `[public] host`.
fn host_of(host: &str, client: &Client) -> Result<Ssh> {
    ssh::machine(host, client).ok_or_else(|| {
        let problem = format!("invalid `host`: `{}`", truncated(host, MAX_NAME_CHARS));
        invalid(problem, "write what ssh takes: `ops@lb`, or `ssh://ops@lb:2222`")
    })
}

/// Prepares the short form of a call, for the account on a front end, which has its own switch and settings.
fn installed(ssh: &Ssh, call: Call) -> Result<(Command, String)> {
    let seconds = call.timeout.as_secs_f64().ceil().to_string();
    let force: &[&str] = if call.force { &["--force"] } else { &[] };
    let line = quoted(call.words.iter().chain(force).copied().chain(["--within", &seconds]))?;
    let mut command = ssh.command();
    command.arg(&ssh.host).arg(line);
    Ok((command, String::new()))
}

/// Quotes words for a shell.
fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<String> {
    shlex::try_join(words)
        .map_err(|_| invalid("a setting contains a NUL", "remove it from `[public.settings]`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_shows_a_side_and_the_share_of_another() {
        let shown = |text: &str| {
            let shown = Shown::parse(text);
            (shown.to_string(), shown.percent("blue"), shown.percent("green"))
        };
        assert_eq!(shown("blue\n"), ("blue".into(), 100, 0));
        assert_eq!(shown("blue\nweight green 5\n"), ("blue, with 5% for green".into(), 95, 5));
        assert_eq!(shown("blue\nweight green 0\n"), ("blue".into(), 100, 0));
        assert_eq!(shown(""), ("no side".into(), 0, 0));
        for wrong in ["blue\ngreen", "blue\nweight green 101", "blue\nweight green -1", "blue\nweight green"]
        {
            assert_eq!(Shown::parse(wrong).split, None, "{wrong}");
            assert_eq!(Shown::parse(wrong).public.as_deref(), Some(wrong), "an unknown side");
        }
    }
}
