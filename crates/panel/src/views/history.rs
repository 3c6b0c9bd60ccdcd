//! The history of both sides, with filters.

use askama::Template;

use super::{message, render, words};
use crate::fields::Fields;
use crate::state::State;
use bluegreen_git_types::ObjectId;
use bluegreen_protocol::history::{Action, Entry, Outcome};
use bluegreen_text::{age, truncated};

/// The maximum number of entries that the page shows.
const MAX_ROWS: usize = 50;

/// The filters that have a list of values, besides that of the sides: name, label, and pairs of value and label.
const ACTIONS: [(&str, &str); 6] = [
    ("deploy", "Deployments"),
    ("rollback", "Rollbacks"),
    ("promote", "Promotions"),
    ("lock", "Locks"),
    ("unlock", "Unlocks"),
    ("adopt", "Adoptions"),
];
const OUTCOMES: [(&str, &str); 2] = [("live", "Succeeded"), ("failed", "Failed")];

#[derive(Template)]
#[template(path = "history.html")]
struct History {
    rows: Vec<Row>,
    empty: &'static str,
    more: String,
}

struct Row {
    time: String,
    age: String,
    side: String,
    place: String,
    action: &'static str,
    commit: String,
    by: String,
    took: String,
    kind: &'static str,
    outcome: String,
}

/// A filter with a list of values.
pub(super) struct Select {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) options: Vec<Choice>,
}

/// A value of a filter.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) is_chosen: bool,
}

/// Returns the filters, with what is chosen.
pub(super) fn selects(state: &State, filter: &Fields) -> Vec<Select> {
    let select = |name: &'static str, label: &'static str, values: Vec<(String, String)>| {
        let chosen = filter.get(name);
        let all = (String::new(), "All".to_owned());
        let choice = |(value, label): (String, String)| Choice { is_chosen: value == chosen, value, label };
        Select { name, label, options: std::iter::once(all).chain(values).map(choice).collect() }
    };
    let named = |values: &[(&str, &str)]| {
        values.iter().map(|(value, label)| ((*value).to_owned(), (*label).to_owned())).collect()
    };
    let sides = state.sides().into_iter().map(|side| (side.clone(), side)).collect();
    vec![
        select("side", "Side", sides),
        select("action", "Action", named(&ACTIONS)),
        select("outcome", "Outcome", named(&OUTCOMES)),
    ]
}

/// Returns whether a filter is set.
pub(super) fn is_filtered(filter: &Fields) -> bool {
    ["side", "action", "outcome", "text"].iter().any(|name| !filter.get(name).is_empty())
}

/// Returns the entries of all servers that the filter lets through, the newest first.
pub(super) fn part(state: &State, filter: &Fields) -> String {
    let mut found: Vec<(&str, String, &Entry)> = Vec::new();
    for server in &state.servers {
        let name = server.status.good().map_or(&server.endpoint.host, |status| &status.server);
        for entry in server.history.good().into_iter().flatten() {
            // Every server of both sides records a promotion. The page shows it once.
            let is_known = |(_, _, other): &(&str, String, &Entry)| {
                entry.promotion.is_some()
                    && (&other.time, &other.promotion) == (&entry.time, &entry.promotion)
            };
            if !found.iter().any(is_known) {
                found.push((&server.endpoint.side, words(name), entry));
            }
        }
    }
    found.retain(|(side, name, entry)| is_wanted(side, name, entry, filter));
    found.sort_by(|(.., a), (.., b)| b.time.cmp(&a.time));
    let more = if found.len() > MAX_ROWS {
        format!(
            "Only the newest {MAX_ROWS} of {} are shown. `bluegreen history` on a server prints all.",
            found.len()
        )
    } else {
        String::new()
    };
    let rows = found.iter().take(MAX_ROWS).map(|(side, name, entry)| row(side, name, entry)).collect();
    let is_known = state.servers.iter().any(|server| server.history.good().is_some());
    let empty = match (is_known, is_filtered(filter)) {
        (false, _) => "No server has reported its history yet.",
        (true, true) => "No entry matches the filter.",
        (true, false) => "Nothing has been deployed yet.",
    };
    render(&History { rows, empty, more })
}

fn is_wanted(side: &str, name: &str, entry: &Entry, filter: &Fields) -> bool {
    let is = |name: &str, value: &str| filter.get(name).is_empty() || filter.get(name) == value;
    let text = filter.get("text").to_lowercase();
    let has_text = || {
        let id = |id: Option<ObjectId>| id.map(|id| id.to_string()).unwrap_or_default();
        let release = entry.release.clone().unwrap_or_default();
        let all = [name.to_owned(), entry.by.to_string(), entry.ending(), id(entry.new), release];
        all.iter().any(|part| part.to_lowercase().contains(&text))
    };
    let action = key(entry.action);
    let outcome = if entry.outcome == Outcome::Failed { "failed" } else { "live" };
    let is_on_side = is("side", side_of(side, entry));
    is_on_side && is("action", action) && is("outcome", outcome) && (text.is_empty() || has_text())
}

/// Returns the side that an entry is about: that of its server, or the one that was promoted.
fn side_of<'e>(side: &'e str, entry: &'e Entry) -> &'e str {
    entry.promotion.as_ref().map_or(side, |promotion| &promotion.to)
}

fn key(action: Action) -> &'static str {
    match action {
        Action::Deploy => "deploy",
        Action::Rollback => "rollback",
        Action::Adopt => "adopt",
        Action::Promote => "promote",
        Action::Lock => "lock",
        Action::Unlock => "unlock",
    }
}

fn row(side: &str, name: &str, entry: &Entry) -> Row {
    let action = match entry.action {
        Action::Deploy => "Deployment",
        Action::Rollback => "Rollback",
        Action::Adopt => "Adoption",
        Action::Promote => "Promotion",
        Action::Lock => "Lock",
        Action::Unlock => "Unlock",
    };
    let side = words(side_of(side, entry));
    let requests = entry
        .promotion
        .as_ref()
        .map(|promotion| format!(" ({} requests, {} failed)", promotion.requests, promotion.failures));
    Row {
        time: words(&entry.time),
        age: age(&entry.time).unwrap_or_else(|| words(&entry.time)),
        place: if entry.promotion.is_some() { side.clone() } else { name.to_owned() },
        side,
        action,
        commit: entry.new.map_or_else(|| "-".into(), |id| id.short()),
        by: words(&entry.by.to_string()),
        took: format!("{:.1} s", entry.seconds),
        kind: if entry.outcome != Outcome::Failed && entry.error.is_none() { "good" } else { "bad" },
        outcome: message(&truncated(&entry.ending(), 300)) + &requests.unwrap_or_default(),
    }
}
