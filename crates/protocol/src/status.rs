//! The state of a server: the output of `status --json`, and what a hold reports.

use std::fmt::{self, Display};

use serde::{Deserialize, Deserializer, Serialize};

use super::freeze::Freeze;
use super::history::{Action, Actor};
use super::{message, name, optional_message, optional_name, optional_subject, subject};
use bluegreen_git_types::ObjectId;

/// The maximum number of pending items that are kept.
const MAX_PENDING: usize = 100;

/// The state of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The server's name.
    #[serde(deserialize_with = "name")]
    pub server: String,
    /// The branch that deploys.
    #[serde(default, deserialize_with = "name")]
    pub branch: String,
    /// The site's directory.
    #[serde(default, deserialize_with = "subject")]
    pub site: String,
    /// The live release.
    #[serde(default, deserialize_with = "optional_name")]
    pub live: Option<String>,
    /// The target of `current` if that is not a release.
    #[serde(default, deserialize_with = "optional_subject")]
    pub elsewhere: Option<String>,
    /// The live commit.
    #[serde(default)]
    pub commit: Option<ObjectId>,
    /// Its subject.
    #[serde(default, deserialize_with = "optional_subject")]
    pub subject: Option<String>,
    /// The time at which the live release was sealed.
    #[serde(default, deserialize_with = "optional_name")]
    pub sealed: Option<String>,
    /// The time of the last activation.
    #[serde(default, deserialize_with = "optional_name")]
    pub since: Option<String>,
    /// True if the live release did not fail its verification.
    pub good: bool,
    /// The mark of the last promotion.
    #[serde(default)]
    pub public: Option<PublicMark>,
    /// The role of the side, if something on this server depends on it.
    #[serde(default)]
    pub role: Option<Role>,
    /// The version of the protocol of a hold that the server speaks.
    #[serde(default = "oldest")]
    pub protocol: u32,
    /// The lock that an operator has set.
    #[serde(default)]
    pub lock: Option<Freeze>,
    /// The commit of the branch in the repository.
    #[serde(default)]
    pub tip: Option<ObjectId>,
    /// The reason why the tip is not live.
    #[serde(default, deserialize_with = "optional_message")]
    pub why: Option<String>,
    /// True if the tip contains the same deployed folder as the live commit, so that a push of it deploys nothing.
    #[serde(default)]
    pub unchanged: bool,
    /// The work that a crash left unfinished.
    #[serde(default, deserialize_with = "pending")]
    pub pending: Vec<Pending>,
    /// The holder of the lock.
    #[serde(default)]
    pub running: Option<Holder>,
}

impl Status {
    /// Returns the commits whose deployed files this server serves: the live one, and the tip if its push deployed
    /// nothing.
    fn served(&self) -> impl Iterator<Item = ObjectId> {
        self.commit.into_iter().chain(self.tip.filter(|_| self.unchanged))
    }
}

/// Returns the position of the first server whose files differ from those of the first server in the list. With
/// `subdirectory`, servers whose live commits differ can serve the same files.
#[must_use]
pub fn first_different(servers: &[&Status]) -> Option<usize> {
    let (first, rest) = servers.split_first()?;
    let mut same: Vec<ObjectId> = first.served().collect();
    let is_same = |server: &Status, same: &[ObjectId]| {
        server.served().any(|commit| same.contains(&commit)) || (server.commit, first.commit) == (None, None)
    };
    // Two servers can share no commit, but each of them one with a third.
    let mut others: Vec<(usize, &&Status)> = (1..).zip(rest).collect();
    loop {
        let (found, left): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(_, server)| is_same(server, &same));
        if found.is_empty() {
            return left.first().map(|(at, _)| *at);
        }
        same.extend(found.iter().flat_map(|(_, server)| server.served()));
        others = left;
    }
}

/// The mark that a promotion leaves on each server of both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicMark {
    /// True if this side is public.
    pub public: bool,
    /// The time at which it became public, or ceased to be, RFC 3339, UTC.
    #[serde(deserialize_with = "name")]
    pub since: String,
}

/// The role of a server: whether it runs what only the public side runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// True if `enter` of `[public]` ran last, false if `leave` did, and null if neither has.
    #[serde(default)]
    pub public: Option<bool>,
    /// False if these steps were interrupted or have failed.
    pub complete: bool,
    /// The maximum time that these steps may take, in seconds.
    #[serde(default)]
    pub within: u64,
}

impl Role {
    /// Formats the role, such as "runs the jobs of the public side".
    #[must_use]
    pub fn words(&self) -> &'static str {
        match (self.public, self.complete) {
            (_, false) => "unknown: `enter` or `leave` of `[public]` failed or was interrupted",
            (Some(true), true) => "entered: runs what only the public side runs",
            (Some(false), true) => "left: the other side runs what only the public side runs",
            (None, true) => "unknown until the first promotion",
        }
    }
}

/// Work that a crash left unfinished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub kind: Kind,
    /// The problem in words.
    #[serde(deserialize_with = "message")]
    pub message: String,
    /// The command of this program that finishes it: "resume".
    #[serde(deserialize_with = "name")]
    pub command: String,
}

/// The commands that finish pending work.
const COMMANDS: [&str; 4] = ["deploy", "public", "resume", "rollback"];

impl Pending {
    /// Returns the command if this version recognizes it. An operator may paste it into a shell, where any other text of a
    /// server could run anything.
    #[must_use]
    pub fn known_command(&self) -> Option<&'static str> {
        COMMANDS.into_iter().find(|command| *command == self.command)
    }
}

/// The kinds of pending work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Git left a stale lock before the last boot, and rejects pushes.
    Lock,
    /// A publication was interrupted.
    Publication,
    /// A change of the side's role was interrupted, or was not recorded.
    Role,
    /// No deployment has examined the tip of the branch.
    Tip,
    /// A kind that this version does not recognize.
    #[serde(other)]
    Other,
}

/// The holder of the lock, as the lock file names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    pub action: Action,
    /// The person who requested it.
    pub by: Actor,
    /// The time at which it began to wait for the lock, RFC 3339, UTC.
    #[serde(deserialize_with = "name")]
    pub since: String,
    /// Its current phase.
    #[serde(deserialize_with = "name")]
    pub phase: String,
}

impl Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a {} by {} (process {}, since {})", self.action, self.by, self.pid, self.since)
    }
}

/// The version of a server that does not report one.
fn oldest() -> u32 {
    1
}

fn pending<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Pending>, D::Error> {
    let mut pending = Vec::<Pending>::deserialize(from)?;
    pending.truncate(MAX_PENDING);
    Ok(pending)
}
