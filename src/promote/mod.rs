//! A promotion: visitors get the other side. The order stands in [`promote`]: look, hold, check, set, watch,
//! mark; nothing is switched before all that comes before it holds.
//!
//! Its last line always says which side is public, as the front end itself shows it.

pub mod check;
pub mod config;
pub mod ending;
pub mod hold;
pub mod look;
pub mod program;
pub mod push;
pub mod side;
pub mod ssh;
pub mod switch;
pub mod watch;

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bluegreen_text::{count, seconds};
use serde::Serialize;

use self::hold::Hold;
use self::look::{Front, Plan, all};
use self::side::{Remote, State, at_once};
use self::watch::{Watched, watch};
use crate::error::{Error, Result};
use crate::pusher::report::Report;
use crate::run::signals::Stop;

/// The options of `promote`, as they were given.
#[derive(Debug)]
pub struct PromoteIntent<'a> {
    /// The side; without one, the one that is not public.
    pub side: Option<&'a str>,
    /// True if nobody is to be asked.
    pub yes: bool,
    /// True if nothing is to be changed.
    pub dry_run: bool,
    /// True if a side that is not well is no obstacle.
    pub force: bool,
}

/// The result, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Promoted {
    /// The side that was public before.
    pub from: Option<String>,
    /// The side that is public now.
    pub to: String,
    /// The same, as a failure says it too.
    pub public: String,
    /// Always `live`; a failure says `failed`.
    pub outcome: &'static str,
    /// The commit that visitors get.
    pub commit: Option<String>,
    /// The time that the switch took, in seconds.
    pub switch_seconds: f64,
    /// The requests while it watched.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// The median time of an answer, in milliseconds.
    pub p50_ms: u128,
    /// The time in which 99 of 100 answers came, in milliseconds.
    pub p99_ms: u128,
    /// The servers that answered, by their `X-Served-By`.
    pub answered_by: Vec<String>,
    /// One line that can be pasted into a chat.
    pub summary: String,
}

/// Promotes the side of the plan.
pub fn promote(
    front: &Front,
    plan: &Plan,
    intent: &PromoteIntent,
    stop: &Stop,
    report: &Report,
) -> Result<Promoted> {
    let mut holds = hold_all(front, &plan.states, stop, report)?;
    if front.switch.show(Some(stop))? != plan.from {
        return Err(changed("another side became public in the meantime"));
    }
    check_side(front, plan, intent, stop, report)?;
    all(at_once(&mut holds, |hold| hold.confirm()), report)?;
    stop.check()?;
    let begun = (SystemTime::now(), Instant::now());
    let mut watched = Watched::default();
    let switched = if plan.is_public() { Ok(()) } else { set(front, plan, intent, report) };
    let took = begun.1.elapsed();
    let result = switched.and_then(|()| {
        report.line(format_args!("The front end shows {} after {}.", plan.to, seconds(took)));
        watch_public(front, plan, intent, stop, report, &mut watched)
    });
    let result = result.or_else(|error| ending::go_back(front, plan, error, report));
    let result = ending::finish(front, plan, &mut holds, begun, &watched, result);
    ending::let_go(holds, &front.sides[&plan.to], report);
    result.map(|()| Promoted {
        from: plan.from.clone(),
        to: plan.to.clone(),
        public: plan.to.clone(),
        outcome: "live",
        commit: plan.commit.clone(),
        switch_seconds: took.as_secs_f64(),
        requests: watched.requests(),
        failures: watched.failures,
        p50_ms: watched.percentile(50).as_millis(),
        p99_ms: watched.percentile(99).as_millis(),
        answered_by: watched.servers.into_iter().collect(),
        summary: String::new(),
    })
}

/// Holds all servers of both sides. Only who holds the first of them waits for the others, so that no two
/// promotions wait for each other.
pub fn hold_all(
    front: &Front,
    states: &[(String, State)],
    stop: &Stop,
    report: &Report,
) -> Result<Vec<Hold>> {
    let is_there = |server: &&Remote| states.iter().any(|(url, _)| *url == server.url);
    let mut servers: Vec<_> = front.sides.values().flatten().filter(is_there).collect();
    servers.sort_by(|a, b| a.url.cmp(&b.url));
    let (first, others) = servers.split_at(servers.len().min(1));
    let mut holds = hold_at_once(first, stop, report)?;
    holds.extend(hold_at_once(others, stop, report)?);
    for hold in &holds {
        let before = states.iter().find(|(url, _)| url == hold.url());
        if before.is_none_or(|(_, state)| (&state.live, state.good) != (&hold.state.live, hold.state.good)) {
            return Err(changed(&format!("`{}` got another release in the meantime", hold.url())));
        }
    }
    Ok(holds)
}

fn hold_at_once(servers: &[&Remote], stop: &Stop, report: &Report) -> Result<Vec<Hold>> {
    let (sender, holders) = channel();
    let holds = thread::scope(|scope| {
        let taking = scope.spawn(move || {
            at_once(servers, |server| {
                Hold::take(server, stop, |holder| {
                    // Only who has given up does not listen.
                    let _ = sender.send(format!("Waiting for {holder} at {}...", server.url));
                })
            })
        });
        for line in holders {
            report.line(line);
        }
        taking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    all(holds, report)
}

fn changed(problem: &str) -> Error {
    Error::Promotion {
        problem: problem.into(),
        hint: "look with `bluegreen public`, then promote again".into(),
    }
}

/// Checks every path of every server of the side, at its own address.
fn check_side(
    front: &Front,
    plan: &Plan,
    intent: &PromoteIntent,
    stop: &Stop,
    report: &Report,
) -> Result<()> {
    let check = &front.config.check;
    let (_, foreign) = plan.told_apart(&plan.to);
    let servers = &front.sides[&plan.to];
    let asked = servers.iter().flat_map(|server| check.paths.iter().map(move |path| (server, path)));
    let checked = at_once(asked, |(server, path)| {
        let (url, address) = (check::place(&front.config.public.url, path), &server.address);
        let ask = || check::ask(&url, Some(address)).map(|answer| answer.not_from(&foreign));
        let problem = check::until_healthy((check.healthy, check.within), Some(stop), ask)?;
        let error = |problem| Error::Promotion {
            problem: format!("{path} of `{}` at {address} {problem}", server.url),
            hint: format!("see why with {}; `--force` promotes it as it is", check::try_it(&url, address)),
        };
        problem.map_or(Ok(()), |problem| Err(error(problem)))
    });
    let (unwell, checked): (Vec<_>, Vec<_>) = checked
        .into_iter()
        .partition(|result| intent.force && matches!(result, Err(Error::Promotion { .. })));
    for error in unwell.into_iter().filter_map(Result::err) {
        report.warning(error);
    }
    all(checked, report)?;
    report.line(format_args!("Checked {}: {}.", plan.to, count(servers.len() as u64, "server")));
    Ok(())
}

/// Sets the switch, and believes only what the front end shows then.
fn set(front: &Front, plan: &Plan, intent: &PromoteIntent, report: &Report) -> Result<()> {
    report.line(format_args!("Switching to {}...", plan.to));
    let result = front.switch.set(&plan.to, intent.force);
    let shown = front.switch.show(None)?;
    if shown.as_ref() == Some(&plan.to) {
        // It did what it was to do, whatever it says of it.
        return Ok(());
    }
    result?;
    Err(Error::Promotion {
        problem: format!(
            "the switch says that all is well, but the front end shows {}",
            named(shown.as_deref())
        ),
        hint: "look whether something else changes it, and run the switch by hand, as docs/reference/switches.md shows"
            .into(),
    })
}

/// Watches what visitors get, and says so where nobody can see which side that is.
fn watch_public(
    front: &Front,
    plan: &Plan,
    intent: &PromoteIntent,
    stop: &Stop,
    report: &Report,
    watched: &mut Watched,
) -> Result<()> {
    let (url, to) = (&front.config.public.url, &plan.to);
    let (own, foreign) = plan.told_apart(to);
    let mut check = front.config.check.clone();
    if intent.force {
        // Whoever insists knows that it is not well, and wants no way back to what is worse.
        check.tolerate = u64::MAX;
    }
    let show = |line: &str| {
        let line = format!("  {line}");
        if report.is_at_terminal() { report.progress(line) } else { report.line(line) }
    };
    // A log gets a few lines, not one each second.
    let pause = if report.is_at_terminal() {
        Duration::from_secs(1)
    } else {
        (check.watch / 3).min(Duration::from_secs(10))
    };
    watch(url, &check, &foreign, stop, watched, (pause, show))?;
    let is_seen = |names: &[String]| watched.servers.iter().any(|server| names.contains(server));
    if watched.requests() == 0 || is_seen(&own) {
        return Ok(());
    }
    if is_seen(&foreign) && !intent.force {
        return Err(Error::Promotion {
            problem: format!("no server of {to} answers at {url}, only the other side does"),
            hint: "look whether something else than the switch sends visitors to a side".into(),
        });
    }
    report.warning(format_args!(
        "no answer at {url} names a server of {to}: that visitors get {to}, only the front end says"
    ));
    report.hint("let each site send its server's name as `X-Served-By`: docs/howto/promote.md shows how");
    Ok(())
}

/// Names a side, or nothing.
#[must_use]
pub fn named(side: Option<&str>) -> &str {
    side.unwrap_or("no side")
}

/// Sums a promotion up in one line that can be pasted into a chat.
#[must_use]
pub fn summary(done: &Promoted, took: Duration) -> String {
    format!(
        "{} is public, before it was {}: {}, {} failed, p99 {} ms, {} in all.",
        done.to,
        named(done.from.as_deref()),
        count(done.requests, "request"),
        done.failures,
        done.p99_ms,
        seconds(took)
    )
}
