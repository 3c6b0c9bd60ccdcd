//! `public`: prints which side is public and what both sides serve; on a server, prints its own mark.

use std::collections::BTreeMap;

use bluegreen_text::{age, escape_controls};

use super::promote::{Judge, access};
use super::table::{print_json, print_rows, print_text};
use crate::cli::Promotable;
use crate::error::Result;
use bluegreen_client as client;
use bluegreen_client::overview::{Overview, Row};
use bluegreen_client::plan::{ServerStatus, Topology, named};
use bluegreen_client::switch::Split;
use bluegreen_process::signals::Stop;
use bluegreen_protocol::freeze::Freeze;
use bluegreen_report::Report;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::site::Site;
use bluegreen_text::{MAX_NAME_CHARS, truncated};

/// The maximum length of a commit's subject in the table, in characters.
const MAX_SUBJECT: usize = 50;

/// Prints a row for each server, and corrects the marks that an interrupted promotion left.
pub fn run(options: &Promotable, report: &Report) -> Result<()> {
    let beside;
    let lines = if options.json {
        beside = report.beside_json()?;
        &beside
    } else {
        report
    };
    let topology = Topology::open(&access(options), &Judge { is_trusted: options.trust, report: lines })?;
    let stop = Stop::catch(false);
    let overview = Overview::read(&topology, &stop, lines)?;
    for server in &overview.states {
        for pending in &server.status.pending {
            lines.warning(format_args!("{}: {}", server.status.server, pending.message));
            if let Some(remote) = topology.server(&server.url) {
                lines.hint(remote.line(&pending.command));
            }
        }
    }
    overview.correct_marks(&topology, &stop, lines)?;
    for side in topology.sides.keys().filter(|side| overview.differs(side)) {
        lines.warning(format_args!("the servers of {side} serve different commits"));
    }
    print(&overview.rows, options.json)?;
    report_locks(&overview.states, lines);
    report_split(&overview, lines);
    // The last error is printed by the caller.
    let mut errors: Vec<client::Error> = overview.failed.into_iter().map(|failed| failed.error).collect();
    let last = errors.pop();
    for error in &errors {
        report.error(error);
    }
    last.map_or(Ok(()), |error| Err(error.into()))
}

/// Reports a canary that nothing runs: one that runs locks the servers.
fn report_split(overview: &Overview, report: &Report) {
    let Some(split) = &overview.split else { return };
    if overview.states.iter().any(|server| server.status.running.is_some()) {
        return;
    }
    let (Split { side, percent }, public) = (split, named(overview.public.as_deref()));
    report.warning(format_args!("{side} gets {percent}% of the requests: a canary was interrupted"));
    report
        .hint(format_args!("`bluegreen promote {public}` ends it; `bluegreen promote {side}` runs it again"));
}

/// Reports the servers that an operator has locked. Servers of a side with the same lock share a line.
fn report_locks(states: &[ServerStatus], report: &Report) {
    let mut locks: BTreeMap<(&str, String), Vec<(&str, &Freeze)>> = BTreeMap::new();
    for ServerStatus { side, status, .. } in states {
        if let Some(lock) = &status.lock {
            let servers = locks.entry((side, format!("{} {}", lock.by, lock.what()))).or_default();
            servers.push((&status.server, lock));
        }
    }
    for ((side, _), servers) in locks {
        let Some((first, lock)) = servers.first() else { continue };
        match servers.len() {
            1 => report.warning(format_args!("{first} is {lock}")),
            several => report.warning(format_args!("{several} servers of {side} are {lock}")),
        }
    }
}

/// Prints the mark of one server. Only a clone can ask the front end.
pub fn of_server(server: &DeployContext, json: bool) -> Result<()> {
    let site = Site::open(&server.config.site)?;
    let (mark, lock) = (site.public_mark()?, site.freeze()?);
    if json {
        return print_json(&serde_json::json!({
            "server": server.name,
            "public": mark.as_ref().map(|mark| mark.public),
            "since": mark.as_ref().map(|mark| &mark.since),
            "lock": lock,
        }));
    }
    let name = &server.name;
    let mut lines = vec![match mark {
        Some(mark) => {
            let age = age(&mark.since).map(|age| format!(" ({age})")).unwrap_or_default();
            let not = if mark.public { "" } else { "not " };
            escape_controls(&format!("{name} is {not}public, since {}{age}", mark.since))
        }
        None => format!("{name} was not part of a promotion yet"),
    }];
    lines.extend(lock.map(|lock| escape_controls(&format!("{name} is {lock}"))));
    print_text(&lines.join("\n"))
}

fn print(rows: &[Row], json: bool) -> Result<()> {
    if json {
        return print_json(&rows);
    }
    let heading = ["SIDE", "SERVER", "PUBLIC", "COMMIT", "SUBJECT", "SINCE", "HEALTH"].map(String::from);
    print_rows(&std::iter::once(heading).chain(rows.iter().map(cells)).collect::<Vec<_>>())
}

fn cells(row: &Row) -> [String; 7] {
    let dash = || "-".to_owned();
    let status = row.status.as_ref();
    let commit = status.and_then(|status| status.commit);
    let subject = status.and_then(|status| status.subject.as_ref());
    let mark = status.and_then(|status| status.public.as_ref());
    [
        row.side.clone(),
        status
            .map_or_else(|| truncated(&row.url, MAX_NAME_CHARS).into_owned(), |status| status.server.clone()),
        match row.weight {
            0 if !row.is_public => "no".into(),
            100 => "yes".into(),
            percent => format!("{percent}%"),
        },
        commit.map_or_else(dash, |id| id.short()),
        subject.map_or_else(dash, |subject| subject.chars().take(MAX_SUBJECT).collect()),
        mark.map_or_else(dash, |mark| mark.since.clone()),
        row.health.clone(),
    ]
}
