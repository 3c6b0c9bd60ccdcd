//! `promote`: visitors get the other side.

use std::io::{BufRead, IsTerminal, stdin};
use std::time::Instant;

use bluegreen_text::explain::Explain;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::table::print_json;
use crate::cli::Promotable;
use crate::error::{Error, Result};
use crate::promote::look::Front;
use crate::promote::ssh::Client;
use crate::promote::{PromoteIntent, named, promote, summary};
use crate::pusher::report::Report;
use crate::run::signals::Stop;

/// Promotes a side; the last line says who is public.
pub fn run(options: &Promotable, intent: &PromoteIntent, report: &Report) -> Result<()> {
    let front = Front::open(options.config.as_deref(), &ssh_client())?;
    let stop = Stop::catch(false);
    let beside;
    let lines = if options.json {
        beside = report.beside_json()?;
        &beside
    } else {
        report
    };
    go(&front, options, intent, &stop, lines).map_err(|error| {
        lines.error(&error);
        let public = front.switch.show(None);
        let last = last_line(public.as_ref().ok().map(|public| named(public.as_deref())), &error);
        lines.line(&last);
        let failed = serde_json::json!({
            "public": public.as_ref().ok(), "outcome": "failed", "error": error.to_string(), "hint": error.hint(),
            "summary": last,
        });
        let printed = if options.json { print_json(&failed) } else { Ok(()) };
        printed.err().unwrap_or(Error::Reported(Box::new(error)))
    })
}

/// The ssh client of whoever promotes or pushes, as git finds it.
pub fn ssh_client() -> Client {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Client::find(variable("GIT_SSH_COMMAND"), variable("GIT_SSH"))
}

fn last_line(public: Option<&str>, error: &Error) -> String {
    let begun =
        if matches!(error, Error::AfterFlip(_)) { "Promoted, but not all is well" } else { "Not promoted" };
    match (public, error) {
        (Some(side), Error::WentBack(_, None)) => format!("{begun}: {side} is public again, and answers."),
        (Some(side), Error::WentBack(_, Some(problem))) => {
            format!("{begun}: {side} is public again, but {problem}.")
        }
        (Some(side), _) => format!("{begun}: {side} is public."),
        (None, _) => format!("{begun}: the front end does not say who is public."),
    }
}

fn go(
    front: &Front,
    options: &Promotable,
    intent: &PromoteIntent,
    stop: &Stop,
    report: &Report,
) -> Result<()> {
    let started = Instant::now();
    let plan = front.plan(intent, stop, report)?;
    for line in plan.lines() {
        report.line(line);
    }
    if intent.dry_run {
        return if options.json { print_json(&plan) } else { Ok(()) };
    }
    for reason in &plan.left_out {
        report.warning(format_args!("{reason}: it is neither held nor marked"));
    }
    if !intent.yes && !plan.is_public() {
        ask(stop, report)?;
    }
    let mut done = promote(front, &plan, intent, stop, report)?;
    done.summary = summary(&done, started.elapsed());
    report.line(&done.summary);
    if options.json { print_json(&done) } else { Ok(()) }
}

/// Returns whether standard input can be read, after a moment at most.
fn has_input() -> Result<bool> {
    let (stdin, moment) = (stdin(), Timespec { tv_sec: 0, tv_nsec: 100_000_000 });
    let mut descriptors = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut descriptors, Some(&moment)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(Error::io("read", "standard input")(error.into())),
    }
}

fn ask(stop: &Stop, report: &Report) -> Result<()> {
    if !stdin().is_terminal() {
        return Err(Error::Usage("nobody can be asked: add `--yes`".into()));
    }
    report.line("Go ahead? [y/N]");
    // Reading alone would go on after Ctrl-C, until somebody types.
    while !has_input()? {
        stop.check()?;
    }
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer).map_err(Error::io("read", "standard input"))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Error::Cancelled) }
}
