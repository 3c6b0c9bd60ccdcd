//! Keeps the state up to date for as long as a page is open. Servers are queried concurrently, so that one that does
//! not respond holds up nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bluegreen_process::signals::Stop;
use bluegreen_protocol::status::Status;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Endpoint, Pair, Problem};
use crate::state::{Query, Server, State};

/// The interval between queries of servers on which nothing runs.
const IDLE_PAUSE: Duration = Duration::from_secs(2);

/// The interval between queries of servers on which something runs.
const BUSY_PAUSE: Duration = Duration::from_millis(400);

/// The minimum interval between queries, regardless of the number of pages that are loaded.
const MIN_PAUSE: Duration = Duration::from_millis(200);

/// The age at which a history is requested again although nothing has happened.
const HISTORY_AGE: Duration = Duration::from_secs(30);

/// The age up to which a page shows responses as they are.
pub const FRESH: Duration = Duration::from_millis(500);

/// The state, and everything that changes it.
pub struct Live {
    pub(crate) client: Arc<dyn Client>,
    state: Mutex<State>,
    pub(crate) version: watch::Sender<u64>,
    viewers: AtomicUsize,
    pub(crate) demand: Notify,
    pub(crate) stop: Stop,
}

/// A browser that receives events. The servers are queried for as long as one of these lives.
pub struct Viewer(Arc<Live>);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Live {
    /// Creates an empty state.
    #[must_use]
    pub fn new(client: Arc<dyn Client>, stop: &Stop) -> Arc<Self> {
        Arc::new(Self {
            client,
            state: Mutex::default(),
            version: watch::Sender::new(0),
            viewers: AtomicUsize::new(0),
            demand: Notify::new(),
            stop: stop.part(),
        })
    }

    /// Returns the state, for a moment.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a browser receives events.
    #[must_use]
    pub fn has_viewers(&self) -> bool {
        self.viewers.load(Ordering::Relaxed) > 0
    }

    /// Registers a browser, and returns what reports each change of the state to it.
    pub fn watch(self: &Arc<Self>) -> (Viewer, watch::Receiver<u64>) {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        self.demand.notify_one();
        (Viewer(Arc::clone(self)), self.version.subscribe())
    }

    /// Waits until no response is older than `age`, but not for longer than `limit`.
    pub async fn refresh(&self, limit: Duration, age: Duration) {
        let mut version = self.version.subscribe();
        let since = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        let is_fresh = async {
            while !self.state().is_newer_than(since) {
                self.demand.notify_one();
                let _ = timeout(MIN_PAUSE, version.changed()).await;
            }
        };
        let _ = timeout(limit, is_fresh).await;
    }

    /// Queries all servers repeatedly while a page is open.
    pub async fn observe(self: Arc<Self>) {
        loop {
            if self.has_viewers() {
                let pause = if self.state().is_busy() { BUSY_PAUSE } else { IDLE_PAUSE };
                let _ = timeout(pause, self.demand.notified()).await;
            } else {
                self.demand.notified().await;
            }
            self.look().await;
            sleep(MIN_PAUSE).await;
        }
    }

    /// Changes the state, and reports that to all browsers.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.version.send_modify(|version| *version += 1);
    }

    async fn look(self: &Arc<Self>) {
        let client = Arc::clone(&self.client);
        let opened = blocking(move || client.open()).await;
        let pair: Arc<dyn Pair> = match opened {
            Ok(pair) => pair.into(),
            Err(problem) => {
                return self.change(|state| {
                    (state.problem, state.opened) = (Some(problem), Some(Instant::now()));
                });
            }
        };
        let endpoints = pair.servers();
        self.change(|state| {
            (state.problem, state.opened, state.public_url) = (None, Some(Instant::now()), pair.public_url());
            state.set_servers(endpoints.clone());
        });
        if self.state().front.start() {
            tokio::spawn(Arc::clone(self).query_front(Arc::clone(&pair)));
        }
        for endpoint in endpoints {
            if self.start_query(&endpoint, |server| &mut server.status) {
                tokio::spawn(Arc::clone(self).query_status(Arc::clone(&pair), endpoint.clone()));
            }
            if self.start_query(&endpoint, |server| &mut server.health) {
                tokio::spawn(Arc::clone(self).query_health(Arc::clone(&pair), endpoint));
            }
        }
    }

    fn start_query<T>(&self, endpoint: &Endpoint, query: fn(&mut Server) -> &mut Query<T>) -> bool {
        self.state().server(&endpoint.url).is_some_and(|server| query(server).start())
    }

    async fn query_front(self: Arc<Self>, pair: Arc<dyn Pair>) {
        let (this, source) = (Arc::clone(&self), Arc::clone(&pair));
        let front = blocking(move || source.front(&this.stop)).await;
        self.change(|state| state.front.set(front));
        self.find_changes(pair).await;
    }

    async fn query_health(self: Arc<Self>, pair: Arc<dyn Pair>, endpoint: Endpoint) {
        let (this, server) = (Arc::clone(&self), endpoint.clone());
        let health = blocking(move || pair.health(&server, &this.stop)).await;
        self.change(|state| {
            if let Some(server) = state.server(&endpoint.url) {
                server.health.set(health);
            }
        });
    }

    async fn query_status(self: Arc<Self>, pair: Arc<dyn Pair>, endpoint: Endpoint) {
        let (this, server, source) = (Arc::clone(&self), endpoint.clone(), Arc::clone(&pair));
        let status = blocking(move || source.status(&server, &this.stop)).await;
        let mut needs_history = false;
        self.change(|state| {
            let Some(server) = state.server(&endpoint.url) else { return };
            let is_changed = server.status.good().map(mark) != status.as_ref().ok().map(mark);
            let is_old = server.history.received.is_none_or(|received| received.elapsed() > HISTORY_AGE);
            needs_history = status.is_ok() && (is_changed || is_old) && server.history.start();
            if is_changed {
                server.author = None;
            }
            server.status.set(status);
        });
        if self.has_viewers() {
            self.follow(&pair, &endpoint);
        }
        if needs_history {
            self.query_history(Arc::clone(&pair), endpoint).await;
        }
        self.find_changes(pair).await;
    }

    async fn query_history(self: &Arc<Self>, pair: Arc<dyn Pair>, endpoint: Endpoint) {
        let commit = self.state().server(&endpoint.url).and_then(|server| server.status.good()?.commit);
        let (this, server) = (Arc::clone(self), endpoint.clone());
        let (history, author) = blocking(move || {
            (pair.history(&server, &this.stop), commit.and_then(|commit| pair.author(&commit)))
        })
        .await;
        self.change(|state| {
            if let Some(server) = state.server(&endpoint.url) {
                server.history.set(history);
                server.author = author;
            }
        });
    }

    /// Looks up the commits between both sides, if they are not known yet.
    async fn find_changes(&self, pair: Arc<dyn Pair>) {
        let ends = {
            let state = self.state();
            state.ends().filter(|_| state.lacks_changes())
        };
        let Some((old, new)) = ends else { return };
        let changes = blocking(move || pair.changes(&old, &new)).await;
        self.change(|state| state.changes = Some((old, new, changes)));
    }
}

/// The parts of a status that change with every action that adds an entry to the history.
fn mark(status: &Status) -> (Option<String>, Option<String>, bool, Option<String>) {
    let public = status.public.as_ref().map(|mark| format!("{} {}", mark.public, mark.since));
    (status.live.clone(), status.since.clone(), status.running.is_some(), public)
}

/// Runs something that waits for a server in a thread of its own.
pub(crate) async fn blocking<T: FromPanic + Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => T::from_panic(&error.to_string()),
    }
}

/// The result of a request whose thread panicked.
pub(crate) trait FromPanic {
    /// Creates it from the message.
    fn from_panic(message: &str) -> Self;
}

impl<T> FromPanic for Result<T, Problem> {
    fn from_panic(message: &str) -> Self {
        Err(Problem { message: format!("internal error: {message}"), hint: None })
    }
}

impl<T: FromPanic, U> FromPanic for (T, Option<U>) {
    fn from_panic(message: &str) -> Self {
        (T::from_panic(message), None)
    }
}

impl<T> FromPanic for Vec<T> {
    fn from_panic(_: &str) -> Self {
        Self::new()
    }
}
