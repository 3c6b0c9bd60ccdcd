//! The panel's interface to the client library, as traits, so that tests can replace the servers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bluegreen_client::action::Action;
use bluegreen_client::changes::Change as Commit;
use bluegreen_client::observer::Event;
use bluegreen_client::switch::Shown;
use bluegreen_git_types::ObjectId;
use bluegreen_process::signals::Stop;
use bluegreen_protocol::history::Entry;
use bluegreen_protocol::status::Status;

/// A failure, as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The failure and its reason.
    pub message: String,
    /// An action for the reader.
    pub hint: Option<String>,
}

/// A server of a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The side.
    pub side: String,
    /// The address that `git push` takes.
    pub url: String,
    /// The host, or the path of a repository on this machine.
    pub host: String,
}

/// The response to a request for the first page of `[check]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// True if the status is 2xx or 3xx.
    pub is_healthy: bool,
    /// The problem; empty if there is none.
    pub problem: String,
    /// The response time.
    pub took: Duration,
}

/// A promotion that an operator has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// The side that is to become public.
    pub side: String,
    /// True if it is promoted although a check fails.
    pub force: bool,
    /// The public side and both commits, as the operator has seen them. If they have changed, nothing happens.
    pub seen: Option<String>,
}

/// The plan of a promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The public side.
    pub from: Option<String>,
    /// The side that is to become public.
    pub to: String,
    /// True if it is public already.
    pub is_public: bool,
    /// The commit that visitors get now.
    pub old: Option<ObjectId>,
    /// The commit that they will get.
    pub new: Option<ObjectId>,
    /// The servers that do not take part, each with the reason.
    pub left_out: Vec<String>,
    /// The percentages of the requests that it gets first, each with its time.
    pub canary: Vec<(u8, Duration)>,
    /// The time for which the public address is watched.
    pub watch: Duration,
    /// The maximum wait for the in-flight requests of the previous side.
    pub drain: Duration,
}

impl Planned {
    /// Returns the state that the operator confirms, for [`Promotion::seen`].
    #[must_use]
    pub fn seen(&self) -> String {
        let id = |id: Option<ObjectId>| id.map_or_else(|| "-".into(), |id| id.to_string());
        format!("{} {} {}", self.from.as_deref().unwrap_or("-"), id(self.old), id(self.new))
    }
}

/// A change of every server of a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A command without arguments.
    Run(Action),
    /// Refuse deployments and promotions.
    Lock {
        /// The reason.
        reason: String,
        /// The end.
        until: Option<SystemTime>,
    },
    /// Allow them again.
    Unlock,
}

/// Receives the progress of an action, from several threads.
pub trait Progress: Send + Sync {
    /// Receives a line of output.
    fn line(&self, line: &str);

    /// Receives an event of a promotion.
    fn event(&self, event: Event);
}

/// Opens the config, once for each look and each action, so that a change of the config takes effect.
pub trait Client: Send + Sync {
    /// Reads the config, and finds servers and switch.
    fn open(&self) -> Result<Box<dyn Pair>, Problem>;
}

/// Both sides and the front end.
pub trait Pair: Send + Sync {
    /// Returns the public address.
    fn public_url(&self) -> String;

    /// Returns the servers of both sides, in the order of the config.
    fn servers(&self) -> Vec<Endpoint>;

    /// Asks the front end for the public side, and for the share of the other one.
    fn front(&self, stop: &Stop) -> Result<Shown, Problem>;

    /// Requests the state of a server.
    fn status(&self, server: &Endpoint, stop: &Stop) -> Result<Status, Problem>;

    /// Requests a page of a server.
    fn health(&self, server: &Endpoint, stop: &Stop) -> Result<Health, Problem>;

    /// Requests the newest entries of a server's history, the newest first.
    fn history(&self, server: &Endpoint, stop: &Stop) -> Result<Vec<Entry>, Problem>;

    /// Returns the author of a commit, if the clone contains it.
    fn author(&self, commit: &ObjectId) -> Option<String>;

    /// Returns the commits between two, if the clone contains both.
    fn changes(&self, old: &ObjectId, new: &ObjectId) -> Vec<Commit>;

    /// Plans a promotion, or returns the reason why it must not run.
    fn plan(&self, side: &str, force: bool, stop: &Stop) -> Result<Planned, Problem>;

    /// Promotes a side; returns a summary.
    fn promote(
        &self,
        wanted: &Promotion,
        stop: &Stop,
        progress: &Arc<dyn Progress>,
    ) -> Result<String, Problem>;

    /// Changes every server of a side; returns a summary.
    fn apply(
        &self,
        side: &str,
        change: &Change,
        stop: &Stop,
        progress: &Arc<dyn Progress>,
    ) -> Result<String, Problem>;

    /// Follows the log of the deployment that runs on a server, until it ends or a stop is requested.
    fn follow(&self, server: &Endpoint, stop: &Stop, line: &dyn Fn(&str)) -> Result<(), Problem>;
}
