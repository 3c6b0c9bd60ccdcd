//! The subcommands. [`run`] chooses one by the program's name and arguments, and returns its exit status.
//! Only this module reads the arguments, the environment, and standard input.

mod adopt;
mod cancel;
mod check;
mod completion;
mod deploy;
mod files;
mod generate;
mod history;
mod hold;
mod hook;
mod invocation;
mod key;
mod ledger;
mod lock;
mod log;
mod log_app;
mod metrics;
mod overview_table;
#[cfg_attr(not(feature = "panel"), path = "no_panel.rs")]
mod panel;
mod path_walk;
mod promote;
mod public;
mod push;
mod releases;
mod resume;
mod rollback;
mod session;
mod shell;
mod status;
pub mod sudo;
mod table;
mod watch;

pub use self::invocation::close_inherited;

use std::ffi::OsString;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::path::PathBuf;

use bluegreen_text::explain::Explain;
use clap::Parser;

use self::invocation::{Invocation, called_by_git};
use self::lock::LockIntent;
use self::session::Runner;
use crate::cli::{Cli, Command, Generated, Hook, LogFormat};
use crate::error::{Error, Result};
use bluegreen_client::plan::PromoteIntent;
use bluegreen_protocol::role::{self, Right, Role};
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
    let is_shell = shell::is_called_as(&called_as);
    if let Err(error) = require_room(START_ROOM) {
        let error = Error::io("start", &called_as)(error);
        Report::new(out, err).colored(is_colored()).error(&error);
        return error.exit_status();
    }
    let parsed = match Hook::called_as(&called_as) {
        Some(hook) if arguments.len() == 1 && (called_by_git() || !stdin().is_terminal()) => {
            Ok(Ok(Cli { repository: None, log_format: LogFormat::Text, command: Command::Hook { hook } }))
        }
        _ if is_shell => shell::take(arguments),
        _ => match completion::answer(arguments) {
            Some(status) => return status,
            None => Ok(Cli::try_parse_from(arguments)),
        },
    };
    let cli = match parsed {
        Ok(Ok(cli)) => cli,
        Ok(Err(error)) => {
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
        Err(error) => {
            Report::new(out, err).colored(is_colored()).error(&error);
            return error.exit_status();
        }
    };
    // The gate speaks a protocol with git on standard output, so its messages go to standard error.
    let is_gate = matches!(cli.command, Command::Hook { hook: Hook::ProcReceive });
    let out = if is_gate { err.try_clone().unwrap_or(out) } else { out };
    let is_hook = matches!(cli.command, Command::Hook { .. });
    let format = match cli.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let report = Report::new(out, err).colored(!is_hook && is_colored()).formatted(format);
    match choose_runner(&cli, arguments) {
        Ok(Runner::Ourselves) => {}
        Ok(Runner::Child(status)) => return status,
        Err(error) => {
            report.error(&error);
            return error.exit_status();
        }
    }
    let invocation = Invocation {
        repository: cli.repository.as_deref(),
        called_as: &called_as,
        for_client: is_hook,
        at_boot: matches!(cli.command, Command::Resume { boot: true }),
        role: if is_shell { shell::role(arguments) } else { role_from_environment() },
    };
    match dispatch(&cli.command, &invocation, &report) {
        Ok(()) => 0,
        Err(error) => {
            if !error.is_reported() {
                report.error(&error);
            }
            error.exit_status()
        }
    }
}

/// Reads the role that the login shell has passed to git and its hooks. One that cannot be read includes nothing.
fn role_from_environment() -> Option<Role> {
    let role = std::env::var_os(role::VARIABLE)?;
    Some(role.to_str().and_then(Role::parse).unwrap_or(Role::Unknown))
}

/// Enters a fresh session before a command reads any file that the deploy user can write. So do `push` and `panel`, to
/// prevent ssh from prompting on the terminal. The other commands of a clone may prompt.
fn choose_runner(cli: &Cli, arguments: &[OsString]) -> Result<Runner> {
    match &cli.command {
        Command::Push { .. } | Command::Panel { .. } => session::leave_terminal(arguments),
        Command::Promote { .. } => Ok(Runner::Ourselves),
        Command::Lock { options, .. } | Command::Unlock(options) if options.side.is_some() => {
            Ok(Runner::Ourselves)
        }
        Command::Public(_) if cli.repository.is_none() => Ok(Runner::Ourselves),
        Command::Generate { what } if !matches!(what, Generated::Settings { .. }) => Ok(Runner::Ourselves),
        _ => session::leave_callers(arguments),
    }
}

/// Returns whether problems are colored: on a terminal, unless `NO_COLOR` or `CLICOLOR` turns colors off or
/// `CLICOLOR_FORCE` turns them on.
fn is_colored() -> bool {
    anstream::AutoStream::choice(&stderr()) != anstream::ColorChoice::Never
}

fn dispatch(command: &Command, invocation: &Invocation, report: &Report) -> Result<()> {
    match command {
        Command::Hook { hook: Hook::PostReceive } => hook::post_receive(invocation, report),
        Command::Hook { hook: Hook::ProcReceive } => hook::proc_receive(invocation, report),
        Command::Deploy { revision, dry_run, no_cache, force } => {
            let mut server = invocation.open(report)?;
            (server.options.no_cache, server.options.force) = (*no_cache, *force);
            deploy::run(&server, revision.as_deref(), *dry_run)
        }
        Command::Rollback { release, force } => {
            let mut server = invocation.open(report)?;
            server.options.force = *force;
            rollback::run(&server, release.as_deref())
        }
        Command::Lock { options, .. } | Command::Unlock(options)
            if options.side.is_some() && invocation.repository.is_some() =>
        {
            Err(Error::Usage("`--side` is for a clone, and `-C` for one server: use one of them".into()))
        }
        Command::Lock { reason, until, force, options } => {
            let intent = LockIntent::parse(reason, until.as_deref(), *force)?;
            match &options.side {
                Some(side) => lock::lock_side(side, options, &intent, report),
                None => lock::lock(&invocation.open(report)?, &intent),
            }
        }
        Command::Unlock(options) => match &options.side {
            Some(side) => lock::unlock_side(side, options, report),
            None => Ok(invocation.open(report)?.unfreeze()?),
        },
        Command::Adopt => adopt::run(&invocation.open(report)?),
        Command::Releases(table) => releases::run(&invocation.open(report)?, table.json),
        Command::Status(table) => status::run(&invocation.open(report)?, table.json),
        Command::History { table, limit } => history::run(&invocation.open(report)?, table.json, *limit),
        Command::Metrics => metrics::run(&invocation.open(report)?),
        Command::Check(table) => check::run(invocation, table.json),
        Command::Log { release, follow, app } => {
            let (server, print) = (invocation.open(report)?, if *app { log_app::run } else { log::run });
            print(&server, release.as_deref(), *follow)
        }
        Command::Hold { protocol } => {
            // The client reads JSON on standard output.
            let beside = report.beside_json()?;
            Ok(hold::run(&invocation.open(&beside)?, *protocol)?)
        }
        Command::Push { push, options } => push::run(push, options, report),
        Command::Public(public) if invocation.repository.is_some() => {
            public::of_server(&invocation.open(report)?, public.options.json)
        }
        Command::Public(public) => {
            // Correcting marks may run the steps in `[public]` of a server.
            let may_change = invocation.role.is_none_or(|role| role.includes(Right::Promote));
            public::run(&public.options, public.watch, may_change, report)
        }
        Command::Promote { side, yes, dry_run, force, options } => {
            let intent = PromoteIntent { side: side.as_deref(), yes: *yes, dry_run: *dry_run, force: *force };
            promote::run(options, &intent, report)
        }
        Command::Panel { panel, config, trust } => panel::run(panel, config.clone(), *trust, report),
        Command::Resume { .. } => resume::run(&invocation.open(report)?),
        Command::Cancel => cancel::run(&invocation.open(report)?),
        Command::Generate { what } => generate::run(what, invocation, report),
    }
}
