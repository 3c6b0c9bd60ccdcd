//! Reports the steps and responses of a promotion as they happen.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use crate::probe::Response;
use bluegreen_text::{MAX_NAME_CHARS, truncated};

/// A step of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Query the front end and all servers.
    Look,
    /// Lock all servers.
    Hold,
    /// Check every server of the side.
    Check,
    /// Send a percentage of the requests to the side.
    Canary,
    /// Run the switch.
    Set,
    /// Request the public address.
    Watch,
    /// Send visitors back, after a failure.
    GoBack,
    /// Record on all servers which side is public.
    Mark,
    /// Wait for the in-flight requests of the previous side.
    Drain,
}

impl Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Look => "Look",
            Self::Hold => "Hold",
            Self::Check => "Check",
            Self::Canary => "Canary",
            Self::Set => "Switch",
            Self::Watch => "Watch",
            Self::GoBack => "Go back",
            Self::Mark => "Mark",
            Self::Drain => "Drain",
        })
    }
}

/// An event during a promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step begins.
    Step(Step),
    /// The side gets this percentage of the requests.
    Weight(u8),
    /// The condition that the step waits for, in words.
    Waiting(String),
    /// A response to a check, or to a request of the watch.
    Response {
        /// The response time.
        took: Duration,
        /// True if it is not a failure.
        is_good: bool,
        /// The server that sent it, by its `X-Served-By`.
        served_by: Option<String>,
    },
}

type Receiver = dyn Fn(Event) + Send + Sync;

/// The receiver of the events; none by default.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Receiver>>);

impl Observer {
    /// Creates an observer that calls a function, from several threads.
    pub fn new(receive: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(receive)))
    }

    /// Reports that a step begins.
    pub fn step(&self, step: Step) {
        self.send(Event::Step(step));
    }

    /// Reports the percentage of the requests that the side gets.
    pub fn weight(&self, percent: u8) {
        self.send(Event::Weight(percent));
    }

    /// Reports the condition that the step waits for.
    pub fn waiting(&self, what: impl Into<String>) {
        self.send(Event::Waiting(what.into()));
    }

    /// Reports a response.
    pub fn response(&self, response: &Response) {
        let served_by =
            response.served_by.as_deref().map(|name| truncated(name, MAX_NAME_CHARS).into_owned());
        self.send(Event::Response { took: response.took, is_good: response.is_good(), served_by });
    }

    fn send(&self, event: Event) {
        if let Some(receive) = &self.0 {
            receive(event);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}
