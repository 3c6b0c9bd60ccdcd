//! The commands of a server, which need Linux. A build for another system has `no_server.rs` instead.

mod adopt;
mod cancel;
mod check;
mod complete;
mod deploy;
mod files;
mod generate;
mod git_shell;
mod history;
mod hold;
mod hook;
mod invocation;
mod key;
mod keyring;
mod ledger;
mod log;
mod log_app;
mod metrics;
mod path_walk;
mod public;
mod releases;
mod resume;
mod rollback;
mod shell;
mod status;
pub mod sudo;

pub use self::complete::complete;
pub use self::invocation::close_inherited;
pub use self::keyring::leave_callers;

use std::ffi::OsString;
use std::io::{IsTerminal, stdin};
use std::path::Path;

use clap::Command as CommandLine;

use self::invocation::{Invocation, called_by_git};
use super::lock::LockIntent;
use crate::cli::{Cli, Command, Hook, LogFormat};
use crate::error::{Error, Result};
use bluegreen_git as git;
use bluegreen_protocol::role::{self, Role};
use bluegreen_report::Report;

impl From<git::Error> for Error {
    fn from(error: git::Error) -> Self {
        Self::Server(error.into())
    }
}

/// Returns the command line as it is: this build has every command.
pub fn command_line(all: CommandLine) -> CommandLine {
    all
}

/// Returns the command of a program that was called as a hook or as a login shell; [`None`] if its arguments decide.
pub fn parse(called_as: &Path, arguments: &[OsString]) -> Option<Result<Result<Cli, clap::Error>>> {
    match Hook::called_as(called_as) {
        Some(hook) if arguments.len() == 1 && (called_by_git() || !stdin().is_terminal()) => {
            let command = Command::Hook { hook };
            Some(Ok(Ok(Cli { repository: None, log_format: LogFormat::Text, command })))
        }
        _ => shell::is_called_as(called_as).then(|| shell::take(arguments)),
    }
}

/// Returns the role of the ssh key, if it is restricted.
pub fn role(called_as: &Path, arguments: &[OsString]) -> Option<Role> {
    if shell::is_called_as(called_as) { shell::role(arguments) } else { role_from_environment() }
}

/// Reads the role that the login shell has passed to git and its hooks. One that cannot be read includes nothing.
fn role_from_environment() -> Option<Role> {
    let role = std::env::var_os(role::VARIABLE)?;
    Some(role.to_str().and_then(Role::parse).unwrap_or(Role::Unknown))
}

/// Runs a command of a server.
pub fn run(cli: &Cli, called_as: &Path, role: Option<Role>, report: &Report) -> Result<()> {
    let invocation = Invocation {
        repository: cli.repository.as_deref(),
        called_as,
        is_hook: matches!(cli.command, Command::Hook { .. }),
        at_boot: matches!(cli.command, Command::Resume { boot: true }),
        role,
    };
    match &cli.command {
        Command::Hook { hook: Hook::PostReceive } => hook::post_receive(&invocation, report),
        Command::Hook { hook: Hook::ProcReceive } => hook::proc_receive(&invocation, report),
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
        Command::Lock { reason, until, force, .. } => {
            let intent = LockIntent::parse(reason, until.as_deref(), *force)?;
            Ok(invocation.open(report)?.freeze(&intent.reason, intent.until, intent.replace)?)
        }
        Command::Unlock(_) => Ok(invocation.open(report)?.unfreeze()?),
        Command::Adopt => adopt::run(&invocation.open(report)?),
        Command::Releases(table) => releases::run(&invocation.open(report)?, table.json),
        Command::Status(table) => status::run(&invocation.open(report)?, table.json),
        Command::History { table, limit } => history::run(&invocation.open(report)?, table.json, *limit),
        Command::Metrics => metrics::run(&invocation.open(report)?),
        Command::Check(table) => check::run(&invocation, table.json),
        Command::Log { release, follow, app } => {
            let (server, print) = (invocation.open(report)?, if *app { log_app::run } else { log::run });
            print(&server, release.as_deref(), *follow)
        }
        Command::Hold { protocol, standby } => hold::run(&invocation, *protocol, *standby, report),
        Command::Public(public) => public::run(&invocation.open(report)?, public.options.json),
        Command::Resume { .. } => resume::run(&invocation.open(report)?),
        Command::Cancel => cancel::run(&invocation.open(report)?),
        Command::Generate { what } => generate::run(what, &invocation, report),
        Command::Push { .. } | Command::Promote { .. } | Command::Panel { .. } => {
            Err(Error::Usage("this command runs in a clone".into()))
        }
    }
}
