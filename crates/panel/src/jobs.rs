//! Starts actions, one at a time, and follows the logs of servers.

use std::sync::Arc;
use std::time::Duration;

use bluegreen_client::action::Action;
use bluegreen_client::observer::Event;
use bluegreen_process::signals::Stop;
use bluegreen_text::{MAX_MESSAGE_CHARS, escape_controls, truncated};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::client::{Change, Endpoint, Pair, Problem, Progress, Promotion};
use crate::job::{Job, Kind};
use crate::live::{Live, blocking};

/// An action that an operator has confirmed.
#[derive(Debug, Clone)]
pub enum Order {
    /// Visitors get a side.
    Promote(Promotion),
    /// Every server of a side changes.
    Apply {
        /// The side.
        side: String,
        /// The change.
        change: Change,
        /// The facts that the confirmation stated ([`confirm::seen`](crate::views::confirm::seen)). If they have changed,
        /// nothing happens.
        seen: String,
    },
}

impl Order {
    /// Names the action: "Rollback of blue".
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Promote(Promotion { side, .. }) => format!("Promotion of {side}"),
            Self::Apply { side, change, .. } => {
                let action = match change {
                    Change::Run(Action::Rollback) => "Rollback",
                    Change::Run(Action::Deploy) => "Deployment",
                    Change::Run(Action::Cancel) => "Cancellation",
                    Change::Lock { .. } => "Lock",
                    Change::Unlock => "Unlock",
                };
                format!("{action} of {side}")
            }
        }
    }

    /// Returns the side that it promotes or changes, and its kind.
    fn target(&self) -> (String, Kind) {
        match self {
            Self::Promote(promotion) => (promotion.side.clone(), Kind::Promotion),
            Self::Apply { side, change: Change::Run(Action::Rollback | Action::Deploy), .. } => {
                (side.clone(), Kind::Deployment)
            }
            Self::Apply { side, .. } => (side.clone(), Kind::Brief),
        }
    }

    fn run(&self, pair: &dyn Pair, stop: &Stop, progress: &Arc<dyn Progress>) -> Result<String, Problem> {
        match self {
            Self::Promote(promotion) => pair.promote(promotion, stop, progress),
            Self::Apply { side, change, .. } => pair.apply(side, change, stop, progress),
        }
    }
}

/// Writes the progress of a job into the state.
struct Recorder {
    live: Arc<Live>,
    number: u64,
}

impl Recorder {
    fn change(&self, change: impl FnOnce(&mut Job)) {
        self.live.change(|state| {
            let job = state.job.as_mut().filter(|job| job.number == self.number);
            if let Some(job) = job {
                change(job);
            }
        });
    }
}

impl Progress for Recorder {
    fn line(&self, line: &str) {
        let line = shown(line);
        self.change(|job| job.log.push(line));
    }

    fn event(&self, event: Event) {
        let event = match event {
            Event::Waiting(what) => Event::Waiting(shown(&what)),
            event => event,
        };
        let side = match &event {
            Event::Response { served_by: Some(name), .. } => {
                self.live.state().side_of(name).map(str::to_owned)
            }
            _ => None,
        };
        self.change(|job| job.take(event, side.as_deref()));
    }
}

/// Returns a line as the page shows it.
fn shown(line: &str) -> String {
    escape_controls(&truncated(line, MAX_MESSAGE_CHARS))
}

impl Live {
    /// Starts an action, unless another one runs, whose name it then returns.
    pub fn start(self: &Arc<Self>, order: Order) -> Result<(), String> {
        let stop = Arc::new(self.stop.part());
        let mut number = 0;
        let mut running = None;
        self.change(|state| {
            number = state.job.as_ref().map_or(1, |job| job.number + 1);
            running = state.job.as_ref().filter(|job| job.is_running()).map(|job| job.title.clone());
            if running.is_none() {
                state.job = Some(Job::new(number, order.title(), order.target(), Arc::clone(&stop)));
            }
        });
        if let Some(title) = running {
            return Err(title);
        }
        let live = Arc::clone(self);
        spawn_blocking(move || {
            let recorder = Recorder { live: Arc::clone(&live), number };
            let end = End(Recorder { live: Arc::clone(&live), number });
            let progress: Arc<dyn Progress> = Arc::new(recorder);
            let outcome = live.client.open().and_then(|pair| order.run(&*pair, &stop, &progress));
            end.0.change(|job| job.end(outcome));
            live.demand.notify_one();
        });
        Ok(())
    }

    /// Cancels the action that runs: a promotion goes back, and on the servers of a deployment or a rollback, what runs
    /// there is cancelled. That may be a deployment that this one waits for, so the operator has confirmed it.
    pub fn cancel(self: &Arc<Self>) {
        let running = {
            let state = self.state();
            let job = state.job.as_ref().filter(|job| job.can_be_cancelled());
            job.map(|job| (job.number, (job.side.clone(), job.is_promotion()), Arc::clone(&job.stop)))
        };
        let Some((number, (side, is_promotion), stop)) = running else { return };
        let recorder: Arc<dyn Progress> = Arc::new(Recorder { live: Arc::clone(self), number });
        recorder.line("Cancelling...");
        if is_promotion {
            return stop.request();
        }
        let live = Arc::clone(self);
        spawn_blocking(move || {
            let cancel = Change::Run(Action::Cancel);
            let done = live.client.open().and_then(|pair| pair.apply(&side, &cancel, &live.stop, &recorder));
            recorder.line(&done.unwrap_or_else(|problem| problem.message));
        });
    }

    /// Waits until no action runs. The signal that stops the panel has stopped the action, too.
    pub async fn finish(&self) {
        let mut version = self.version.subscribe();
        while self.state().job.as_ref().is_some_and(Job::is_running) {
            let _ = version.changed().await;
        }
    }

    /// Follows the log of a deployment for as long as it runs and a page is open.
    ///
    /// A server has one follower at a time. Otherwise a hostile one that reports a new deployment with each response would use
    /// up all threads.
    pub(crate) fn follow(self: &Arc<Self>, pair: &Arc<dyn Pair>, endpoint: &Endpoint) {
        let mut started = None;
        self.change(|state| {
            let Some(server) = state.server(&endpoint.url) else { return };
            let since = server.deployment().map(|running| running.since.clone());
            if since.is_none() || since == server.followed {
                return;
            }
            if let Some(follower) = &server.follower {
                // Once it has ended, the next response starts a new one.
                return request_once(follower);
            }
            server.log.clear();
            server.followed = since;
            started = Some(Arc::clone(server.follower.insert(Arc::new(self.stop.part()))));
        });
        if let Some(stop) = started {
            tokio::spawn(Arc::clone(self).follow_to_the_end(Arc::clone(pair), endpoint.clone(), stop));
        }
    }

    async fn follow_to_the_end(self: Arc<Self>, pair: Arc<dyn Pair>, endpoint: Endpoint, stop: Arc<Stop>) {
        let (live, stopped, followed) = (Arc::clone(&self), Arc::clone(&stop), endpoint.clone());
        let following = tokio::spawn(blocking(move || {
            let add = |line: &str| {
                let line = shown(line);
                live.change(|state| {
                    if let Some(server) = state.server(&followed.url) {
                        server.log.push(line);
                    }
                });
            };
            pair.follow(&followed, &stopped, &add)
        }));
        while !following.is_finished() {
            sleep(Duration::from_millis(500)).await;
            if !self.has_viewers() {
                request_once(&stop);
            }
        }
        self.change(|state| {
            let Some(server) = state.server(&endpoint.url) else { return };
            server.follower = None;
            if stop.check().is_err() {
                // The next follower starts again from the beginning.
                server.followed = None;
            }
        });
    }
}

fn request_once(stop: &Stop) {
    if stop.check().is_ok() {
        stop.request();
    }
}

/// Ends a job whose thread panics.
struct End(Recorder);

impl Drop for End {
    fn drop(&mut self) {
        self.0.change(|job| {
            if job.is_running() {
                let message = "internal error: the action panicked".into();
                job.end(Err(Problem { message, hint: Some("see which side is public".into()) }));
            }
        });
    }
}
