//! An action that an operator has started: a promotion, or a change of a side. It runs in the panel, whatever becomes of
//! the browser.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bluegreen_client::observer::{Event, Step};
use bluegreen_process::signals::Stop;

use crate::client::Problem;
use crate::recent::Recent;

/// A response during a promotion.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The time since the job began.
    pub at: Duration,
    /// The response time.
    pub took: Duration,
    /// True if it is not a failure.
    pub is_good: bool,
    /// True if visitors get the same response, false for a check before the switch.
    pub is_public: bool,
}

/// An action that runs or has ended.
#[derive(Debug)]
pub struct Job {
    /// The number of the job since the start of the panel.
    pub number: u64,
    /// The action in words: "Promotion of green".
    pub title: String,
    /// The side that it changes; `None` for a promotion.
    pub side: Option<String>,
    /// The time at which it began.
    pub started: Instant,
    /// The time that it took, once it has ended.
    pub took: Option<Duration>,
    /// The steps that have begun.
    pub steps: Vec<Step>,
    /// What it printed.
    pub log: Recent<String>,
    /// The responses.
    pub samples: Recent<Sample>,
    /// A summary, or the problem, once it has ended.
    pub outcome: Option<Result<String, Problem>>,
    /// Stops it.
    pub stop: Arc<Stop>,
}

impl Job {
    /// Creates a job that begins now.
    #[must_use]
    pub fn new(number: u64, title: String, side: Option<String>, stop: Arc<Stop>) -> Self {
        Self {
            number,
            title,
            side,
            started: Instant::now(),
            took: None,
            steps: Vec::new(),
            log: Recent::default(),
            samples: Recent::default(),
            outcome: None,
            stop,
        }
    }

    /// Returns whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.outcome.is_none()
    }

    /// Returns whether it is a promotion, which has steps.
    #[must_use]
    pub fn is_promotion(&self) -> bool {
        self.side.is_none()
    }

    /// Returns whether it can still be stopped: a promotion until it goes back or writes the marks.
    #[must_use]
    pub fn can_be_cancelled(&self) -> bool {
        self.is_running() && self.steps.last() < Some(&Step::GoBack)
    }

    /// Takes an event of a promotion.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Step(step) => self.steps.push(step),
            Event::Response { took, is_good } => {
                let is_public = self.steps.last() == Some(&Step::Watch);
                self.samples.push(Sample { at: self.started.elapsed(), took, is_good, is_public });
            }
        }
    }

    /// Records the end.
    pub fn end(&mut self, outcome: Result<String, Problem>) {
        self.took = Some(self.started.elapsed());
        self.outcome = Some(outcome);
    }
}
