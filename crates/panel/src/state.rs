//! What the panel shows: the last response of every server and of the front end. It is a cache, and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bluegreen_client::changes::Change;
use bluegreen_client::switch::{Shown, Split};
use bluegreen_git_types::ObjectId;
use bluegreen_process::signals::Stop;
use bluegreen_protocol::history::{Action, Entry};
use bluegreen_protocol::status::{Holder, Status};

use crate::client::{Endpoint, Health, Problem};
use crate::job::Job;
use crate::recent::Recent;

/// The time after the end of an action in which servers may still report it.
const RECENTLY: Duration = Duration::from_secs(3);

/// A query that is repeated, and the last response to it.
#[derive(Debug)]
pub struct Query<T> {
    /// The response, or the reason why there is none; `None` before the first one.
    pub last: Option<Result<T, Problem>>,
    /// The time at which the pending request was sent.
    pub sent: Option<Instant>,
    /// The time of the last response.
    pub received: Option<Instant>,
}

impl<T> Default for Query<T> {
    fn default() -> Self {
        Self { last: None, sent: None, received: None }
    }
}

impl<T> Query<T> {
    /// Returns the last response, if it was not a failure.
    #[must_use]
    pub fn good(&self) -> Option<&T> {
        self.last.as_ref()?.as_ref().ok()
    }

    /// Returns the last failure.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        self.last.as_ref()?.as_ref().err()
    }

    /// Begins to wait for a response; returns false if a request is pending already.
    pub fn start(&mut self) -> bool {
        let is_new = self.sent.is_none();
        self.sent.get_or_insert_with(Instant::now);
        is_new
    }

    /// Records a response.
    pub fn set(&mut self, response: Result<T, Problem>) {
        *self = Self { last: Some(response), sent: None, received: Some(Instant::now()) };
    }

    /// Returns whether a response has arrived since a time.
    #[must_use]
    pub fn is_newer_than(&self, time: Instant) -> bool {
        self.received.is_some_and(|received| received >= time)
    }

    /// Returns for how long the request has been pending.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.sent.map(|sent| sent.elapsed()).unwrap_or_default()
    }
}

/// A server and its last responses.
#[derive(Debug)]
pub struct Server {
    /// The server.
    pub endpoint: Endpoint,
    /// Its state.
    pub status: Query<Status>,
    /// The author of its live commit, if the clone contains it.
    pub author: Option<String>,
    /// The response of its web server.
    pub health: Query<Health>,
    /// Its history, the newest entry first.
    pub history: Query<Vec<Entry>>,
    /// The beginning of the deployment whose log is followed.
    pub followed: Option<String>,
    /// Stops the thread that follows the log.
    pub follower: Option<Arc<Stop>>,
    /// The output of what runs on it, for as long as a page is open.
    pub log: Recent<String>,
}

impl Server {
    /// Creates a server that has not responded yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            status: Query::default(),
            author: None,
            health: Query::default(),
            history: Query::default(),
            followed: None,
            follower: None,
            log: Recent::default(),
        }
    }

    /// Returns the holder of its lock if a deployment or a rollback runs, whose log can be followed.
    #[must_use]
    pub fn deployment(&self) -> Option<&Holder> {
        let running = self.status.good()?.running.as_ref()?;
        matches!(running.action, Action::Deploy | Action::Rollback | Action::Adopt).then_some(running)
    }

    /// Returns whether something runs on it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.status.good().is_some_and(|status| status.running.is_some())
    }
}

/// Everything that the page shows.
#[derive(Debug, Default)]
pub struct State {
    /// The reason why the config cannot be used.
    pub problem: Option<Problem>,
    /// The time at which the config was read last.
    pub opened: Option<Instant>,
    /// The public address.
    pub public_url: String,
    /// The sides that the front end sends requests to.
    pub front: Query<Shown>,
    /// All servers, in the order of the config.
    pub servers: Vec<Server>,
    /// The commits between what visitors get now and what they would get.
    pub changes: Option<(ObjectId, ObjectId, Vec<Change>)>,
    /// The action that runs, or the last one.
    pub job: Option<Job>,
}

impl State {
    /// Replaces the servers by those of the config. Those that stay keep their responses.
    pub fn set_servers(&mut self, endpoints: Vec<Endpoint>) {
        if self.servers.iter().map(|server| &server.endpoint).eq(&endpoints) {
            return;
        }
        let mut old = std::mem::take(&mut self.servers);
        self.servers = endpoints
            .into_iter()
            .map(|endpoint| {
                let at = old.iter().position(|server| server.endpoint == endpoint);
                at.map_or_else(|| Server::new(endpoint), |at| old.swap_remove(at))
            })
            .collect();
    }

    /// Returns the server with an address.
    pub fn server(&mut self, url: &str) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.endpoint.url == url)
    }

    /// Returns the names of the sides.
    #[must_use]
    pub fn sides(&self) -> Vec<String> {
        let mut names: Vec<String> = self.servers.iter().map(|server| server.endpoint.side.clone()).collect();
        names.dedup();
        names
    }

    /// Returns the public side, if the front end reports one.
    #[must_use]
    pub fn public_side(&self) -> Option<&str> {
        self.front.good()?.public.as_deref()
    }

    /// Returns the share of the side that is not public, if it has one.
    #[must_use]
    pub fn split(&self) -> Option<&Split> {
        self.front.good()?.split.as_ref()
    }

    /// Returns the side of a server, by the name that it gives itself; `None` if no side, or more than one, has it.
    #[must_use]
    pub fn side_of(&self, name: &str) -> Option<&str> {
        let has = |server: &&Server| server.status.good().is_some_and(|status| status.server == name);
        let mut sides = self.servers.iter().filter(has).map(|server| server.endpoint.side.as_str());
        let side = sides.next()?;
        sides.all(|other| other == side).then_some(side)
    }

    /// Returns whether a promotion runs on a server that this panel has not started.
    #[must_use]
    pub fn has_foreign_promotion(&self) -> bool {
        let runs = |server: &Server| {
            let running = server.status.good().and_then(|status| status.running.as_ref());
            running.is_some_and(|running| running.action == Action::Promote)
        };
        // A server may still report the panel's own promotion for a moment after its end.
        let is_own = self.job.as_ref().is_some_and(|job| job.is_running() || job.ended_within(RECENTLY));
        !is_own && self.servers.iter().any(runs)
    }

    /// Returns the side that a promotion makes public by default.
    #[must_use]
    pub fn other_side(&self) -> Option<String> {
        let (public, sides) = (self.public_side()?, self.sides());
        sides.iter().any(|side| side == public).then(|| sides.into_iter().find(|side| side != public))?
    }

    /// Returns the commit that a side serves, as its first server reports it.
    #[must_use]
    pub fn commit_of(&self, side: &str) -> Option<ObjectId> {
        let server = self.servers.iter().find(|server| server.endpoint.side == side)?;
        server.status.good()?.commit
    }

    /// Returns the commits between which a promotion changes what visitors get, if both are known.
    #[must_use]
    pub fn ends(&self) -> Option<(ObjectId, ObjectId)> {
        let old = self.public_side().and_then(|side| self.commit_of(side));
        old.zip(self.other_side().and_then(|side| self.commit_of(&side)))
    }

    /// Returns whether the commits between both sides are still being determined.
    #[must_use]
    pub fn lacks_changes(&self) -> bool {
        self.ends().is_some_and(|ends| self.changes.as_ref().map(|(old, new, _)| (*old, *new)) != Some(ends))
    }

    /// Returns whether an action or something else on a server runs.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.servers.iter().any(Server::is_busy) || self.job.as_ref().is_some_and(Job::is_running)
    }

    /// Returns whether every query got a response since a time.
    #[must_use]
    pub fn is_newer_than(&self, time: Instant) -> bool {
        let is_opened = self.opened.is_some_and(|opened| opened >= time);
        let is_answered = |server: &Server| {
            server.status.is_newer_than(time)
                && server.health.is_newer_than(time)
                && (server.history.sent.is_none() || server.status.last.as_ref().is_some_and(Result::is_err))
        };
        is_opened
            && (self.problem.is_some()
                || self.front.is_newer_than(time)
                    && !self.lacks_changes()
                    && self.servers.iter().all(is_answered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_stays_in_the_config_keeps_its_responses() {
        let endpoint = |side: &str| Endpoint { side: side.into(), url: side.into(), host: side.into() };
        let mut state = State::default();
        state.set_servers(vec![endpoint("blue"), endpoint("green")]);
        state.servers[1].author = Some("Ada".into());
        state.set_servers(vec![endpoint("green"), endpoint("red")]);
        assert_eq!(state.servers[0].author.as_deref(), Some("Ada"));
        assert_eq!(state.sides(), ["green", "red"]);
        let front = |side: &str| Ok(Shown { public: Some(side.into()), split: None });
        state.front.set(front("green"));
        assert_eq!(state.other_side().as_deref(), Some("red"));
        state.front.set(front("blue"));
        assert_eq!(state.other_side(), None);
    }
}
