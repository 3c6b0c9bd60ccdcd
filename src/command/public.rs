//! `public`: which side visitors get, and what both serve; on a server, its own mark.

use bluegreen_text::escape_controls;
use serde::Serialize;

use super::promote::ssh_client;
use super::table::{print_json, print_rows, print_text};
use crate::cli::Promotable;
use crate::deploy::server::Server;
use crate::error::Result;
use crate::promote::look::{Front, Looked};
use crate::promote::side::{State, at_once};
use crate::promote::{check, ending, hold_all, named};
use crate::pusher::report::Report;
use crate::run::signals::Stop;
use crate::site::Site;

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
    let front = Front::open(options.config.as_deref(), &ssh_client())?;
    let stop = Stop::catch(false);
    let public = front.switch.show(Some(&stop))?;
    let (looked, mut errors) = front.look(&stop)?;
    let url = check::place(&front.config.public.url, &front.config.check.paths[0]);
    let server = |side: &str, url: &str| front.sides[side].iter().find(|server| server.url == url);
    let asked = at_once(&looked, |(side, at, _)| {
        check::ask(&url, server(side, at).map(|server| server.address.as_str()))
    });
    let mut rows = Vec::new();
    for ((side, url, state), answer) in looked.iter().zip(asked) {
        for pending in &state.pending {
            report.warning(format!("{}: {}", state.server, escape_controls(&pending.message)));
            if let Some(server) = server(side, url) {
                report.hint(server.line(&escape_controls(&pending.command)));
            }
        }
        let answer = answer?;
        rows.push(Row {
            side: side.clone(),
            is_public: public.as_ref() == Some(side),
            healthy: answer.is_good(),
            health: if answer.is_good() { "well".into() } else { answer.words() },
            state: state.clone(),
        });
    }
    put_right(&front, public.as_deref(), &looked, &rows, &stop, report)?;
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

/// Corrects marks that say otherwise than the front end, unless something runs that may write them itself.
fn put_right(
    front: &Front,
    public: Option<&str>,
    looked: &[Looked],
    rows: &[Row],
    stop: &Stop,
    report: &Report,
) -> Result<()> {
    // Before the first promotion there are none; one that was cut off may have left some.
    let has_marks = rows.iter().any(|row| row.state.public.is_some());
    let mark = |row: &Row| row.state.public.as_ref().is_some_and(|mark| mark.public);
    let is_wrong = |row: &&Row| has_marks && mark(row) != row.is_public;
    let wrong: Vec<&Row> = rows.iter().filter(is_wrong).collect();
    if wrong.is_empty() || looked.iter().any(|(_, _, state)| state.running.is_some()) {
        return Ok(());
    }
    for row in wrong {
        let (server, side) = (&row.state.server, named(public));
        report.warning(format!("the mark of {server} was wrong or missing: put right, {side} is public"));
    }
    let states: Vec<_> = looked.iter().map(|(_, url, state)| (url.clone(), state.clone())).collect();
    ending::mark(front, &mut hold_all(front, &states, stop, report)?, stop)
}

/// Prints the mark of one server, which knows of itself alone: the front end is asked from a clone.
pub fn of_server(server: &Server, json: bool) -> Result<()> {
    let mark = Site::open(&server.config.site)?.public_mark();
    if json {
        return print_json(&serde_json::json!({
            "server": server.name,
            "public": mark.as_ref().map(|mark| mark.public),
            "since": mark.as_ref().map(|mark| &mark.since),
        }));
    }
    let name = &server.name;
    print_text(&match mark {
        Some(mark) if mark.public => format!("{name} is public, since {}", mark.since),
        Some(mark) => format!("{name} is not public, since {}", mark.since),
        None => format!("{name} was not part of a promotion yet"),
    })
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
        escape_controls(&row.state.server),
        if row.is_public { "yes" } else { "no" }.into(),
        commit,
        row.state
            .subject
            .as_ref()
            .map_or_else(dash, |subject| escape_controls(subject).chars().take(50).collect()),
        row.state.public.as_ref().map_or_else(dash, |mark| escape_controls(&mark.since)),
        row.health.clone(),
    ]
}
