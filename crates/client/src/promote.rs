//! The order of a promotion: look, hold, check, set, watch, mark. Nothing is switched before the first three have
//! succeeded. The last line always names the public side, as the front end itself shows it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use bluegreen_text::{count, seconds};
use serde::Serialize;

use crate::canary::Run;
use crate::check_config::Limit;
use crate::context::PromoteContext;
use crate::error::{Error, Result};
use crate::hold::{Heartbeat, Hold};
use crate::locks::hold_all;
use crate::look::Prepared;
use crate::observer::{Observer, Step};
use crate::plan::{Plan, PromoteIntent, Topology, all, refuse_frozen};
use crate::role::Handover;
use crate::standby::Standby;
use crate::switch::Shown;
use crate::watch::{Rules, Watched, progress, watch};
use crate::{check, drain, finish};
use bluegreen_git_types::ObjectId;
use bluegreen_process::signals::Stop;
use bluegreen_report::Report;
use bluegreen_sys::concurrent;

/// The result, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Promoted {
    /// The side that was public before.
    pub from: Option<String>,
    /// The side that is public now.
    pub to: String,
    /// The side that is public now, under the name that the JSON of a failure has too.
    pub public: String,
    /// Always `live`; a failure has `failed`.
    pub outcome: &'static str,
    /// The commit that visitors get.
    pub commit: Option<ObjectId>,
    /// The time that the switch took, in seconds.
    pub switch_seconds: f64,
    /// The requests during the watch.
    pub requests: u64,
    /// The requests that failed.
    pub failures: u64,
    /// The median response time, in milliseconds.
    pub p50_ms: u128,
    /// The 99th percentile of the response time, in milliseconds.
    pub p99_ms: u128,
    /// The servers that responded, by their `X-Served-By`.
    pub answered_by: Vec<String>,
    /// One line that can be pasted into a chat.
    pub summary: String,
}

impl Promoted {
    /// Describes a successful promotion; its summary is still empty. `took` is the time of the switch.
    fn new(plan: &Plan, watched: Watched, took: Duration) -> Self {
        Self {
            from: plan.from.clone(),
            to: plan.to.clone(),
            public: plan.to.clone(),
            outcome: "live",
            commit: plan.commit,
            switch_seconds: took.as_secs_f64(),
            requests: watched.requests(),
            failures: watched.failures,
            p50_ms: watched.percentile(50).as_millis(),
            p99_ms: watched.percentile(99).as_millis(),
            answered_by: watched.servers.into_iter().collect(),
            summary: String::new(),
        }
    }
}

/// Promotes the side of the plan.
pub fn promote(
    topology: &Topology,
    prepared: Prepared,
    intent: &PromoteIntent,
    stop: &Stop,
    report: &Report,
) -> Result<Promoted> {
    let (observer, Prepared { plan, standby, heartbeat }) = (&topology.observer, prepared);
    let plan = &plan;
    let context = &PromoteContext { topology, plan, intent, stop, report };
    let (mut holds, shown) = lock_and_check(context, standby, &heartbeat)?;
    let canary = Run::prepare(context, shown.split.is_some())?;
    let limit = limit(context)?;
    all(concurrent::map(&mut holds, |hold| hold.confirm()), report)?;
    stop.check()?;
    let begun = (SystemTime::now(), Instant::now());
    let mut watched = Watched::default();
    let mut took = Duration::ZERO;
    let handover = Handover::default();
    // Even a panic must not leave visitors at an unchecked side.
    let result = catch_unwind(AssertUnwindSafe(|| {
        if let Some(canary) = &canary {
            canary.run(limit, &mut watched)?;
        }
        let has_waited = canary.is_some();
        if handover.run(context, &holds)? || has_waited {
            // That may have taken a while.
            all(concurrent::map(&holds, Hold::confirm), report)?;
            stop.check()?;
        }
        let set_at = Instant::now();
        if !plan.is_public() || shown.split.is_some() {
            observer.step(Step::Set);
            set(context)?;
        }
        took = set_at.elapsed();
        report.line(format_args!("The front end shows {} after {}.", plan.to, seconds(took)));
        observer.step(Step::Watch);
        watch_public(context, limit, &mut watched)
    }));
    let result = result.unwrap_or_else(|_| Err(Error::Internal("the watch panicked".into())));
    let result = result.or_else(|error| finish::go_back(context, error));
    if result.as_ref().is_err_and(|error| !matches!(error, Error::Afterwards(_))) {
        handover.undo(context, &mut holds, &heartbeat);
    }
    observer.step(Step::Mark);
    let result = finish::finish(context, &mut holds, begun, &watched, result);
    if result.is_ok() {
        drain::wait(context);
    }
    finish::release_locks(holds, &topology.sides[&plan.to], report);
    result.map(|()| Promoted::new(plan, watched, took))
}

/// Locks all servers and checks the side. Returns the locks, and the side that the front end shows now.
fn lock_and_check(
    context: &PromoteContext,
    standby: Vec<Standby>,
    heartbeat: &Heartbeat,
) -> Result<(Vec<Hold>, Shown)> {
    let &PromoteContext { topology, plan, stop, report, .. } = context;
    topology.observer.step(Step::Hold);
    let take_locks = || {
        let holds = hold_all(topology, &plan.states, standby, heartbeat, stop, report)?;
        // An operator may have locked a server since the look.
        refuse_frozen(holds.iter().map(|hold| (topology.side_of(hold.url()), hold.url(), &hold.status)))?;
        topology.observer.step(Step::Check);
        Ok(holds)
    };
    let show = || {
        let shown = topology.switch.shown(Some(stop))?;
        let is_same = shown.public == plan.from;
        if is_same { Ok(shown) } else { Err(Error::Changed("another side became public".into())) }
    };
    let (holds, shown, pages) = check::check_pages_while(context, take_locks, show)?;
    check::check_side(context, pages)?;
    Ok((holds, shown))
}

/// Runs the switch, and checks what the front end shows then.
fn set(context: &PromoteContext) -> Result<()> {
    let &PromoteContext { topology, plan, intent, report, .. } = context;
    report.line(format_args!("Switching to {}...", plan.to));
    let result = topology.switch.set(&plan.to, intent.force);
    let shown = topology.switch.shown(None)?;
    if shown.public.as_ref() == Some(&plan.to) && shown.split.is_none() {
        // It has done its work, whatever it reports.
        return Ok(());
    }
    result?;
    Err(Error::NotSwitched(shown.to_string()))
}

/// The maximum time for which the old side is measured.
const MEASURE: Duration = Duration::from_secs(10);

/// Returns the limit of the response time. A relative one needs the old side's, which is measured where visitors get it.
fn limit(context: &PromoteContext) -> Result<Option<Duration>> {
    let &PromoteContext { topology, plan, intent, stop, report } = context;
    let config = &topology.config;
    let Some(limit) = config.watch.p99.filter(|_| !intent.force) else { return Ok(None) };
    let (Limit::Relative(_), Some(from), false) = (limit, &plan.from, plan.is_public()) else {
        return Ok(limit.time(None));
    };
    let what = format!("Measuring {from}...");
    report.line(&what);
    topology.observer.waiting(what);
    let mut measured = Watched::default();
    let rules = Rules {
        duration: config.watch.duration(&config.check).min(MEASURE),
        tolerate: u64::MAX,
        limit: None,
        percent: 100,
        foreign: &[],
        commands: Vec::new(),
        observer: Observer::default(),
    };
    watch(&config.public.url, &config.check.paths, &rules, stop, &mut measured, (MEASURE, |_: &str| ()))?;
    let p99 = measured.p99_of_good();
    let limit = limit.time(p99);
    if let (Some(p99), Some(limit)) = (p99, limit) {
        let (p99, limit) = (p99.as_millis(), limit.as_millis());
        report.line(format_args!("Measured {from}: p99 {p99} ms. The limit for {} is {limit} ms.", plan.to));
    } else {
        let (good, requests) = (measured.good_times.len(), count(measured.requests(), "response"));
        report.warning(format_args!(
            "cannot measure {from}: only {good} of {requests} succeeded; continuing without the limit of `p99`"
        ));
    }
    Ok(limit)
}

/// Watches what visitors get, and warns if the side that responds cannot be identified.
fn watch_public(context: &PromoteContext, limit: Option<Duration>, watched: &mut Watched) -> Result<()> {
    let &PromoteContext { topology, plan, intent, stop, report } = context;
    let (config, to) = (&topology.config, &plan.to);
    let url = &config.public.url;
    let (own, foreign) = plan.distinct_names(to);
    let variables = check::variables(topology, plan);
    let duration = config.watch.duration(&config.check);
    topology.observer.waiting(format!("Watching {url} for {}...", humantime::format_duration(duration)));
    let mut rules = Rules {
        duration,
        tolerate: config.watch.tolerate(&config.check),
        limit,
        percent: 100,
        foreign: &foreign,
        commands: check::watch_commands(topology, &variables),
        observer: topology.observer.clone(),
    };
    if intent.force {
        // The side is known to be unhealthy, and what was public before may be worse.
        rules.tolerate = u64::MAX;
        rules.commands.clear();
    }
    watch(url, &config.check.paths, &rules, stop, watched, progress(report, duration))?;
    let is_seen = |names: &[String]| watched.servers.iter().any(|server| names.contains(server));
    if watched.requests() == 0 || is_seen(&own) {
        return Ok(());
    }
    if is_seen(&foreign) && !intent.force {
        return Err(Error::WrongSide { side: to.clone(), url: url.clone() });
    }
    report.warning(format_args!(
        "cannot confirm that visitors reach {to}: no response from {url} has the `X-Served-By` of one of its servers"
    ));
    report.hint("have each site send its server's name as `X-Served-By`, as docs/howto/promote.md shows");
    Ok(())
}

/// Sums a promotion up in one line that can be pasted into a chat.
#[must_use]
pub fn summary(done: &Promoted, took: Duration) -> String {
    let instead = done.from.as_ref().filter(|from| **from != done.to);
    format!(
        "{} is public{}: {}, {} failed, p99 {} ms, {} in all.",
        done.to,
        instead.map_or_else(String::new, |from| format!(" instead of {from}")),
        count(done.requests, "request"),
        done.failures,
        done.p99_ms,
        seconds(took)
    )
}

/// Formats which side is public after a failure; `public` is `None` if the front end does not report it.
#[must_use]
pub fn verdict(public: Option<&str>, error: Option<&Error>) -> String {
    let begun = if matches!(error, Some(Error::Afterwards(_))) {
        "Promoted, but something failed afterwards"
    } else {
        "Not promoted"
    };
    match (public, error) {
        (Some(side), Some(Error::WentBack(_, None))) => {
            format!("{begun}: {side} is public again, and healthy.")
        }
        (Some(side), Some(Error::WentBack(_, Some(problem)))) => {
            format!("{begun}: {side} is public again, but {problem}.")
        }
        (Some(side), _) => format!("{begun}: {side} is public."),
        (None, _) => format!("{begun}: the front end does not report which side is public."),
    }
}
