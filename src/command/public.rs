//! `public`: which side visitors get, and what both serve.

use serde::Serialize;

use super::table::{print_json, print_rows};
use crate::cli::Promotable;
use crate::error::Result;
use crate::promote::look::{Front, Plan};
use crate::promote::side::State;
use crate::promote::{check, mark, named};
use crate::pusher::report::Report;
use crate::run::signals::Stop;
use crate::text::escape_controls;

/// One server, as `--json` shows it.
#[derive(Serialize)]
struct Row {
    side: String,
    /// True if the front end shows its side.
    is_public: bool,
    healthy: bool,
    health: String,
    #[serde(flatten)]
    state: State,
}

/// Prints a row for each server, and puts marks right that a cut-off promotion left.
pub fn run(options: &Promotable, report: &Report) -> Result<()> {
    let front = Front::open(options.config.as_deref())?;
    let stop = Stop::catch(false);
    let public = front.switch.show(Some(&stop))?;
    let (looked, mut errors) = front.look(&stop)?;
    let mut rows = Vec::new();
    for (side, url, state) in &looked {
        let server = front.sides[side].iter().find(|server| server.url == *url);
        for pending in &state.pending {
            report.warning(format!("{}: {}", state.server, escape_controls(&pending.message)));
            if let Some(server) = server {
                report.hint(server.line(&escape_controls(&pending.command)));
            }
        }
        let (url, path) = (&front.config.public.url, &front.config.check.paths[0]);
        let answer = check::ask(url, path, server.map(|server| server.address.as_str()))?;
        let health = if answer.is_good() { "well".into() } else { answer.words() };
        let is_public = public.as_ref() == Some(side);
        rows.push(Row {
            side: side.clone(),
            is_public,
            healthy: answer.is_good(),
            health,
            state: state.clone(),
        });
    }
    let is_wrong = |row: &&Row| row.state.public.as_ref().is_some_and(|mark| mark.public != row.is_public);
    let wrong: Vec<&Row> = rows.iter().filter(is_wrong).collect();
    if !wrong.is_empty() && looked.iter().all(|(_, _, state)| state.running.is_none()) {
        for row in &wrong {
            let side = named(public.as_deref());
            report.warning(format!(
                "{} was marked otherwise, but {side} is public: put right",
                row.state.server
            ));
        }
        let states = looked.iter().map(|(_, url, state)| (url.clone(), state.clone())).collect();
        let to = public.clone().unwrap_or_default();
        let plan = Plan {
            from: public,
            to,
            old: None,
            commit: None,
            states,
            names: std::collections::BTreeMap::new(),
            left_out: Vec::new(),
        };
        mark(&front, &plan, &stop, report)?;
    }
    for side in front.sides.keys() {
        let mut commits: Vec<_> =
            rows.iter().filter(|row| row.side == *side).map(|row| &row.state.commit).collect();
        commits.dedup();
        if commits.len() > 1 {
            report.warning(format!("the servers of {side} do not serve the same commit"));
        }
    }
    print(&rows, options.json)?;
    // The last of them is printed by whoever called.
    let last = errors.pop();
    for error in &errors {
        report.error(error);
    }
    last.map_or(Ok(()), Err)
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
    let commit = row.state.commit.as_ref().map_or_else(dash, |id| id[..id.len().min(12)].to_owned());
    [
        row.side.clone(),
        row.state.server.clone(),
        if row.is_public { "yes" } else { "no" }.into(),
        commit,
        row.state.subject.clone().map_or_else(dash, |subject| subject.chars().take(50).collect()),
        row.state.public.as_ref().map_or_else(dash, |mark| mark.since.clone()),
        row.health.clone(),
    ]
}
