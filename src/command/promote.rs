//! `promote`: sends visitors to the other side.

use std::io::{IsTerminal, stdin};
use std::os::fd::AsFd;
use std::time::Instant;

use bluegreen_text::explain::Explain;
use nix::errno::Errno;
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike};

use super::table::print_json;
use crate::cli::CloneArgs;
use crate::error::{Error, Result};
use bluegreen_client as client;
use bluegreen_client::plan::{Access, PromoteIntent, Topology, named};
use bluegreen_client::promote::{promote, summary, verdict};
use bluegreen_client::ssh::Client;
use bluegreen_client::trust::{self, state_dir};
use bluegreen_process::signals::Stop;
use bluegreen_report::Report;

/// The maximum length of a reply to a prompt, in bytes.
const MAX_ANSWER: usize = 100;

/// Promotes a side. The last line names the public side.
pub fn run(options: &CloneArgs, intent: &PromoteIntent, report: &Report) -> Result<()> {
    let beside;
    let lines = if options.json {
        beside = report.beside_json()?;
        &beside
    } else {
        report
    };
    let topology =
        Topology::open(&access(options), &TerminalPrompt { is_trusted: options.trust, report: lines })?;
    let stop = Stop::catch(false);
    run_promotion(&topology, options, intent, &stop, lines).map_err(|error| {
        lines.error(&error);
        let public = topology.switch.show(None);
        let last = last_line(public.as_ref().ok().map(|public| named(public.as_deref())), &error);
        lines.line(&last);
        let failed = serde_json::json!({
            "public": public.as_ref().ok(), "outcome": "failed", "error": error.to_string(), "hint": error.hint(),
            "summary": last,
        });
        let printed = if options.json { print_json(&failed) } else { Ok(()) };
        printed.err().unwrap_or(Error::Reported(Box::new(error)))
    })
}

/// Reads the client's settings from the environment.
pub fn access(options: &CloneArgs) -> Access<'_> {
    let path = |name| std::env::var_os(name).map(Into::into);
    let state = state_dir(path("XDG_STATE_HOME"), path("HOME"));
    Access { config: options.config.as_deref(), client: ssh_client(), state }
}

/// Finds the user's ssh client as git does.
pub fn ssh_client() -> Client {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Client::find(variable("GIT_SSH_COMMAND"), variable("GIT_SSH"))
}

/// Asks at the terminal whether to trust a clone.
pub struct TerminalPrompt<'a> {
    /// True with `--trust`.
    pub is_trusted: bool,
    /// The output.
    pub report: &'a Report,
}

impl trust::TrustPrompt for TerminalPrompt<'_> {
    fn confirm(&self, what: &[String]) -> client::Result<bool> {
        if self.is_trusted || !stdin().is_terminal() {
            return Ok(self.is_trusted);
        }
        self.report
            .line("The `.promote.toml` of this clone is not trusted yet. With your permissions, it uses:");
        for line in what {
            self.report.line(format_args!("  {line}"));
        }
        self.report.line("Trust it from now on? [y/N]");
        confirm(&Stop::catch(false))
    }
}

fn last_line(public: Option<&str>, error: &Error) -> String {
    let error = if let Error::Client(error) = error { Some(error) } else { None };
    verdict(public, error)
}

fn run_promotion(
    topology: &Topology,
    options: &CloneArgs,
    intent: &PromoteIntent,
    stop: &Stop,
    report: &Report,
) -> Result<()> {
    let started = Instant::now();
    if intent.dry_run {
        let plan = topology.plan(intent, stop, report)?;
        plan.lines().iter().for_each(|line| report.line(line));
        return if options.json { print_json(&plan) } else { Ok(()) };
    }
    let prepared = topology.prepare(intent, stop, report)?;
    let plan = &prepared.plan;
    plan.lines().iter().for_each(|line| report.line(line));
    for reason in &plan.left_out {
        report.warning(format_args!("{reason}: it is neither locked nor marked"));
    }
    if !intent.yes && !plan.is_public() {
        ask(stop, report)?;
    }
    let mut done = promote(topology, prepared, intent, stop, report)?;
    done.summary = summary(&done, started.elapsed());
    report.line(&done.summary);
    if options.json { print_json(&done) } else { Ok(()) }
}

/// Asks for a confirmation at the terminal.
fn ask(stop: &Stop, report: &Report) -> Result<()> {
    if !stdin().is_terminal() {
        return Err(Error::NoTerminal);
    }
    report.line("Go ahead? [y/N]");
    if confirm(stop)? { Ok(()) } else { Err(client::Error::Cancelled.into()) }
}

/// Reads the reply to a prompt. Unlike a plain read, it is interrupted by Ctrl-C.
fn confirm(stop: &Stop) -> client::Result<bool> {
    let failed = |error: Errno| client::Error::io("read", "standard input")(error.into());
    let mut answer = Vec::new();
    while answer.len() < MAX_ANSWER && !answer.ends_with(b"\n") {
        stop.check()?;
        if !has_input().map_err(failed)? {
            continue;
        }
        let mut buffer = [0; MAX_ANSWER];
        match nix::unistd::read(stdin(), &mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(matches!(answer.trim_ascii(), b"y" | b"Y" | b"yes"))
}

/// Waits briefly for standard input, and returns whether it can be read. On macOS, poll(2) does not support terminals.
fn has_input() -> nix::Result<bool> {
    let stdin = stdin();
    let mut wanted = FdSet::new();
    wanted.insert(stdin.as_fd());
    let mut moment = TimeVal::milliseconds(100);
    match select(None, &mut wanted, None, None, &mut moment) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error),
    }
}
