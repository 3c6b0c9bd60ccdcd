//! The table of both sides: a row for each server, and the lines about locks and canaries below it.

use std::collections::BTreeMap;

use bluegreen_client::overview::{Overview, Row};
use bluegreen_client::plan::{ServerStatus, named};
use bluegreen_client::switch::Split;
use bluegreen_protocol::freeze::Freeze;
use bluegreen_text::{MAX_NAME_CHARS, truncated};

/// The heading of the table.
pub(super) const HEADING: [&str; 7] = ["SIDE", "SERVER", "PUBLIC", "COMMIT", "SUBJECT", "SINCE", "HEALTH"];

/// The maximum length of a commit's subject in the table, in characters.
const MAX_SUBJECT: usize = 50;

/// Returns the servers that an operator has locked, a line for each. Servers of a side with the same lock share a line.
pub(super) fn lock_lines(states: &[ServerStatus]) -> Vec<String> {
    let mut locks: BTreeMap<(&str, String), Vec<(&str, &Freeze)>> = BTreeMap::new();
    for ServerStatus { side, status, .. } in states {
        if let Some(lock) = &status.lock {
            let servers = locks.entry((side, format!("{} {}", lock.by, lock.what()))).or_default();
            servers.push((&status.server, lock));
        }
    }
    let line = |((side, _), servers): ((&str, String), Vec<(&str, &Freeze)>)| {
        let (first, lock) = servers.first()?;
        Some(match servers.len() {
            1 => format!("{first} is {lock}"),
            several => format!("{several} servers of {side} are {lock}"),
        })
    };
    locks.into_iter().filter_map(line).collect()
}

/// Returns a warning and its hint about a canary whose promotion no longer runs. A running promotion locks the servers.
pub(super) fn interrupted_canary(overview: &Overview) -> Option<(String, String)> {
    let Split { side, percent } = overview.split.as_ref()?;
    if overview.states.iter().any(|server| server.status.running.is_some()) {
        return None;
    }
    let public = named(overview.public.as_deref());
    Some((
        format!("{side} gets {percent}% of the requests: a canary was interrupted"),
        format!("`bluegreen promote {public}` ends it; `bluegreen promote {side}` runs it again"),
    ))
}

/// Formats the row of one server.
pub(super) fn cells(row: &Row) -> [String; 7] {
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
