//! The action that runs, or the last one: its steps, its output, and its responses.

use askama::Template;

use super::{message, render, words};
use crate::job::{Job, Sample, Source, Tally};
use crate::recent::Recent;
use crate::state::State;
use bluegreen_client::observer::Step;
use bluegreen_client::watch::percentile;
use bluegreen_text::count;

/// The steps of every promotion. Others are shown once they have begun.
const STEPS: [Step; 6] = [Step::Look, Step::Hold, Step::Check, Step::Set, Step::Watch, Step::Mark];

#[derive(Template)]
#[template(path = "activity.html")]
struct Activity<'a> {
    title: &'a str,
    kind: &'static str,
    state: String,
    steps: Vec<StepPart>,
    waiting: String,
    outcome: String,
    hint: Option<String>,
    is_promotion: bool,
    rows: Vec<Row>,
    unknown: String,
    log: String,
    /// The words of the button; empty if the action cannot be stopped.
    cancel: &'static str,
}

struct StepPart {
    kind: &'static str,
    name: String,
}

/// The responses of one origin.
struct Row {
    kind: String,
    name: String,
    requests: u64,
    failed: u64,
    p50: u128,
    p99: u128,
}

/// Returns the part of the page; `with_log` adds the output so far.
pub(super) fn part(state: &State, with_log: bool) -> String {
    let Some(job) = &state.job else {
        return "<section id=\"activity\" hidden></section>".into();
    };
    let seconds = job.took.unwrap_or_else(|| job.started.elapsed()).as_secs();
    let (kind, words, outcome, hint) = match &job.outcome {
        None => ("busy", format!("Running, {seconds} s"), String::new(), None),
        Some(Ok(summary)) => ("good", format!("Succeeded after {seconds} s"), message(summary), None),
        Some(Err(problem)) => {
            let hint = problem.hint.as_deref().map(message);
            ("bad", format!("Failed after {seconds} s"), message(&problem.message), hint)
        }
    };
    render(&Activity {
        title: &job.title,
        kind,
        state: words,
        steps: if job.is_promotion() { steps(job) } else { Vec::new() },
        waiting: waiting(job),
        outcome,
        hint,
        is_promotion: job.is_promotion(),
        rows: rows(job),
        unknown: unknown(job),
        log: if with_log { text(&job.log) } else { String::new() },
        cancel: match job.step() {
            _ if !job.can_be_cancelled() => "",
            Some(Step::Drain) => "Stop waiting",
            _ => "Cancel",
        },
    })
}

/// Returns an output as one text.
pub(super) fn text(log: &Recent<String>) -> String {
    log.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn steps(job: &Job) -> Vec<StepPart> {
    let has_begun = |step: &Step| job.steps.contains(step);
    let mut all: Vec<Step> = STEPS.to_vec();
    for (after, step) in [(Step::Check, Step::Canary), (Step::Watch, Step::GoBack), (Step::Mark, Step::Drain)]
    {
        let at = all.iter().position(|other| *other == after).filter(|_| has_begun(&step));
        if let Some(at) = at {
            all.insert(at + 1, step);
        }
    }
    let last = job.step();
    let is_bad = matches!(job.outcome, Some(Err(_)));
    let part = |step: Step| {
        let kind = match (last == Some(step), has_begun(&step)) {
            (true, _) if job.is_running() => "now",
            (true, _) if is_bad && step != Step::Mark => "bad",
            (_, true) if step == Step::GoBack => "bad",
            (_, true) => "done",
            (_, false) => "",
        };
        let percent = job.weight.filter(|_| step == Step::Canary).map(|percent| format!(" {percent}%"));
        StepPart { kind, name: format!("{step}{}", percent.unwrap_or_default()) }
    };
    all.into_iter().map(part).collect()
}

/// Returns the condition that a running promotion waits for.
fn waiting(job: &Job) -> String {
    let side = &job.side;
    match (&job.waiting, job.step()) {
        _ if !job.is_running() || !job.is_promotion() => String::new(),
        (Some(words), _) => words.clone(),
        (None, None | Some(Step::Look)) => "Waiting for the front end and all servers to respond...".into(),
        (None, Some(Step::Hold)) => "Waiting for the locks of all servers...".into(),
        (None, Some(Step::Check)) => format!("Waiting for {side} to pass its checks..."),
        (None, Some(Step::Canary | Step::Set | Step::GoBack)) => "Waiting for the front end...".into(),
        (None, Some(Step::Watch)) => format!("Requesting the public address from {side}..."),
        (None, Some(Step::Mark)) => "Waiting for all servers to record which side is public...".into(),
        (None, Some(Step::Drain)) => "Waiting for requests in flight...".into(),
    }
}

/// Sums up the responses of each origin. The percentiles are those of the newest responses.
fn rows(job: &Job) -> Vec<Row> {
    let row = |(source, tally): (&Source, &Tally)| {
        let of = job.samples.iter().filter(|sample| sample.source == *source);
        let times: Vec<_> = of.map(|sample| sample.took.as_millis()).collect();
        let at = |percent| percentile(times.clone(), percent).unwrap_or_default();
        let name = match source {
            Source::Check => format!("{}, checks", job.side),
            Source::Side(side) => side.clone(),
            Source::Unknown => "unknown side".into(),
        };
        Row {
            kind: class(job, source),
            name: words(&name),
            requests: tally.requests,
            failed: tally.failed,
            p50: at(50),
            p99: at(99),
        }
    };
    job.tallies.iter().map(row).collect()
}

/// Formats which responses cannot be told apart; empty if there are none.
fn unknown(job: &Job) -> String {
    let requests = job.tallies.get(&Source::Unknown).map_or(0, |tally| tally.requests);
    let words = |responses| {
        format!(
            "The panel cannot tell which side sent {responses}: no `X-Served-By` header names a server of one side."
        )
    };
    if requests == 0 { String::new() } else { words(count(requests, "response")) }
}

/// Returns the class of a dot in the chart.
#[must_use]
pub fn kind(job: &Job, sample: &Sample) -> String {
    if sample.is_good { class(job, &sample.source) } else { "failed".into() }
}

fn class(job: &Job, source: &Source) -> String {
    match source {
        Source::Check => "check".into(),
        Source::Side(side) if *side == job.side => format!("new {side}"),
        Source::Side(side) => format!("old {side}"),
        Source::Unknown => "unknown".into(),
    }
}
