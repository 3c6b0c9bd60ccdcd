//! The pages that request a confirmation and state what visitors will see.

use askama::Template;
use axum::response::Html;

use super::{message, promotion, render, words};
use bluegreen_client::observer::Step;

use crate::client::{Planned, Problem};
use crate::job::{Job, Kind};
use crate::state::{Server, State};

#[derive(Template, Default)]
#[template(path = "confirm.html")]
struct Confirm<'a> {
    title: String,
    words: Vec<String>,
    problem: Option<Problem>,
    changes: String,
    csrf: &'a str,
    fields: Vec<(&'static str, String)>,
    asks_reason: bool,
    kind: &'static str,
    /// The words of the button; empty if nothing can be confirmed.
    button: String,
    /// The page that offers the same in spite of the problem.
    instead: String,
}

/// Asks whether a side becomes public.
pub fn promote(
    state: &State,
    csrf: &str,
    (side, force): (&str, bool),
    planned: Result<Planned, Problem>,
) -> Html<String> {
    let title = format!("Promote {}?", words(side));
    let planned = match planned {
        Ok(planned) => planned,
        Err(problem) => {
            let instead = format!("/confirm?do=promote&side={side}&force=yes");
            let page = Confirm {
                title,
                words: vec!["It cannot be promoted now. Visitors see no change.".into()],
                problem: Some(bounded(&problem)),
                instead: if force { String::new() } else { instead },
                ..Confirm::default()
            };
            return Html(render(&page));
        }
    };
    let mut fields = vec![("do", "promote".into()), ("side", planned.to.clone()), ("seen", planned.seen())];
    fields.extend(force.then(|| ("force", "yes".into())));
    let page = Confirm {
        title,
        words: promotion_words(state, &planned, force),
        changes: promotion::changes(state),
        csrf,
        fields,
        kind: if force { "danger" } else { "primary" },
        button: format!("Promote {}", planned.to),
        ..Confirm::default()
    };
    Html(render(&page))
}

fn promotion_words(state: &State, planned: &Planned, force: bool) -> Vec<String> {
    let id = |id: Option<bluegreen_git_types::ObjectId>| id.map_or("nothing".into(), |id| id.short());
    let (to, new) = (&planned.to, id(planned.new));
    let (url, watch) = (words(&state.public_url), humantime::format_duration(planned.watch));
    let mut lines = Vec::new();
    if planned.is_public {
        lines.push(format!("{to} is public already: visitors see no change. The panel checks and marks it."));
    } else {
        let from = planned.from.as_deref().unwrap_or("no side");
        let old = id(planned.old);
        lines.push(format!("Visitors of {url} get {to} with {new} instead of {from} with {old}."));
        lines
            .push("New requests go there at once. Requests that are in flight finish where they are.".into());
    }
    if force {
        lines.push(format!(
            "Nothing stops this promotion: it continues although a check fails, and stays on {to} although \
             requests fail."
        ));
    } else {
        lines.push(format!(
            "First, every server of {to} is checked. If a check fails, visitors see no change."
        ));
        lines.extend(canary_words(planned));
        lines.push(format!(
            "Then {url} is watched for {watch}. If requests fail, visitors get the side before again."
        ));
    }
    lines.extend(drain_words(planned));
    lines.extend(
        planned
            .left_out
            .iter()
            .map(|reason| format!("{}: it is neither locked nor marked.", message(reason))),
    );
    lines
}

/// Formats how many requests the side gets before the switch.
fn canary_words(planned: &Planned) -> Option<String> {
    let steps = planned.canary.iter().map(|(percent, time)| {
        let time = humantime::format_duration(*time);
        format!("{percent}% for {time}")
    });
    let steps = steps.collect::<Vec<_>>().join(", then ");
    let to = &planned.to;
    let words = || format!("Then {to} gets some of the requests: {steps}. If they fail, it gets none.");
    (!steps.is_empty()).then(words)
}

/// Formats how long the promotion waits for the previous side.
fn drain_words(planned: &Planned) -> Option<String> {
    let from = planned.from.as_ref().filter(|_| !planned.is_public && !planned.drain.is_zero())?;
    let drain = humantime::format_duration(planned.drain);
    Some(format!(
        "At the end, both sides stay locked until {from} has no requests in flight, for {drain} at most."
    ))
}

/// Asks whether a side changes; `None` if the action or the side is unknown.
#[must_use]
pub fn apply(state: &State, csrf: &str, (action, side): (&str, &str)) -> Option<Html<String>> {
    let servers = servers_of(state, side);
    servers.first()?;
    let title = match action {
        "rollback" => format!("Roll back {side}?"),
        "deploy" => format!("Deploy {side} again?"),
        "cancel" => format!("Cancel what runs on {side}?"),
        "lock" => format!("Lock {side}?"),
        "unlock" => format!("Unlock {side}?"),
        _ => return None,
    };
    let page = Confirm {
        title: title.clone(),
        words: vec![change_words(&servers, action, side), visitors(state, action, side)],
        csrf,
        fields: vec![("do", action.into()), ("side", side.into()), ("seen", seen(state, action, side))],
        asks_reason: action == "lock",
        kind: "primary",
        button: title.trim_end_matches('?').to_owned(),
        ..Confirm::default()
    };
    Some(Html(render(&page)))
}

/// Describes the effect of a change on a side.
fn change_words(servers: &[&Server], action: &str, side: &str) -> String {
    let status = servers.first().and_then(|server| server.status.good());
    let on_all = if servers.len() > 1 { format!(" on all {} servers", servers.len()) } else { String::new() };
    let commit = status.and_then(|status| status.commit).map_or_else(|| "nothing".into(), |id| id.short());
    match action {
        "rollback" => format!("{side} goes back{on_all} from {commit} to the newest good release before it."),
        "deploy" => {
            let branch = status.map_or_else(|| "its branch".into(), |status| words(&status.branch));
            let tip = status
                .and_then(|status| status.tip)
                .map_or_else(String::new, |id| format!(", {}", id.short()));
            format!("{side} makes a fresh release of the tip of {branch}{tip}{on_all}, and makes it live.")
        }
        "cancel" => {
            let running: Vec<String> = running(servers).map(|running| message(&running)).collect();
            let names = if running.is_empty() { "nothing".into() } else { running.join(", ") };
            format!("This stops {names}. What is live stays live.")
        }
        "lock" => format!(
            "{side} refuses deployments, and neither side can be promoted. Everyone who is refused reads your reason."
        ),
        _ => format!("{side} accepts deployments again{on_all}. Nothing is deployed by that."),
    }
}

fn visitors(state: &State, action: &str, side: &str) -> String {
    match (action, state.front.good().map(|front| front.percent(side))) {
        ("rollback" | "deploy", Some(share)) if share > 0 => {
            format!("{side} is public: visitors see this at once.")
        }
        ("rollback" | "deploy", Some(_)) => format!("{side} is not public: visitors see no change."),
        ("rollback" | "deploy", None) => format!("If {side} is public, visitors see this at once."),
        _ => "Visitors see no change.".into(),
    }
}

fn servers_of<'s>(state: &'s State, side: &str) -> Vec<&'s Server> {
    state.servers.iter().filter(|server| server.endpoint.side == side).collect()
}

/// Returns what runs on these servers.
fn running(servers: &[&Server]) -> impl Iterator<Item = String> {
    servers.iter().filter_map(|server| Some(server.status.good()?.running.as_ref()?.to_string()))
}

/// Returns the facts that the confirmation of a change states: the live releases, and what its sentences contain.
#[must_use]
pub fn seen(state: &State, action: &str, side: &str) -> String {
    let servers = servers_of(state, side);
    let live = servers.iter().map(|server| server.status.good().and_then(|status| status.live.as_deref()));
    let mut seen: Vec<String> = live.map(|live| live.unwrap_or("-").to_owned()).collect();
    if matches!(action, "rollback" | "deploy") {
        seen.push(visitors(state, action, side));
    }
    if matches!(action, "deploy" | "cancel") {
        seen.push(change_words(&servers, action, side));
    }
    seen.join(" ")
}

/// Returns the facts that the confirmation of a cancellation states: the job, and the work that runs on its servers.
#[must_use]
pub fn seen_to_stop(state: &State, job: &Job) -> String {
    let mut seen = vec![job.number.to_string()];
    if job.kind == Kind::Deployment {
        seen.extend(running(&servers_of(state, &job.side)));
    }
    seen.join(" ")
}

/// Asks whether the running action is cancelled; `None` if none runs that can be.
#[must_use]
pub fn stop(state: &State, csrf: &str) -> Option<Html<String>> {
    let job = state.job.as_ref().filter(|job| job.can_be_cancelled())?;
    let words = if job.is_promotion() {
        going_back(job)
    } else {
        change_words(&servers_of(state, &job.side), "cancel", &job.side)
    };
    let is_draining = job.step() == Some(Step::Drain);
    let title = || format!("Cancel the {}?", job.title.to_lowercase());
    Some(Html(render(&Confirm {
        title: if is_draining { "Stop waiting?".into() } else { title() },
        words: vec![words],
        csrf,
        fields: vec![("do", "stop".into()), ("seen", seen_to_stop(state, job))],
        kind: "danger",
        button: if is_draining { "Stop waiting" } else { "Cancel it" }.into(),
        ..Confirm::default()
    })))
}

fn going_back(job: &Job) -> String {
    if job.step() == Some(Step::Drain) {
        "Visitors keep the new side. A deployment to the old one may then interrupt requests in flight."
            .into()
    } else if job.steps.contains(&Step::Set) {
        "Visitors get the side again that was public before.".into()
    } else if job.steps.contains(&Step::Canary) {
        format!("{} no longer gets requests: all visitors get the side that is public.", job.side)
    } else {
        "Nothing is switched yet: visitors see no change.".into()
    }
}

fn bounded(problem: &Problem) -> Problem {
    Problem { message: message(&problem.message), hint: problem.hint.as_deref().map(message) }
}
