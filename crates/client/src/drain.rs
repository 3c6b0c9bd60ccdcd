//! Draining: waits for the in-flight requests of the side that was public before. Its locks are released afterward, so that
//! no deployment interrupts these requests.

use std::iter;
use std::time::{Duration, Instant};

use crate::context::PromoteContext;
use crate::error::Result;
use crate::observer::Step;
use crate::plan::Topology;
use crate::switch::InFlight;
use bluegreen_process::signals::Stop;
use bluegreen_process::wait_any;
use bluegreen_report::Report;
use bluegreen_text::{count, seconds};

/// The polling interval.
const PAUSE: Duration = Duration::from_secs(1);

/// The interval between lines in a log, in seconds.
const LOG_PAUSE: u64 = 10;

/// The latest report of the switch.
#[derive(Debug)]
enum State {
    Requests(u64),
    Uncountable,
    Failed(String),
}

/// Waits until the old side has no requests in flight, at most for the configured time. The promotion has succeeded, so
/// nothing here fails: Ctrl-C ends the wait, and a timeout ends it with a warning.
pub fn wait(context: &PromoteContext) {
    let &PromoteContext { topology, plan, stop, report, .. } = context;
    let within = topology.config.public.drain;
    let Some(from) = plan.from.as_ref().filter(|_| !within.is_zero() && !plan.is_public()) else { return };
    topology.observer.step(Step::Drain);
    let (started, shown) = (Instant::now(), None);
    let outcome = Wait { topology, side: from, within, started, shown, report }.run(stop);
    report.end_progress();
    let problem = match outcome {
        Ok(State::Requests(0)) => {
            report
                .line(format_args!("{from} has no requests in flight after {}.", seconds(started.elapsed())));
            return;
        }
        // The switch cannot count requests, so wait for the whole configured time.
        Ok(State::Uncountable) => return,
        Ok(State::Requests(number)) => {
            let within = humantime::format_duration(within);
            format!("{from} still has {} in flight after {within}", count(number, "request"))
        }
        Ok(State::Failed(error)) => format!("cannot confirm that {from} has no requests in flight: {error}"),
        Err(error) => format!("stopped waiting for requests in flight at {from}: {error}"),
    };
    report.warning(problem);
    report.hint(format_args!(
        "a deployment to {from} may interrupt requests in flight; wait before you push to it"
    ));
}

struct Wait<'a> {
    topology: &'a Topology,
    side: &'a str,
    within: Duration,
    started: Instant,
    /// The time of the last line, in seconds.
    shown: Option<u64>,
    report: &'a Report,
}

impl Wait<'_> {
    /// Polls the switch until no request is in flight, or the time is over.
    fn run(&mut self, stop: &Stop) -> Result<State> {
        loop {
            let remaining = self.within.saturating_sub(self.started.elapsed());
            let state = match self.topology.switch.in_flight(self.side, remaining, stop) {
                Ok(InFlight::Requests(number)) => State::Requests(number),
                Ok(InFlight::Uncountable) => State::Uncountable,
                Err(error) => {
                    stop.check()?;
                    State::Failed(error.to_string())
                }
            };
            if matches!(state, State::Requests(0)) || self.started.elapsed() >= self.within {
                return Ok(state);
            }
            self.show(&state);
            self.pause(stop)?;
        }
    }

    fn show(&mut self, state: &State) {
        let state = match state {
            State::Requests(number) => format!("{} in flight", count(*number, "request")),
            State::Uncountable => "the switch cannot count requests in flight".into(),
            State::Failed(error) => error.clone(),
        };
        let elapsed = self.started.elapsed().as_secs();
        let within = humantime::format_duration(self.within);
        let line = format!("Draining {}: {state}, {elapsed} s of at most {within}...", self.side);
        self.topology.observer.waiting(&line);
        if self.report.is_at_terminal() {
            self.report.progress(line);
        } else if self.shown.is_none_or(|shown| elapsed >= shown + LOG_PAUSE) {
            self.shown = Some(elapsed);
            self.report.line(line);
        }
    }

    fn pause(&self, stop: &Stop) -> Result<()> {
        let until = Instant::now() + PAUSE.min(self.within.saturating_sub(self.started.elapsed()));
        while Instant::now() < until {
            stop.check()?;
            wait_any(iter::empty(), until, Some(stop));
        }
        Ok(())
    }
}
