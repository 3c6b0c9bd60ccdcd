//! `metrics`: the state and the history of a server for Prometheus's textfile collector.
//!
//! The text is the Prometheus exposition format 0.0.4, which that collector parses. `OpenMetrics` differs only in the
//! names of counters and in its last line.

use std::fmt::{Display, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use super::status;
use crate::command::table::print_text;
use crate::error::Result;
use bluegreen_protocol::history::{Action, Entry, Outcome};
use bluegreen_protocol::status::{Kind, Status};
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::site::{Site, history};
use bluegreen_text::escape_controls;

/// The changes that are counted, and their labels.
const ACTIONS: [(Action, &str); 4] = [
    (Action::Deploy, "deploy"),
    (Action::Rollback, "rollback"),
    (Action::Adopt, "adopt"),
    (Action::Promote, "promote"),
];

/// The outcomes of a change, and their labels.
const OUTCOMES: [(Outcome, &str); 2] = [(Outcome::Live, "live"), (Outcome::Failed, "failed")];

/// The kinds of pending work, and their labels.
const KINDS: [(Kind, &str); 4] =
    [(Kind::Lock, "lock"), (Kind::Publication, "publication"), (Kind::Tip, "tip"), (Kind::Role, "role")];

/// Prints the metrics of the server.
pub fn run(server: &DeployContext) -> Result<()> {
    let (status, _) = status::read(server)?;
    let entries = history::read(&Site::open(&server.config.site)?)?;
    print_text(metrics(&status, &entries).trim_end())
}

fn metrics(status: &Status, entries: &[Entry]) -> String {
    let mut text = Text { common: [("server", &status.server), ("site", &status.site)], text: String::new() };
    text.family("build_info", "gauge", "The version of bluegreen.");
    text.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    changes(&mut text, entries);
    live(&mut text, status);
    text.family(
        "lock_held",
        "gauge",
        "Whether a deployment, a rollback, or a promotion holds the site's lock.",
    );
    for (action, label) in ACTIONS {
        let is_held = status.running.as_ref().is_some_and(|holder| holder.action == action);
        text.sample("lock_held", &[("action", label)], u8::from(is_held));
    }
    if let Some(since) = status.running.as_ref().and_then(|holder| seconds(&holder.since)) {
        text.family("lock_since_timestamp_seconds", "gauge", "The time at which the lock's holder began.");
        text.sample("lock_since_timestamp_seconds", &[], since);
    }
    frozen(&mut text, status);
    text.family("pending", "gauge", "The work that a crash left unfinished: `resume` finishes it.");
    for (kind, label) in KINDS {
        let count = status.pending.iter().filter(|pending| pending.kind == kind).count();
        text.sample("pending", &[("kind", label)], count);
    }
    text.text
}

/// Writes how many changes there were, how long they took, and when the last ones began.
fn changes(text: &mut Text, entries: &[Entry]) {
    let of = |action| entries.iter().filter(move |entry| entry.action == action);
    text.family("changes_total", "counter", "The changes in the history, by their outcome.");
    for (action, label) in ACTIONS {
        for (outcome, ended) in OUTCOMES {
            let count = of(action).filter(|entry| entry.outcome == outcome).count();
            text.sample("changes_total", &[("action", label), ("outcome", ended)], count);
        }
    }
    text.family(
        "change_duration_seconds",
        "summary",
        "The duration of changes, including the wait for the lock.",
    );
    for (action, label) in ACTIONS {
        let total: f64 = of(action).map(|entry| entry.seconds).filter(|seconds| seconds.is_finite()).sum();
        // The sum of no floats is -0.
        text.sample("change_duration_seconds_sum", &[("action", label)], total + 0.0);
        text.sample("change_duration_seconds_count", &[("action", label)], of(action).count());
    }
    let last = |action, outcome| of(action).rfind(move |entry| entry.outcome == outcome);
    let last: Vec<_> = ACTIONS
        .iter()
        .flat_map(|(action, label)| OUTCOMES.map(|(outcome, ended)| (label, ended, last(*action, outcome))))
        .filter_map(|(label, ended, entry)| Some(([("action", *label), ("outcome", ended)], entry?)))
        .collect();
    if last.is_empty() {
        return;
    }
    text.family("last_change_timestamp_seconds", "gauge", "The time at which the last change began.");
    for (labels, entry) in &last {
        if let Some(time) = seconds(&entry.time) {
            text.sample("last_change_timestamp_seconds", labels, time);
        }
    }
    text.family("last_change_duration_seconds", "gauge", "The duration of the last change.");
    for (labels, entry) in &last {
        text.sample("last_change_duration_seconds", labels, entry.seconds);
    }
}

/// Writes the live commit, and whether the side is public.
fn live(text: &mut Text, status: &Status) {
    if let (Some(release), commit) = (&status.live, &status.commit) {
        let commit = commit.as_ref().map(ToString::to_string).unwrap_or_default();
        text.family("live_info", "gauge", "The live release and its commit.");
        text.sample("live_info", &[("release", release), ("commit", &commit)], 1);
        text.family("live_good", "gauge", "Whether the live release did not fail its verification.");
        text.sample("live_good", &[], u8::from(status.good));
    }
    if let Some(since) = status.since.as_deref().and_then(seconds) {
        text.family("live_since_timestamp_seconds", "gauge", "The time of the last activation.");
        text.sample("live_since_timestamp_seconds", &[], since);
    }
    if status.tip.is_some() {
        text.family("branch_live", "gauge", "Whether the tip of the branch is live.");
        text.sample("branch_live", &[("branch", &status.branch)], u8::from(status.tip == status.commit));
    }
    if let Some(mark) = &status.public {
        text.family("side_public", "gauge", "Whether the last promotion made this side public.");
        text.sample("side_public", &[], u8::from(mark.public));
    }
}

/// Writes whether an operator has locked the server, why, and until when.
fn frozen(text: &mut Text, status: &Status) {
    text.family("frozen", "gauge", "Whether `bluegreen lock` refuses deployments and promotions.");
    text.sample("frozen", &[], u8::from(status.lock.is_some()));
    let Some(lock) = &status.lock else { return };
    text.family("freeze_info", "gauge", "The reason of the lock, and the person who set it.");
    text.sample("freeze_info", &[("reason", &lock.reason), ("by", &lock.by.to_string())], 1);
    if let Some(since) = seconds(&lock.since) {
        text.family("freeze_since_timestamp_seconds", "gauge", "The time at which the lock was set.");
        text.sample("freeze_since_timestamp_seconds", &[], since);
    }
    if let Some(until) = lock.until.as_deref().and_then(seconds) {
        text.family("freeze_until_timestamp_seconds", "gauge", "The end of the lock.");
        text.sample("freeze_until_timestamp_seconds", &[], until);
    }
}

/// Returns the seconds from the epoch to a time, which is RFC 3339.
fn seconds(time: &str) -> Option<f64> {
    let time: SystemTime = humantime::parse_rfc3339(time).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}

/// Metrics that are being written.
struct Text<'a> {
    /// The labels of every sample.
    common: [(&'a str, &'a str); 2],
    text: String,
}

impl Text<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP bluegreen_{name} {help}\n# TYPE bluegreen_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = self
            .common
            .iter()
            .chain(labels)
            .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
            .collect();
        let _ = writeln!(self.text, "bluegreen_{name}{{{}}} {value}", labels.join(","));
    }
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    escape_controls(text).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_end_neither_the_label_nor_the_line() {
        let mut text = Text { common: [("server", "a\"b\\c"), ("site", "d\ne\u{9b}")], text: String::new() };
        text.sample("up", &[], 1);
        assert_eq!(text.text, "bluegreen_up{server=\"a\\\"b\\\\c\",site=\"d\\\\ne\\\\u{9b}\"} 1\n");
    }
}
