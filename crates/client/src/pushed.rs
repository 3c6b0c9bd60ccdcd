//! The result of a push to one server.

use serde::Serialize;

use crate::remote::Remote;
use bluegreen_git_types::ObjectId;

/// The results of a push to one server, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The refs have moved, and none of them is deployed.
    Pushed,
    /// The server serves the commit.
    Live,
    /// The commit is live, but failed its verification.
    Bad,
    /// The refs have not moved, or are not live.
    Failed,
}

impl Outcome {
    /// Formats the result for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Pushed => "pushed",
            Self::Live => "live",
            Self::Bad => "live, but bad",
            Self::Failed => "failed",
        }
    }
}

/// The push to one server, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Pushed {
    /// The server's host, or its whole address if several servers have the same host.
    pub server: String,
    /// The address that was pushed to.
    pub url: String,
    pub result: Outcome,
    /// The commit that the server serves, if it is known.
    pub commit: Option<ObjectId>,
    /// The time that it took, in seconds.
    pub seconds: f64,
    /// The reason of a failure.
    pub problem: Option<String>,
}

impl Pushed {
    /// A server that nothing was pushed to.
    pub(crate) fn failed(server: &Remote, name: &str, problem: String) -> Self {
        Self {
            server: name.to_owned(),
            url: server.url.clone(),
            result: Outcome::Failed,
            commit: None,
            seconds: 0.0,
            problem: Some(problem),
        }
    }
}
