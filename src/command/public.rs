//! `public`: which side visitors get, and what both serve; on a server, its own mark.

use bluegreen_text::{age, escape_controls};
use serde::Serialize;

use super::promote::{Judge, access};
use super::table::{print_json, print_rows, print_text};
use crate::cli::Promotable;
use crate::deploy::context::DeployContext;
use crate::error::Result;
use crate::site::Site;
use bluegreen_client as client;
use bluegreen_client::hold::Heartbeat;
use bluegreen_client::plan::{Failed, ServerStatus, Topology, named};
use bluegreen_client::promote::hold_all;
use bluegreen_client::remote::Remote;
use bluegreen_client::{finish, probe};
use bluegreen_process::signals::Stop;
use bluegreen_protocol::status::Status;
use bluegreen_report::Report;
use bluegreen_sys::concurrent;
use bluegreen_text::{MAX_NAME_CHARS, truncated};

/// The longest subject of a commit in the table, in characters.
const MAX_SUBJECT: usize = 50;

/// One server, as `--json` shows it.
#[derive(Serialize)]
struct Row {
    side: String,
    url: String,
    /// True if the front end shows its side.
    is_public: bool,
    /// True if the server reported its state.
    is_reachable: bool,
    healthy: bool,
    health: String,
    /// The state, if the server reported it.
    #[serde(flatten)]
    status: Option<Status>,
}

/// Prints a row for each server, and corrects marks that an interrupted promotion has left.
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
    let public = topology.switch.show(Some(&stop))?;
    let (states, failed) = topology.look(&stop, lines)?;
    for (server, pending) in
        states.iter().flat_map(|server| server.status.pending.iter().map(move |pending| (server, pending)))
    {
        lines.warning(format_args!("{}: {}", server.status.server, pending.message));
        if let Some(remote) = find(&topology, &server.side, &server.url) {
            lines.hint(remote.line(&pending.command));
        }
    }
    let rows = rows(&topology, public.as_deref(), &states, &failed, &stop)?;
    correct_marks(&topology, public.as_deref(), &states, &stop, lines)?;
    for side in topology.sides.keys() {
        let mut commits: Vec<_> =
            states.iter().filter(|server| server.side == *side).map(|server| server.status.commit).collect();
        commits.dedup();
        if commits.len() > 1 {
            lines.warning(format_args!("the servers of {side} serve different commits"));
        }
    }
    print(&rows, options.json)?;
    // The last error is printed by the caller.
    let mut errors: Vec<client::Error> = failed.into_iter().map(|failed| failed.error).collect();
    let last = errors.pop();
    for error in &errors {
        report.error(error);
    }
    last.map_or(Ok(()), |error| Err(error.into()))
}

fn find<'t>(topology: &'t Topology, side: &str, url: &str) -> Option<&'t Remote> {
    topology.sides.get(side)?.iter().find(|server| server.url == url)
}

/// Checks the health of every server, also of those that ssh does not reach; returns a row for each, in the order of
/// the config.
fn rows(
    topology: &Topology,
    public: Option<&str>,
    states: &[ServerStatus],
    failed: &[Failed],
    stop: &Stop,
) -> Result<Vec<Row>> {
    let (url, page) = (&topology.config.public.url, &topology.config.check.paths[0]);
    let servers =
        topology.sides.iter().flat_map(|(side, servers)| servers.iter().map(move |server| (side, server)));
    let rows = concurrent::map(servers, |(side, server)| {
        let response = probe::probe(url, page, Some(&server.address), Some(stop))?;
        let status = states.iter().find(|state| state.url == server.url).map(|state| state.status.clone());
        let problem = failed.iter().find(|failed| failed.url == server.url);
        let health = if response.is_good() { "well".into() } else { response.words() };
        let health = match problem {
            Some(failed) => format!("{health}, but {}", failed.error),
            None => health,
        };
        Ok(Row {
            side: side.clone(),
            url: server.url.clone(),
            is_public: public == Some(side.as_str()),
            is_reachable: status.is_some(),
            healthy: response.is_good(),
            health,
            status,
        })
    });
    rows.into_iter().collect()
}

/// Corrects marks that disagree with the front end, unless something runs that may write them itself.
fn correct_marks(
    topology: &Topology,
    public: Option<&str>,
    states: &[ServerStatus],
    stop: &Stop,
    report: &Report,
) -> Result<()> {
    // Before the first promotion there are no marks. An interrupted one may have left some.
    let has_marks = states.iter().any(|server| server.status.public.is_some());
    let mark = |server: &ServerStatus| server.status.public.as_ref().is_some_and(|mark| mark.public);
    let is_wrong = |server: &&ServerStatus| has_marks && mark(server) != (public == Some(&server.side));
    let wrong: Vec<&ServerStatus> = states.iter().filter(is_wrong).collect();
    if wrong.is_empty() || states.iter().any(|server| server.status.running.is_some()) {
        return Ok(());
    }
    for server in wrong {
        let (server, side) = (&server.status.server, named(public));
        report.warning(format_args!(
            "corrected the mark of {server}, which was wrong or missing: {side} is public"
        ));
    }
    let heartbeat = Heartbeat::start()?;
    Ok(finish::mark(topology, &mut hold_all(topology, states, &heartbeat, stop, report)?, stop)?)
}

/// Prints the mark of one server, which only has information about itself: a clone can ask the front end.
pub fn of_server(server: &DeployContext, json: bool) -> Result<()> {
    let mark = Site::open(&server.config.site)?.public_mark()?;
    if json {
        return print_json(&serde_json::json!({
            "server": server.name,
            "public": mark.as_ref().map(|mark| mark.public),
            "since": mark.as_ref().map(|mark| &mark.since),
        }));
    }
    let name = &server.name;
    print_text(&match mark {
        Some(mark) => {
            let age = age(&mark.since).map(|age| format!(" ({age})")).unwrap_or_default();
            let not = if mark.public { "" } else { "not " };
            escape_controls(&format!("{name} is {not}public, since {}{age}", mark.since))
        }
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
    let status = row.status.as_ref();
    let commit = status.and_then(|status| status.commit);
    let subject = status.and_then(|status| status.subject.as_ref());
    let mark = status.and_then(|status| status.public.as_ref());
    [
        row.side.clone(),
        status
            .map_or_else(|| truncated(&row.url, MAX_NAME_CHARS).into_owned(), |status| status.server.clone()),
        if row.is_public { "yes" } else { "no" }.into(),
        commit.map_or_else(dash, |id| id.short()),
        subject.map_or_else(dash, |subject| subject.chars().take(MAX_SUBJECT).collect()),
        mark.map_or_else(dash, |mark| mark.since.clone()),
        row.health.clone(),
    ]
}
