//! The order of a promotion: look, hold, check, set, watch, mark. Nothing is switched before the first three have
//! succeeded. The last line always names the public side, as the front end itself shows it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bluegreen_sys::parallel;
use bluegreen_text::{count, seconds};
use serde::Serialize;

use crate::canary::Run;
use crate::check_config::Limit;
use crate::error::{Error, Result};
use crate::hold::{Heartbeat, Hold};
use crate::observer::{Observer, Step};
use crate::plan::{Plan, PromoteIntent, ServerStatus, Topology, all, refuse_frozen};
use crate::progress::{Progress, SILENT};
use crate::remote::Remote;
use crate::role::Handover;
use crate::watch::{Rules, Watched, progress, watch};
use crate::{check, drain, finish};
use bluegreen_object_store::ObjectId;
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
    /// The same, under the name that a failure has too.
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
    /// The servers that answered, by their `X-Served-By`.
    pub answered_by: Vec<String>,
    /// One line that can be pasted into a chat.
    pub summary: String,
}

/// Promotes the side of the plan.
pub fn promote(
    topology: &Topology,
    plan: &Plan,
    intent: &PromoteIntent,
    stop: &Stop,
    report: &Report,
) -> Result<Promoted> {
    let observer = &topology.observer;
    observer.step(Step::Hold);
    let heartbeat = Heartbeat::start()?;
    let mut holds = hold_all(topology, &plan.states, &heartbeat, stop, report)?;
    // Somebody may have locked a server since the look.
    refuse_frozen(holds.iter().map(|hold| (topology.side_of(hold.url()), hold.url(), &hold.status)))?;
    let shown = topology.switch.shown(Some(stop))?;
    if shown.public != plan.from {
        return Err(Error::Changed("another side became public".into()));
    }
    observer.step(Step::Check);
    check::check_side(topology, plan, intent, stop, report)?;
    let canary = Run::prepare(topology, plan, intent, shown.split.is_some(), stop, report)?;
    let limit = limit(topology, plan, intent, stop, report)?;
    all(concurrent::map(&mut holds, |hold| hold.confirm()), report)?;
    stop.check()?;
    let begun = (SystemTime::now(), Instant::now());
    let mut watched = Watched::default();
    let mut took = Duration::ZERO;
    let handover = Handover::default();
    // Even a panic must not leave visitors at a side that nobody has checked.
    let result = catch_unwind(AssertUnwindSafe(|| {
        if let Some(canary) = &canary {
            canary.run(limit, &mut watched)?;
        }
        let has_waited = canary.is_some();
        if handover.run(topology, plan, &holds, report)? || has_waited {
            // That may have taken a while.
            all(concurrent::map(&holds, Hold::confirm), report)?;
            stop.check()?;
        }
        let set_at = Instant::now();
        if !plan.is_public() || shown.split.is_some() {
            observer.step(Step::Set);
            set(topology, plan, intent, report)?;
        }
        took = set_at.elapsed();
        report.line(format_args!("The front end shows {} after {}.", plan.to, seconds(took)));
        observer.step(Step::Watch);
        watch_public(topology, plan, intent, stop, report, (limit, &mut watched))
    }));
    let result = result.unwrap_or_else(|_| Err(Error::Internal("the watch panicked".into())));
    let result = result.or_else(|error| finish::go_back(topology, plan, error, report));
    if result.as_ref().is_err_and(|error| !matches!(error, Error::Afterwards(_))) {
        handover.undo(topology, plan, &mut holds, &heartbeat, report);
    }
    observer.step(Step::Mark);
    let result = finish::finish(topology, plan, &mut holds, begun, &watched, result);
    if result.is_ok() {
        drain::wait(topology, plan, stop, report);
    }
    finish::release_locks(holds, &topology.sides[&plan.to], report);
    result.map(|()| Promoted {
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
    })
}

/// Locks all servers of both sides. A promotion waits for the other servers only while it holds the first one, so that
/// two promotions cannot deadlock.
pub fn hold_all(
    topology: &Topology,
    states: &[ServerStatus],
    heartbeat: &Heartbeat,
    stop: &Stop,
    report: &Report,
) -> Result<Vec<Hold>> {
    let is_there = |server: &&Remote| states.iter().any(|state| state.url == server.url);
    let mut servers: Vec<_> = topology.sides.values().flatten().filter(is_there).collect();
    servers.sort_by(|a, b| a.url.cmp(&b.url));
    let protocol = |server: &Remote| {
        states.iter().find(|state| state.url == server.url).map_or(1, |state| state.status.protocol)
    };
    let (first, others) = servers.split_at(servers.len().min(1));
    let mut holds = hold_together(first, &protocol, heartbeat, stop, report)?;
    holds.extend(hold_together(others, &protocol, heartbeat, stop, report)?);
    for hold in &holds {
        let before = states.iter().find(|state| state.url == hold.url()).map(|state| &state.status);
        if before.is_none_or(|before| (&before.live, before.good) != (&hold.status.live, hold.status.good)) {
            return Err(Error::Changed(format!("`{}` got another release", hold.url())));
        }
    }
    Ok(holds)
}

/// Progress reports while locks are taken.
enum Event {
    /// A line about the holder of a lock.
    Holder(String),
    /// The indices of the servers that are not locked yet, every second.
    Unfinished(Vec<usize>),
}

fn hold_together(
    servers: &[&Remote],
    protocol: &(dyn Fn(&Remote) -> u32 + Sync),
    heartbeat: &Heartbeat,
    stop: &Stop,
    report: &Report,
) -> Result<Vec<Hold>> {
    let (sender, events) = channel();
    let take = |server: &&Remote, announce: &dyn Fn(String)| {
        Hold::take(server, protocol(server), heartbeat, stop, |holder| {
            announce(format!("Waiting for {holder} at {}...", server.url));
        })
    };
    let mut progress = Progress::new(report, "be locked", SILENT);
    let holds = thread::scope(|scope| {
        let taking = parallel::spawn(scope, move || {
            // The receiver hangs up only after it has given up.
            let send = |event| sender.send(event).unwrap_or_default();
            concurrent::map_with_progress(
                servers,
                |server| take(server, &|line| send(Event::Holder(line))),
                |unfinished| send(Event::Unfinished(unfinished.to_vec())),
            )
        });
        let Ok(taking) = taking else {
            return servers.iter().map(|server| take(server, &|line| report.line(line))).collect();
        };
        for event in events {
            match event {
                Event::Holder(line) => report.line(line),
                Event::Unfinished(unfinished) => {
                    progress.show(unfinished.iter().map(|&at| servers[at].host()).collect());
                }
            }
        }
        taking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    report.end_progress();
    all(holds, report)
}

/// Runs the switch, and checks what the front end shows then.
fn set(topology: &Topology, plan: &Plan, intent: &PromoteIntent, report: &Report) -> Result<()> {
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

/// The number of seconds for which the old side is measured, at most.
const MEASURE: Duration = Duration::from_secs(10);

/// Returns the limit of the response time. A relative one needs the old side's, which is measured where visitors get it.
fn limit(
    topology: &Topology,
    plan: &Plan,
    intent: &PromoteIntent,
    stop: &Stop,
    report: &Report,
) -> Result<Option<Duration>> {
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
    let limit = limit.time(Some(measured.percentile(99)));
    if let Some(limit) = limit {
        let (p99, limit) = (measured.percentile(99).as_millis(), limit.as_millis());
        report.line(format_args!("Measured {from}: p99 {p99} ms. The limit for {} is {limit} ms.", plan.to));
    }
    Ok(limit)
}

/// Watches what visitors get, and warns if the side that answers cannot be identified.
fn watch_public(
    topology: &Topology,
    plan: &Plan,
    intent: &PromoteIntent,
    stop: &Stop,
    report: &Report,
    (limit, watched): (Option<Duration>, &mut Watched),
) -> Result<()> {
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

/// Says after a failure which side is public; `None` if the front end does not report it.
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
