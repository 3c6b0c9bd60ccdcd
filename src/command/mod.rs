//! The subcommands. [`run`] chooses one by the program's name and arguments, and returns its exit status. Only this
//! module reads the arguments, standard input, and, except for `PATH` and `RUST_LOG`, the environment.

mod completion;
mod generate;
mod lock;
#[cfg(all(test, target_os = "linux"))]
#[expect(dead_code, reason = "the tests do not run every function")]
mod no_server;
mod overview_table;
#[cfg_attr(not(feature = "panel"), path = "no_panel.rs")]
mod panel;
mod promote;
mod public;
mod push;
#[cfg_attr(not(target_os = "linux"), path = "no_server.rs")]
mod server;
mod session;
mod table;
mod watch;

pub use self::server::close_inherited;
#[cfg(target_os = "linux")]
pub use self::server::sudo;

use std::ffi::OsString;
use std::io::{stderr, stdout};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use bluegreen_text::explain::Explain;
use clap::{CommandFactory, FromArgMatches};

use self::lock::LockIntent;
use self::session::Runner;
use crate::cli::{Cli, Command, GeneratedFile, Hook, LogFormat, SideArgs};
use crate::error::{Error, Result};
use bluegreen_client::plan::PromoteIntent;
use bluegreen_protocol::role::{Right, Role};
use bluegreen_report::{Format, Report};
use bluegreen_sys::parallel::require_room;

/// The address space, in bytes, that must be free at the start. A deployment of 20 files takes about 2 MiB of it.
const START_ROOM: u64 = 4 << 20;

/// Runs the program and returns its exit status.
#[must_use]
pub fn run(arguments: &[OsString]) -> u8 {
    // The web server must be able to read releases, whatever the caller's umask is.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let called_as = arguments.first().map(PathBuf::from).unwrap_or_default();
    // Make the path absolute before the working directory changes.
    let called_as = std::path::absolute(&called_as).unwrap_or(called_as);
    let (Ok(out), Ok(err)) = (stdout().as_fd().try_clone_to_owned(), stderr().as_fd().try_clone_to_owned())
    else {
        return 1;
    };
    let has_room = require_room(START_ROOM).map_err(Error::io("start", &called_as));
    match has_room.and_then(|()| parse(&called_as, arguments)) {
        Ok(ControlFlow::Continue(cli)) => {
            let report = report(&cli, out, err);
            execute(&cli, &called_as, arguments, &report).unwrap_or_else(|error| {
                if !error.is_reported() {
                    report.error(&error);
                }
                error.exit_status()
            })
        }
        Ok(ControlFlow::Break(status)) => status,
        Err(error) => {
            Report::new(out, err).colored(is_colored()).error(&error);
            error.exit_status()
        }
    }
}

/// Parses the arguments. Breaks with the exit status if that was all: help, a usage error, or a completion.
fn parse(called_as: &Path, arguments: &[OsString]) -> Result<ControlFlow<u8, Cli>> {
    let parsed = match server::parse(called_as, arguments) {
        Some(parsed) => parsed?,
        None => match completion::respond(arguments) {
            Some(status) => return Ok(ControlFlow::Break(status)),
            None => parse_arguments(arguments),
        },
    };
    Ok(match parsed {
        Ok(cli) => ControlFlow::Continue(cli),
        Err(error) => {
            let _ = error.print();
            ControlFlow::Break(if error.use_stderr() { 2 } else { 0 })
        }
    })
}

/// Creates the report of a command.
fn report(cli: &Cli, out: OwnedFd, err: OwnedFd) -> Report {
    // The gate speaks a protocol with git on standard output, so its messages go to standard error.
    let is_gate = matches!(cli.command, Command::Hook { hook: Hook::ProcReceive });
    let out = if is_gate { err.try_clone().unwrap_or(out) } else { out };
    let is_hook = matches!(cli.command, Command::Hook { .. });
    let format = match cli.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    Report::new(out, err).colored(!is_hook && is_colored()).formatted(format)
}

/// Executes a command, in this process or in a child process. Returns the exit status.
fn execute(cli: &Cli, called_as: &Path, arguments: &[OsString], report: &Report) -> Result<u8> {
    match choose_runner(cli, arguments)? {
        Runner::Child(status) => Ok(status),
        Runner::Ourselves => {
            dispatch(cli, called_as, server::role(called_as, arguments), report)?;
            Ok(0)
        }
    }
}

/// Returns the command line of this build.
fn command_line() -> clap::Command {
    server::command_line(Cli::command())
}

fn parse_arguments(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = command_line();
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Enters a fresh session before a command reads any file that the deploy user can write. `push` and `panel` enter one
/// as well, so that ssh cannot prompt on the terminal. The other commands of a clone may prompt.
fn choose_runner(cli: &Cli, arguments: &[OsString]) -> Result<Runner> {
    match &cli.command {
        Command::Push { .. } | Command::Panel { .. } => session::leave_terminal(arguments),
        Command::Promote { .. } => Ok(Runner::Ourselves),
        Command::Lock { options, .. } | Command::Unlock(options) if options.side.is_some() => {
            Ok(Runner::Ourselves)
        }
        Command::Public(_) if cli.repository.is_none() => Ok(Runner::Ourselves),
        Command::Generate { what } if !matches!(what, GeneratedFile::Settings { .. }) => {
            Ok(Runner::Ourselves)
        }
        _ => server::leave_callers(arguments),
    }
}

/// Returns whether problems are colored: on a terminal, unless `NO_COLOR` or `CLICOLOR` turns colors off or
/// `CLICOLOR_FORCE` turns them on.
fn is_colored() -> bool {
    anstream::AutoStream::choice(&stderr()) != anstream::ColorChoice::Never
}

/// Runs a command of a clone, or passes a command of a server on.
fn dispatch(cli: &Cli, called_as: &Path, role: Option<Role>, report: &Report) -> Result<()> {
    match &cli.command {
        Command::Lock { options, .. } | Command::Unlock(options)
            if options.side.is_some() && cli.repository.is_some() =>
        {
            Err(Error::Usage("`--side` is for a clone, and `-C` for one server: use one of them".into()))
        }
        Command::Lock { reason, until, force, options: options @ SideArgs { side: Some(side), .. } } => {
            let intent = LockIntent::parse(reason, until.as_deref(), *force)?;
            lock::lock_side(side, options, &intent, report)
        }
        Command::Unlock(options @ SideArgs { side: Some(side), .. }) => {
            lock::unlock_side(side, options, report)
        }
        Command::Push { push, options } => push::run(push, options, report),
        Command::Public(public) if cli.repository.is_none() => {
            // Correcting marks may run the steps in `[public]` of a server.
            let may_change = role.is_none_or(|role| role.includes(Right::Promote));
            public::run(&public.options, public.watch, may_change, report)
        }
        Command::Promote { side, yes, dry_run, force, options } => {
            let intent = PromoteIntent { side: side.as_deref(), yes: *yes, dry_run: *dry_run, force: *force };
            promote::run(options, &intent, report)
        }
        Command::Panel { panel, config, trust } => panel::run(panel, config.clone(), *trust, report),
        Command::Generate { what } if generate::run(what)? => Ok(()),
        _ => server::run(cli, called_as, role, report),
    }
}
