//! A promotion: visitors get the other side. The order stands in [`promote`]: look, hold, check, set, watch,
//! mark; nothing is switched before all that comes before it holds.
//!
//! Its last line always says which side is public, as the front end itself shows it.

pub mod check;
pub mod config;
pub mod hold;
pub mod look;
pub mod program;
pub mod push;
pub mod side;
pub mod switch;
pub mod watch;

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use serde_json::json;

use self::hold::Hold;
use self::look::{Front, Plan};
use self::side::Remote;
use self::watch::{Watched, watch};
use crate::error::{Error, Result};
use crate::pusher::report::Report;
use crate::run::signals::Stop;
use crate::text::{count, seconds, timestamp};

/// The wish of whoever called `promote`.
#[derive(Debug)]
pub struct Wish<'a> {
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
}

/// Promotes the side of the plan.
pub fn promote(front: &Front, plan: &Plan, wish: &Wish, stop: &Stop, report: &Report) -> Result<Promoted> {
    let holds = hold_all(front, plan, stop, report)?;
    if front.switch.show(Some(stop))? != plan.from {
        return Err(changed("another side became public in the meantime"));
    }
    check_side(front, plan, wish, stop, report)?;
    for hold in &holds {
        hold.confirm()?;
    }
    stop.check()?;
    let begun = (SystemTime::now(), Instant::now());
    let mut watched = Watched::default();
    let switched = if plan.is_public() { Ok(()) } else { set(front, plan, wish) };
    let took = begun.1.elapsed();
    let result = switched.and_then(|()| {
        report.line(format_args!("The front end shows {} after {}.", plan.to, seconds(took)));
        let foreign = front.servers_only_of_other(plan);
        let show = |line: &str| report.progress(format_args!("  {line}"));
        let mut check = front.config.check.clone();
        if wish.force {
            // Whoever insists knows that it is not well, and wants no way back to what is worse.
            check.tolerate = u64::MAX;
        }
        watch(&front.config.public.url, &check, &foreign, stop, &mut watched, show)
    });
    let result = result.or_else(|error| go_back(front, plan, error, report));
    let result = finish(front, plan, &holds, begun, &watched, result);
    notify(holds, &front.sides[&plan.to], report);
    result.map(|()| Promoted {
        from: plan.from.clone(),
        to: plan.to.clone(),
        public: plan.to.clone(),
        outcome: "live",
        commit: plan.commit.clone(),
        switch_seconds: took.as_secs_f64(),
        requests: watched.requests(),
        failures: watched.failures + watched.strangers,
        p50_ms: watched.percentile(50).as_millis(),
        p99_ms: watched.percentile(99).as_millis(),
    })
}

/// Holds all servers of both sides, in the order of their addresses, so that no two promotions wait for each
/// other.
fn hold_all(front: &Front, plan: &Plan, stop: &Stop, report: &Report) -> Result<Vec<Hold>> {
    let is_there = |server: &&Remote| plan.states.iter().any(|(url, _)| *url == server.url);
    let mut servers: Vec<_> = front.sides.values().flatten().filter(is_there).collect();
    servers.sort_by(|a, b| a.url.cmp(&b.url));
    let mut holds = Vec::new();
    for server in servers {
        let hold = Hold::take(server, stop, |holder| report.line(format_args!("Waiting for {holder}...")))?;
        let before = plan.states.iter().find(|(url, _)| *url == server.url);
        if before.is_none_or(|(_, state)| (&state.live, state.good) != (&hold.state.live, hold.state.good)) {
            return Err(changed(&format!("`{}` got another release in the meantime", server.url)));
        }
        holds.push(hold);
    }
    Ok(holds)
}

fn changed(problem: &str) -> Error {
    Error::Promotion {
        problem: problem.into(),
        hint: "look with `bluegreen public`, then promote again".into(),
    }
}

/// Checks every path of every server of the side, at its own address.
fn check_side(front: &Front, plan: &Plan, wish: &Wish, stop: &Stop, report: &Report) -> Result<()> {
    let (check, url) = (&front.config.check, &front.config.public.url);
    for server in &front.sides[&plan.to] {
        for path in &check.paths {
            let what = format!("{path} of `{}` at {}", server.url, server.address);
            let ask = || check::ask(url, path, Some(&server.address));
            match check::until_healthy(check.healthy, check.within, stop, &what, ask) {
                Err(error @ Error::Promotion { .. }) if wish.force => report.warning(error),
                result => result?,
            }
        }
    }
    let asked = front.sides[&plan.to].len() as u64;
    report.line(format_args!("Checked {}: {}.", plan.to, count(asked, "server")));
    Ok(())
}

/// Sets the switch, and believes only what the front end shows then.
fn set(front: &Front, plan: &Plan, wish: &Wish) -> Result<()> {
    let result = front.switch.set(&plan.to, wish.force);
    let shown = front.switch.show(None)?;
    if shown.as_ref() == Some(&plan.to) {
        // It did what it was to do, whatever it says of it.
        return Ok(());
    }
    result?;
    Err(Error::Promotion {
        problem: format!("the switch says that all is well, but {} is public", named(shown.as_deref())),
        hint: "run it by hand, as docs/switches.md shows".into(),
    })
}

/// Goes back to the side before. The error stays the reason; with [`Error::AfterFlip`] the new side is
/// public nevertheless.
fn go_back(front: &Front, plan: &Plan, error: Error, report: &Report) -> Result<()> {
    let is_new = |shown: &Option<String>| shown.as_ref() == Some(&plan.to);
    let shown = front.switch.show(None);
    if plan.is_public() || shown.as_ref().is_ok_and(|shown| *shown == plan.from) {
        return Err(error);
    }
    let Some(from) = &plan.from else {
        return Err(if shown.as_ref().is_ok_and(|shown| !is_new(shown)) {
            error
        } else {
            Error::AfterFlip(Box::new(error))
        });
    };
    report.line(format_args!("Going back to {from}: {error}"));
    // What visitors had before is better than what they have now, however it is.
    let back = front.switch.set(from, true);
    match front.switch.show(None) {
        Ok(shown) if shown.as_ref() == Some(from) => {
            let answer = check::ask(&front.config.public.url, &front.config.check.paths[0], None)?;
            if !answer.is_good() {
                report.warning(format!(
                    "{} {} after going back too",
                    front.config.public.url,
                    answer.words()
                ));
            }
            Err(error)
        }
        _ => {
            if let Err(stuck) = back {
                report.warning(stuck);
            }
            Err(Error::AfterFlip(Box::new(error)))
        }
    }
}

/// Writes marks and histories. What fails here changes nothing about who is public.
fn finish(
    front: &Front,
    plan: &Plan,
    holds: &[Hold],
    begun: (SystemTime, Instant),
    watched: &Watched,
    result: Result<()>,
) -> Result<()> {
    let public = match front.switch.show(None) {
        Ok(public) => public,
        // Nobody knows who is public: the marks stay, and the next `public` puts them right.
        Err(error) => return Err(Error::AfterFlip(Box::new(result.err().unwrap_or(error)))),
    };
    let outcome = if public.as_ref() == Some(&plan.to) { "live" } else { "failed" };
    let entry = json!({
        "time": timestamp(begun.0), "action": "promote", "by": {"user": ""}, "release": null,
        "old": plan.old, "new": plan.commit, "seconds": begun.1.elapsed().as_secs_f64(), "outcome": outcome,
        "error": result.as_ref().err().map(ToString::to_string),
        "promotion": {"from": plan.from, "to": plan.to, "requests": watched.requests(),
            "failures": watched.failures + watched.strangers},
    });
    let mut marked = Ok(());
    for hold in holds {
        let is_public = front.sides.iter().any(|(side, servers)| {
            public.as_ref() == Some(side) && servers.iter().any(|server| server.url == hold.url)
        });
        let both = hold.mark(is_public).and_then(|()| hold.record(&entry));
        marked = marked.and(both);
    }
    result.and(marked.map_err(|error| Error::AfterFlip(Box::new(error))))
}

/// Lets every server go, and has the first of the side run its `[notify]`: there is one promotion to tell
/// of, however many servers recorded it.
fn notify(mut holds: Vec<Hold>, side: &[Remote], report: &Report) {
    let first = holds.iter().position(|hold| side.first().is_some_and(|server| server.url == hold.url));
    let first = first.map(|at| holds.swap_remove(at));
    drop(holds);
    for warning in first.map(Hold::notify).unwrap_or_default() {
        report.warning(warning);
    }
}

/// Puts the marks right, under holds. It does nothing before the first promotion.
pub fn mark(front: &Front, plan: &Plan, stop: &Stop, report: &Report) -> Result<()> {
    let holds = hold_all(front, plan, stop, report)?;
    let public = front.switch.show(Some(stop))?;
    for hold in &holds {
        let servers = public.as_ref().and_then(|side| front.sides.get(side));
        hold.mark(servers.is_some_and(|servers| servers.iter().any(|server| server.url == hold.url)))?;
    }
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
