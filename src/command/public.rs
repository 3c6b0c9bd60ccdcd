//! `public`: prints which side is public and what both sides serve.

use std::time::Duration;

use super::overview_table::{HEADING, cells, interrupted_canary, lock_lines};
use super::promote::{TerminalPrompt, access};
use super::table::{print_json, print_rows};
use super::watch;
use crate::cli::CloneArgs;
use crate::error::Result;
use bluegreen_client as client;
use bluegreen_client::overview::{Overview, Row};
use bluegreen_client::plan::Topology;
use bluegreen_process::signals::Stop;
use bluegreen_report::Report;

/// Prints a row for each server. If `may_change` is true, corrects the marks that an interrupted promotion left.
pub fn run(options: &CloneArgs, watch: Option<u64>, may_change: bool, report: &Report) -> Result<()> {
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
    if let Some(seconds) = watch {
        return watch::run(&topology, Duration::from_secs(seconds), &stop);
    }
    let overview = Overview::read(&topology, &stop, lines)?;
    for server in &overview.states {
        for pending in &server.status.pending {
            lines.warning(format_args!("{}: {}", server.status.server, pending.message));
            if let (Some(remote), Some(command)) = (topology.server(&server.url), pending.known_command()) {
                lines.hint(remote.line(command));
            }
        }
    }
    if may_change {
        overview.correct_marks(&topology, &stop, lines)?;
    }
    for side in topology.sides.keys().filter(|side| overview.differs(side)) {
        lines.warning(format_args!("the servers of {side} serve different commits"));
    }
    print(&overview.rows, options.json)?;
    for line in lock_lines(&overview.states) {
        lines.warning(line);
    }
    if let Some((line, hint)) = interrupted_canary(&overview) {
        lines.warning(line);
        lines.hint(hint);
    }
    // The last error is printed by the caller.
    let mut errors: Vec<client::Error> = overview.failed.into_iter().map(|failed| failed.error).collect();
    let last = errors.pop();
    for error in &errors {
        report.error(error);
    }
    last.map_or(Ok(()), |error| Err(error.into()))
}

fn print(rows: &[Row], json: bool) -> Result<()> {
    if json {
        return print_json(&rows);
    }
    print_rows(&std::iter::once(HEADING.map(String::from)).chain(rows.iter().map(cells)).collect::<Vec<_>>())
}
