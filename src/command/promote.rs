//! `promote`: visitors get the other side.

use std::io::{BufRead, IsTerminal, stdin};
use std::time::Instant;

use super::table::print_json;
use crate::cli::Promotable;
use crate::error::{Error, Result};
use crate::promote::look::Front;
use crate::promote::{Wish, named, promote, summary};
use crate::pusher::report::Report;
use crate::run::signals::Stop;

/// Promotes a side; the last line says who is public.
pub fn run(options: &Promotable, wish: &Wish, report: &Report) -> Result<()> {
    let front = Front::open(options.config.as_deref())?;
    let stop = Stop::catch(false);
    go(&front, options, wish, &stop, report).map_err(|error| {
        report.error(&error);
        let verb = if matches!(error, Error::AfterFlip(_)) {
            "Promoted, but not all is well"
        } else {
            "Not promoted"
        };
        match front.switch.show(None) {
            Ok(public) => report.line(format_args!("{verb}: {} is public.", named(public.as_deref()))),
            Err(_) => report.line(format_args!("{verb}: the front end does not say who is public.")),
        }
        Error::Reported(Box::new(error))
    })
}

fn go(front: &Front, options: &Promotable, wish: &Wish, stop: &Stop, report: &Report) -> Result<()> {
    let started = Instant::now();
    let plan = front.plan(wish, stop)?;
    if !options.json {
        for line in plan.lines() {
            report.line(line);
        }
    }
    if wish.dry_run {
        return Ok(());
    }
    if !wish.yes && !plan.is_public() {
        ask(report)?;
    }
    let quiet;
    let steps = if options.json {
        quiet = Report::new(null()?, null()?);
        &quiet
    } else {
        report
    };
    let done = promote(front, &plan, wish, stop, steps)?;
    if options.json {
        return print_json(&done);
    }
    report.line(summary(&done, started.elapsed()));
    Ok(())
}

fn null() -> Result<std::os::fd::OwnedFd> {
    let file = std::fs::File::options().write(true).open("/dev/null");
    file.map(Into::into).map_err(Error::io("open", "/dev/null"))
}

fn ask(report: &Report) -> Result<()> {
    if !stdin().is_terminal() {
        return Err(Error::Usage("nobody can be asked: add `--yes`".into()));
    }
    report.line("Go ahead? [y/N]");
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer).map_err(Error::io("read", "standard input"))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Error::Cancelled) }
}
