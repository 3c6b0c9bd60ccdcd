//! An action that an operator has started: a promotion, or a change of a side. It runs in the panel, independent of the
//! browser.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bluegreen_client::observer::{Event, Step};
use bluegreen_process::signals::Stop;

use crate::client::Problem;
use crate::recent::Recent;

/// The maximum number of marks that a promotion keeps, one for each change of what visitors get.
const MAX_MARKS: usize = 100;

/// The origin of a response.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A check of the side, at the address of a server.
    Check,
    /// The public address, where a server of this side responded.
    Side(String),
    /// The public address, without the name of a known server.
    Unknown,
}

/// A response during a promotion.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The time since the job began.
    pub at: Duration,
    /// The response time.
    pub took: Duration,
    /// True if it is not a failure.
    pub is_good: bool,
    /// Its origin.
    pub source: Source,
}

/// The number of all responses of one origin, and of those that failed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// All responses.
    pub requests: u64,
    /// The failures.
    pub failed: u64,
}

/// The kind of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A promotion, which has steps.
    Promotion,
    /// A deployment or a rollback.
    Deployment,
    /// A change of a lock, or a cancellation. It is over in a moment, and cannot be cancelled.
    Brief,
}

/// A running or finished action.
#[derive(Debug)]
pub struct Job {
    /// The number of the job since the start of the panel.
    pub number: u64,
    /// The action in words: "Promotion of green".
    pub title: String,
    /// The side that it promotes or changes.
    pub side: String,
    pub kind: Kind,
    /// When it began.
    pub started: Instant,
    /// The time that it took; `None` while it runs.
    pub took: Option<Duration>,
    /// The steps begun so far.
    pub steps: Vec<Step>,
    /// The condition that the current step waits for.
    pub waiting: Option<String>,
    /// The percentage of the requests that the side gets in the canary.
    pub weight: Option<u8>,
    /// The times since the beginning at which visitors got something else, with a short label.
    pub marks: Vec<(Duration, String)>,
    /// Its output.
    pub log: Recent<String>,
    /// The newest responses.
    pub samples: Recent<Sample>,
    /// The number of all responses.
    pub tallies: BTreeMap<Source, Tally>,
    /// A summary or the problem; `None` while it runs.
    pub outcome: Option<Result<String, Problem>>,
    /// Stops it.
    pub stop: Arc<Stop>,
}

impl Job {
    /// Creates a job that starts now.
    #[must_use]
    pub fn new(number: u64, title: String, (side, kind): (String, Kind), stop: Arc<Stop>) -> Self {
        Self {
            number,
            title,
            side,
            kind,
            started: Instant::now(),
            took: None,
            steps: Vec::new(),
            waiting: None,
            weight: None,
            marks: Vec::new(),
            log: Recent::default(),
            samples: Recent::default(),
            tallies: BTreeMap::new(),
            outcome: None,
            stop,
        }
    }

    /// Returns whether it is still running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.outcome.is_none()
    }

    /// Returns whether it ended at most that long ago.
    #[must_use]
    pub fn ended_within(&self, time: Duration) -> bool {
        self.took.is_some_and(|took| self.started.elapsed().saturating_sub(took) <= time)
    }

    /// Returns the current step, or the last one.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        self.steps.last().copied()
    }

    /// Returns whether it is a promotion.
    #[must_use]
    pub fn is_promotion(&self) -> bool {
        self.kind == Kind::Promotion
    }

    /// Returns whether it can be stopped: a promotion until it goes back or writes the marks, and while it drains.
    #[must_use]
    pub fn can_be_cancelled(&self) -> bool {
        let is_ending = matches!(self.step(), Some(Step::GoBack | Step::Mark));
        self.is_running() && self.kind != Kind::Brief && !is_ending
    }

    /// Returns the origin of a response: the check, or the side of the server that is named.
    #[must_use]
    pub fn source(&self, side: Option<&str>) -> Source {
        match side {
            _ if self.step() == Some(Step::Check) => Source::Check,
            Some(side) => Source::Side(side.to_owned()),
            None => Source::Unknown,
        }
    }

    /// Adds an event of a promotion. `side` is the side whose server sent the response.
    pub fn take(&mut self, event: Event, side: Option<&str>) {
        match event {
            Event::Step(step) => {
                self.steps.push(step);
                self.waiting = None;
                match step {
                    Step::Set => self.mark("switch".into()),
                    Step::GoBack => self.mark("back".into()),
                    _ => {}
                }
            }
            Event::Weight(percent) => {
                self.weight = Some(percent);
                self.mark(format!("{percent}%"));
            }
            Event::Waiting(what) => self.waiting = Some(what),
            Event::Response { took, is_good, .. } => {
                let source = self.source(side);
                let tally = self.tallies.entry(source.clone()).or_default();
                tally.requests += 1;
                tally.failed += u64::from(!is_good);
                self.samples.push(Sample { at: self.started.elapsed(), took, is_good, source });
            }
        }
    }

    fn mark(&mut self, label: String) {
        if self.marks.len() < MAX_MARKS {
            self.marks.push((self.started.elapsed(), label));
        }
    }

    /// Records the end.
    pub fn end(&mut self, outcome: Result<String, Problem>) {
        self.took = Some(self.started.elapsed());
        self.outcome = Some(outcome);
    }
}
