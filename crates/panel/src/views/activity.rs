//! The action that runs, or the last one: its steps, its output, and its responses.

use askama::Template;

use super::{message, render};
use crate::job::Job;
use crate::recent::Recent;
use crate::state::State;
use bluegreen_client::observer::Step;
use bluegreen_text::count;

/// The steps of every promotion.
const STEPS: [Step; 6] = [Step::Look, Step::Hold, Step::Check, Step::Set, Step::Watch, Step::Mark];

#[derive(Template)]
#[template(path = "activity.html")]
struct Activity<'a> {
    title: &'a str,
    kind: &'static str,
    state: String,
    steps: Vec<StepPart>,
    outcome: String,
    hint: Option<String>,
    is_promotion: bool,
    summary: String,
    log: String,
    can_be_cancelled: bool,
}

struct StepPart {
    kind: &'static str,
    name: String,
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
        outcome,
        hint,
        is_promotion: job.is_promotion(),
        summary: summary(job),
        log: if with_log { text(&job.log) } else { String::new() },
        can_be_cancelled: job.can_be_cancelled(),
    })
}

/// Returns an output as one text.
pub(super) fn text(log: &Recent<String>) -> String {
    log.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn steps(job: &Job) -> Vec<StepPart> {
    let has_begun = |step: &Step| job.steps.contains(step);
    let mut all: Vec<Step> = STEPS.to_vec();
    if has_begun(&Step::GoBack) {
        all.insert(5, Step::GoBack);
    }
    let last = job.steps.last().copied();
    let is_bad = matches!(job.outcome, Some(Err(_)));
    let part = |step: Step| {
        let kind = match (last == Some(step), has_begun(&step)) {
            (true, _) if job.is_running() => "now",
            (true, _) if is_bad && step != Step::Mark => "bad",
            (_, true) if step == Step::GoBack => "bad",
            (_, true) => "done",
            (_, false) => "",
        };
        StepPart { kind, name: step.to_string() }
    };
    all.into_iter().map(part).collect()
}

/// Sums the responses of the watch up.
fn summary(job: &Job) -> String {
    let public = || job.samples.iter().filter(|sample| sample.is_public);
    let mut times: Vec<_> = public().map(|sample| sample.took.as_millis()).collect();
    if times.is_empty() {
        let checks = count(job.samples.iter().count() as u64, "request");
        return format!("{checks} to the side before the switch");
    }
    times.sort_unstable();
    let failed = public().filter(|sample| !sample.is_good).count();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let requests = count(times.len() as u64, "request");
    format!("{requests} to the public address, {failed} failed, p50 {} ms, p99 {} ms", at(50), at(99))
}
