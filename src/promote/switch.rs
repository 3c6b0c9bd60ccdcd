//! The switch: a program that shows and sets the public side. The exit status of `set` proves nothing, so
//! `show` is asked afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::config::{Public, wrong};
use super::program;
use crate::error::{Error, Result};
use crate::run::signals::Stop;

const SHIPPED: [(&str, &str); 7] = [
    ("address", include_str!("../../share/switches/address")),
    ("aws", include_str!("../../share/switches/aws")),
    ("caddy", include_str!("../../share/switches/caddy")),
    ("digitalocean", include_str!("../../share/switches/digitalocean")),
    ("haproxy", include_str!("../../share/switches/haproxy")),
    ("hetzner", include_str!("../../share/switches/hetzner")),
    ("nginx", include_str!("../../share/switches/nginx")),
];

/// The time in which `show` must answer.
const SHOW: Duration = Duration::from_secs(30);

/// A switch with its settings.
#[derive(Debug)]
pub struct Switch {
    program: Program,
    within: Duration,
    settings: Vec<(String, String)>,
}

#[derive(Debug)]
enum Program {
    Shipped(&'static str, &'static str),
    Own(PathBuf),
}

impl Switch {
    /// Finds the switch of the config; a relative path is one from the config's folder.
    pub fn new(public: &Public, folder: &Path) -> Result<Self> {
        let shipped = SHIPPED.iter().find(|(name, _)| *name == public.switch);
        let program = match shipped {
            Some((name, text)) => Program::Shipped(name, text),
            None if public.switch.contains('/') => {
                let path = folder.join(&public.switch);
                Program::Own(path.canonicalize().unwrap_or(path))
            }
            None => {
                let names = SHIPPED.map(|(name, _)| name).join(", ");
                return Err(wrong(
                    format!("there is no switch `{}`", public.switch),
                    format!("it is one of {names}, or a path with a slash"),
                ));
            }
        };
        let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let name = |key: &str| format!("SWITCH_{}", key.to_uppercase().replace('-', "_"));
        let settings = public.settings.iter().map(|(key, value)| (name(key), text(value))).collect();
        Ok(Self { program, within: public.within, settings })
    }

    /// Asks for the public side; `None` where none is.
    pub fn show(&self, stop: Option<&Stop>) -> Result<Option<String>> {
        let output = program::run(self.command().arg("show"), SHOW, stop)?;
        if !output.is_ok() {
            return Err(failed("show", &output));
        }
        let side = output.stdout.trim();
        Ok((!side.is_empty()).then(|| bluegreen_text::escape_controls(side)))
    }

    /// Sets the public side, one that is down too where somebody insists. Nothing interrupts it but its limit;
    /// whatever it did, only `show` knows.
    pub fn set(&self, side: &str, force: bool) -> Result<()> {
        let mut command = self.command();
        if force {
            command.env("SWITCH_FORCE", "1");
        }
        let output = program::run(command.args(["set", side]), self.within, None)?;
        if output.is_ok() { Ok(()) } else { Err(failed(&format!("set {side}"), &output)) }
    }

    fn command(&self) -> Command {
        let mut command = match &self.program {
            Program::Shipped(name, text) => {
                let mut shell = program::command("sh");
                shell.arg("-c").arg(text).arg(name);
                shell
            }
            Program::Own(path) => program::command(&path.to_string_lossy()),
        };
        command.envs(self.settings.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// The reason is what curl, ssh or a provider's client said before the switch itself did.
fn failed(what: &str, output: &program::Output) -> Error {
    let hint = output.stderr.lines().find_map(|line| line.strip_prefix("hint: "));
    Error::Promotion {
        problem: format!("the switch's `{what}` {}", output.words_with(3)),
        hint: hint.unwrap_or("run the switch by hand, as docs/reference/switches.md shows").to_owned(),
    }
}
