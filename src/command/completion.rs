//! Shell completions, including dynamic ones: the sides of a clone, and the releases of a server.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, EnvCompleter};

use super::invocation::Invocation;
use super::session::{self, Runner};
use crate::cli::Cli;
use crate::error::{Error, Result};
use bluegreen_client::config::{PromoteConfig, git};
use bluegreen_report::Report;
use bluegreen_server::release::Release;
use bluegreen_server::site::Site;

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
pub fn answer(arguments: &[OsString]) -> Option<u8> {
    std::env::var_os(VARIABLE)?;
    if arguments.is_empty() {
        return Some(2);
    }
    // The releases are read from files that the deploy user can write.
    match session::leave_callers(arguments) {
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
    let releases = ArgValueCandidates::new(move || releases(repository.as_deref()).unwrap_or_default());
    let sides = || ArgValueCandidates::new(sides);
    let (rollback, log) = (releases.clone(), releases);
    Cli::command()
        .mut_subcommand("rollback", |command| command.mut_arg("release", |arg| arg.add(rollback)))
        .mut_subcommand("log", |command| command.mut_arg("release", |arg| arg.add(log)))
        .mut_subcommand("push", |command| {
            // A modified argument moves behind the others.
            command.mut_arg("side", |arg| arg.index(1).add(sides())).mut_arg("refspecs", |arg| arg.index(2))
        })
        .mut_subcommand("lock", |command| command.mut_arg("side", |arg| arg.add(sides())))
        .mut_subcommand("unlock", |command| command.mut_arg("side", |arg| arg.add(sides())))
        .mut_subcommand("promote", |command| command.mut_arg("side", |arg| arg.add(sides())))
}

/// Returns the repository's releases, newest first, each with its state and subject.
fn releases(repository: Option<&Path>) -> Result<Vec<CompletionCandidate>> {
    let report = Report::quiet()?;
    let called_as = Path::new("bluegreen");
    let server =
        Invocation { repository, called_as, for_client: false, at_boot: false, role: None }.open(&report)?;
    let releases = Site::open(&server.config.site)?.releases()?;
    let candidate = |(place, release): (usize, &Release)| {
        let subject =
            release.record.as_ref().map(|record| format!(": {}", record.subject)).unwrap_or_default();
        let help = bluegreen_text::escape_controls(&format!("{}{subject}", release.state()));
        CompletionCandidate::new(release.name.to_string()).help(Some(help.into())).display_order(Some(place))
    };
    Ok(releases.iter().rev().enumerate().map(candidate).collect())
}

/// Returns the sides of `.promote.toml`, or else the clone's remotes.
fn sides() -> Vec<CompletionCandidate> {
    let remotes = || git(&["remote"]).unwrap_or_default().lines().map(str::to_owned).collect();
    let sides = PromoteConfig::read(None).map(|(config, _)| config.sides.into_keys().collect::<Vec<_>>());
    sides.unwrap_or_else(|_| remotes()).into_iter().map(CompletionCandidate::new).collect()
}
