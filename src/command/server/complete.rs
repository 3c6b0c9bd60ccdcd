//! Completions of the releases of a server.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::invocation::Invocation;
use crate::error::Result;
use bluegreen_report::Report;
use bluegreen_server::release::Release;
use bluegreen_server::site::Site;

/// Adds the completions to the command line.
pub fn complete(command: Command, repository: Option<PathBuf>) -> Command {
    let releases = ArgValueCandidates::new(move || releases(repository.as_deref()).unwrap_or_default());
    let (rollback, log) = (releases.clone(), releases);
    command
        .mut_subcommand("rollback", |command| command.mut_arg("release", |arg| arg.add(rollback)))
        .mut_subcommand("log", |command| command.mut_arg("release", |arg| arg.add(log)))
}

/// Returns the repository's releases, newest first, each with its state and subject.
fn releases(repository: Option<&Path>) -> Result<Vec<CompletionCandidate>> {
    let report = Report::quiet()?;
    let called_as = Path::new("bluegreen");
    let server =
        Invocation { repository, called_as, is_hook: false, at_boot: false, role: None }.open(&report)?;
    let releases = Site::open(&server.config.site)?.releases()?;
    let candidate = |(place, release): (usize, &Release)| {
        let subject =
            release.record.as_ref().map(|record| format!(": {}", record.subject)).unwrap_or_default();
        let help = bluegreen_text::escape_controls(&format!("{}{subject}", release.state()));
        CompletionCandidate::new(release.name.to_string()).help(Some(help.into())).display_order(Some(place))
    };
    Ok(releases.iter().rev().enumerate().map(candidate).collect())
}
