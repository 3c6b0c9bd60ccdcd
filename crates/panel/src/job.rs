//! An action that an operator has started: a promotion, or a change of a side. It runs in the panel, independent of the
//! browser.

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
    /// True for a request to the public address, false for a check before the switch.
    pub is_public: bool,
}

/// A running or finished action.
#[derive(Debug)]
pub struct Job {
    /// The number of the job since the start of the panel.
    pub number: u64,
    /// The action in words: "Promotion of green".
    pub title: String,
    /// The side that it changes; `None` for a promotion.
    pub side: Option<String>,
    /// When it began.
    pub started: Instant,
    /// The time that it took, once it has finished.
    pub took: Option<Duration>,
    /// The steps begun so far.
    pub steps: Vec<Step>,
    /// Its output.
    pub log: Recent<String>,
    /// The responses.
    pub samples: Recent<Sample>,
    /// A summary or the problem, once it has finished.
    pub outcome: Option<Result<String, Problem>>,
    /// Stops it.
    pub stop: Arc<Stop>,
}

impl Job {
    /// Creates a job that starts now.
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

    /// Returns whether it is still running.
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

    /// Adds an event of a promotion.
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
