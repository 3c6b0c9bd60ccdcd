//! A side: what its servers serve, and how they are.

use askama::Template;

use super::{Notice, activity, message, render, words};
use crate::client::Problem;
use crate::job::Job;
use crate::state::{Server, State};
use bluegreen_protocol::history::Action;
use bluegreen_protocol::status::{Holder, Status, first_different};
use bluegreen_text::age;
use std::time::Duration;

/// The time after which the page says that it waits for a server.
const WAITING_DELAY: Duration = Duration::from_secs(2);

#[derive(Template)]
#[template(path = "side.html")]
struct Side<'a> {
    name: &'a str,
    is_public: Option<bool>,
    /// The share of the requests that the front end sends to this side.
    badge: String,
    servers: Vec<ServerPart>,
    buttons: Vec<Button>,
}

/// An action on all servers of the side.
struct Button {
    action: &'static str,
    label: &'static str,
}

struct ServerPart {
    name: String,
    problem: Option<Problem>,
    waiting: Option<String>,
    live: Option<Live>,
    health: Line,
    number: usize,
    /// The output of the deployment that runs.
    log: Option<String>,
}

struct Live {
    subject: String,
    commit: String,
    author: String,
    since: String,
    age: String,
    mark: &'static str,
    marked: String,
    marked_age: String,
    lines: Vec<Line>,
}

struct Line {
    label: &'static str,
    kind: &'static str,
    text: String,
}

/// Returns the card of a side; `with_log` adds the output so far of what runs.
pub(super) fn part(state: &State, name: &str, with_log: bool) -> String {
    let all = state.servers.iter().enumerate().filter(|(_, server)| server.endpoint.side == name);
    let servers = all.map(|(number, server)| server_part(server, number, with_log));
    let is_public = state.front.good().map(|front| front.public.as_deref() == Some(name));
    let share = state.front.good().filter(|front| front.split.is_some());
    let share = share.map_or_else(String::new, |front| format!(", {}% of requests", front.percent(name)));
    let badge = match is_public {
        Some(true) => format!("Public{share}"),
        Some(false) => format!("Not public{share}"),
        None => "Unknown".into(),
    };
    render(&Side { name, is_public, badge, servers: servers.collect(), buttons: buttons(state, name) })
}

/// Returns what can be done now. While an action runs, that is nothing.
fn buttons(state: &State, side: &str) -> Vec<Button> {
    let button = |action, label| Button { action, label };
    let servers = || state.servers.iter().filter(|server| server.endpoint.side == side);
    let is_waiting = servers().any(|server| server.status.good().is_none());
    if is_waiting || state.job.as_ref().is_some_and(Job::is_running) {
        return Vec::new();
    }
    if servers().any(|server| server.deployment().is_some()) {
        return vec![button("cancel", "Cancel")];
    }
    if servers().any(Server::is_busy) {
        return Vec::new();
    }
    if servers().any(|server| server.status.good().is_some_and(|status| status.lock.is_some())) {
        return vec![button("unlock", "Unlock")];
    }
    vec![button("rollback", "Roll back"), button("deploy", "Deploy again"), button("lock", "Lock")]
}

/// Returns notices about the servers that their cards do not show.
pub(super) fn warnings(state: &State) -> Vec<Notice> {
    let warning =
        |title: String, text: String, hint: Option<String>| Notice { kind: "warn", title, text, hint };
    let mut warnings = Vec::new();
    let public = state.public_side();
    for side in state.sides() {
        let servers = state.servers.iter().filter(|server| server.endpoint.side == side);
        let statuses: Vec<&Status> = servers.filter_map(|server| server.status.good()).collect();
        if first_different(&statuses).is_some() {
            let hint = format!("deploy one commit to all of them: `bluegreen push {side}`");
            warnings.push(warning(
                format!("The servers of {side} serve different commits."),
                String::new(),
                Some(hint),
            ));
        }
        for status in statuses {
            let marked = status.public.as_ref().map(|mark| mark.public);
            if public.is_some() && marked.is_some_and(|marked| marked != (public == Some(&side))) {
                let mark = if marked == Some(true) { "public" } else { "not public" };
                warnings.push(warning(
                    format!("{} is marked as {mark}.", words(&status.server)),
                    "The front end reports something else.".into(),
                    Some("run `bluegreen public`, which corrects the marks".into()),
                ));
            }
            warnings.extend(status.pending.iter().map(|pending| {
                let command = pending.known_command();
                let hint = command.map(|command| format!("run `bluegreen {command}` on the server"));
                warning(format!("{}:", words(&status.server)), message(&pending.message), hint)
            }));
        }
    }
    warnings
}

fn server_part(server: &Server, number: usize, with_log: bool) -> ServerPart {
    let problem = server.status.problem().map(|problem| Problem {
        message: message(&problem.message),
        hint: problem.hint.as_deref().map(message),
    });
    let status = server.status.good();
    let waited = server.status.waited();
    let waiting = (waited > WAITING_DELAY || status.is_none()).then(|| {
        let host = words(&server.endpoint.host);
        format!("Waiting for {host} to respond, {} s...", waited.as_secs())
    });
    ServerPart {
        name: status.map_or_else(|| words(&server.endpoint.host), |status| words(&status.server)),
        problem,
        waiting,
        live: status.map(|status| live(status, server.author.as_deref())),
        health: health(server),
        number,
        log: server.deployment().map(|_| if with_log { activity::text(&server.log) } else { String::new() }),
    }
}

fn live(status: &Status, author: Option<&str>) -> Live {
    let since = status.since.as_deref().map(words).unwrap_or_default();
    let mark = status.public.as_ref();
    let marked = mark.map(|mark| words(&mark.since)).unwrap_or_default();
    let subject = match (&status.subject, &status.elsewhere) {
        (Some(subject), _) => words(subject),
        (None, Some(path)) => format!("Serves {}, which is not a release", words(path)),
        (None, None) if status.live.is_some() => "Serves a release whose commit is unknown".into(),
        (None, None) => "Serves nothing yet".into(),
    };
    Live {
        subject,
        commit: status.commit.map(|commit| commit.short()).unwrap_or_default(),
        author: author.map(words).unwrap_or_default(),
        age: age(&since).unwrap_or_else(|| since.clone()),
        since,
        mark: if mark.is_some_and(|mark| mark.public) { "Public since" } else { "Not public since" },
        marked_age: age(&marked).unwrap_or_else(|| marked.clone()),
        marked,
        lines: lines(status),
    }
}

fn lines(status: &Status) -> Vec<Line> {
    let mut lines = Vec::new();
    if !status.good && status.live.is_some() {
        lines.push(Line { label: "Release", kind: "bad", text: "failed its verification".into() });
    }
    if let Some(lock) = &status.lock {
        lines.push(Line { label: "Lock", kind: "warn", text: message(&lock.to_string()) });
    }
    if let Some(tip) = status.tip.filter(|tip| Some(*tip) != status.commit && !status.unchanged) {
        let why = status.why.as_deref().map(|why| format!(": {}", message(why))).unwrap_or_default();
        let text = format!("{} is at {}, which is not live{why}", words(&status.branch), tip.short());
        lines.push(Line { label: "Branch", kind: "warn", text });
    }
    if let Some(running) = &status.running {
        lines.push(Line { label: "Running", kind: "busy", text: holder(running) });
    }
    lines
}

/// Formats what runs: "deployment by ada, started 3 minutes ago: build".
fn holder(running: &Holder) -> String {
    let since = age(&running.since).unwrap_or_else(|| words(&running.since));
    let what = format!("{} by {}, started {since}", running.action, words(&running.by.to_string()));
    if running.action == Action::Promote { what } else { format!("{what}: {}", words(&running.phase)) }
}

fn health(server: &Server) -> Line {
    let line = |kind, text| Line { label: "Health", kind, text };
    match &server.health.last {
        None => line("", "not known yet".into()),
        Some(Ok(health)) if health.is_healthy => {
            line("good", format!("responds in {} ms", health.took.as_millis().max(1)))
        }
        Some(Ok(health)) => line("bad", message(&health.problem)),
        Some(Err(problem)) => line("bad", message(&problem.message)),
    }
}
