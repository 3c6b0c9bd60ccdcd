//! Shell completions, including dynamic ones: the sides of a clone, and the releases of a server.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::Command;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, EnvCompleter};

use super::session::Runner;
use super::{command_line, server};
use crate::error::{Error, Result};
use bluegreen_client::config::{PromoteConfig, git};

/// The variable in which a shell that requests completions sets its name.
const VARIABLE: &str = "BLUEGREEN_COMPLETE";

/// Returns the script that registers the completions in a shell.
pub fn registration(shell: &dyn EnvCompleter) -> Result<Vec<u8>> {
    let (mut script, name) = (Vec::new(), "bluegreen");
    shell
        .write_registration(VARIABLE, name, name, name, &mut script)
        .map_err(Error::io("write", "the completions"))?;
    Ok(script)
}

/// Prints completions if a shell requests them, and returns the exit status.
pub fn respond(arguments: &[OsString]) -> Option<u8> {
    std::env::var_os(VARIABLE)?;
    if arguments.is_empty() {
        return Some(2);
    }
    // The releases are read from files that the deploy user can write.
    match server::leave_callers(arguments) {
        Ok(Runner::Ourselves) => {}
        Ok(Runner::Child(status)) => return Some(status),
        Err(_) => return Some(1),
    }
    let repository = repository(arguments);
    let factory = || command(repository.clone());
    let here = std::env::current_dir().ok();
    let completed = CompleteEnv::with_factory(factory).var(VARIABLE).try_complete(arguments, here.as_deref());
    let _ = std::io::stdout().flush();
    Some(u8::from(!completed.is_ok_and(|completed| completed)))
}

/// Returns the value of `-C` on the command line that is being completed.
fn repository(arguments: &[OsString]) -> Option<PathBuf> {
    let after = arguments.iter().skip_while(|word| *word != "-C").nth(1);
    after.filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn command(repository: Option<PathBuf>) -> Command {
    let sides = || ArgValueCandidates::new(sides);
    server::complete(command_line(), repository)
        .mut_subcommand("push", |command| {
            // A modified argument moves behind the others.
            command.mut_arg("side", |arg| arg.index(1).add(sides())).mut_arg("refspecs", |arg| arg.index(2))
        })
        .mut_subcommand("lock", |command| command.mut_arg("side", |arg| arg.add(sides())))
        .mut_subcommand("unlock", |command| command.mut_arg("side", |arg| arg.add(sides())))
        .mut_subcommand("promote", |command| command.mut_arg("side", |arg| arg.add(sides())))
}

/// Returns the sides of `.promote.toml`, or else the clone's remotes.
fn sides() -> Vec<CompletionCandidate> {
    let remotes = || git(&["remote"]).unwrap_or_default().lines().map(str::to_owned).collect();
    let sides = PromoteConfig::read(None).map(|(config, _)| config.sides.into_keys().collect::<Vec<_>>());
    sides.unwrap_or_else(|_| remotes()).into_iter().map(CompletionCandidate::new).collect()
}
