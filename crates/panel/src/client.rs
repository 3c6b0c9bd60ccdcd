//! What the panel needs from the client library, as traits, so that tests can replace the servers.

use std::time::Duration;

use bluegreen_client::changes::Change;
use bluegreen_object_store::ObjectId;
use bluegreen_process::signals::Stop;
use bluegreen_protocol::history::Entry;
use bluegreen_protocol::status::Status;

/// A failure, as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What failed, and why.
    pub message: String,
    /// One thing that the reader can do.
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

/// Opens the config, once for each look and each action, so that a change of the config takes effect.
pub trait Client: Send + Sync {
    /// Reads the config, and finds servers and switch.
    fn open(&self) -> Result<Box<dyn Pair>, Problem>;
}

/// Both sides and the front end.
pub trait Pair: Send + Sync {
    /// Returns the address that visitors type.
    fn public_url(&self) -> String;

    /// Returns the servers of both sides, in the order of the config.
    fn servers(&self) -> Vec<Endpoint>;

    /// Asks the front end for the public side.
    fn public_side(&self, stop: &Stop) -> Result<Option<String>, Problem>;

    /// Requests the state of a server.
    fn status(&self, server: &Endpoint, stop: &Stop) -> Result<Status, Problem>;

    /// Requests a page of a server.
    fn health(&self, server: &Endpoint, stop: &Stop) -> Result<Health, Problem>;

    /// Requests the newest entries of a server's history, the newest first.
    fn history(&self, server: &Endpoint, stop: &Stop) -> Result<Vec<Entry>, Problem>;

    /// Returns the author of a commit, if the clone contains it.
    fn author(&self, commit: &ObjectId) -> Option<String>;

    /// Returns the commits between two, if the clone contains both.
    fn changes(&self, old: &ObjectId, new: &ObjectId) -> Vec<Change>;
}
