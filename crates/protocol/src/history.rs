//! An entry of the history: who changed what, how long it took, and how it ended.

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use super::role::Role;
use super::{MAX_SUBJECT_CHARS, name, optional_name};
use bluegreen_git_types::ObjectId;
use bluegreen_text::{MAX_MESSAGE_CHARS, MAX_NAME_CHARS, escape_controls, printable, truncated};

/// An ssh key, and the name of its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The key's comment, or the id of its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_name")]
    pub name: Option<String>,
    /// `SHA256:` and 43 characters, as ssh-keygen and sshd's log write it.
    #[serde(deserialize_with = "name")]
    pub fingerprint: String,
}

/// The person who requested a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The login name that the program runs under.
    #[serde(deserialize_with = "name")]
    pub user: String,
    /// The login name of the user who called `sudo`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_name")]
    pub sudo: Option<String>,
    /// True if the boot ran `resume`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub boot: bool,
    /// The address that an ssh connection comes from.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_name")]
    pub ssh: Option<String>,
    /// The key that an ssh connection came in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The role of that key, if it is restricted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

impl Display for Key {
    /// The name, and enough of the fingerprint to distinguish two people of one name.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.fingerprint.chars().take(15).collect();
        match &self.name {
            Some(name) => write!(formatter, "{} ({short})", printable(name)),
            None => write!(formatter, "{short}"),
        }
    }
}

impl Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.boot {
            return formatter.write_str("the boot");
        }
        match (&self.sudo, &self.key) {
            (None, Some(key)) => write!(formatter, "{key}")?,
            (sudo, _) => formatter.write_str(sudo.as_ref().unwrap_or(&self.user))?,
        }
        if let Some(role) = &self.role {
            write!(formatter, " with the role {role}")?;
        }
        match &self.ssh {
            Some(address) => write!(formatter, " from {address}"),
            None => Ok(()),
        }
    }
}

/// The kinds of changes to a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A commit becomes a release.
    Deploy,
    /// An older release becomes live again.
    Rollback,
    /// The previous contents of a site become a release.
    Adopt,
    /// Visitors get the other side.
    Promote,
    /// An operator locks a server.
    Lock,
    /// An operator unlocks a server.
    Unlock,
}

impl Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Deploy => "deployment",
            Self::Rollback => "rollback",
            Self::Adopt => "adoption",
            Self::Promote => "promotion",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
        })
    }
}

/// The outcome of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The release is live.
    Live,
    /// Another release, or none, is live.
    Failed,
    /// The server is locked, or unlocked.
    Done,
}

/// One line of the history. The field names are the documented schema of `history --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The time at which it began, RFC 3339, UTC.
    pub time: String,
    /// The kind of change.
    pub action: Action,
    /// The person who requested it.
    pub by: Actor,
    /// The release that was to become live, where it got a name.
    pub release: Option<String>,
    /// The commit that was live before.
    pub old: Option<ObjectId>,
    /// The commit that was to become live.
    pub new: Option<ObjectId>,
    /// The time that it took in seconds, waiting included.
    pub seconds: f64,
    pub outcome: Outcome,
    /// The error message, if something failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The sides of a promotion, and its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
    /// The lock that was set or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
}

/// A lock, as the history records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub reason: String,
    /// Its end, RFC 3339, UTC, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A promotion, as both sides record it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// The side that was public before, if one was.
    pub from: Option<String>,
    /// The side that was to become public.
    pub to: String,
    /// The requests to the public address while it was watched.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

impl Display for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)?;
        self.until.as_ref().map_or(Ok(()), |until| write!(formatter, ", until {until}"))
    }
}

impl Entry {
    /// Truncates all texts. They come from other programs, from the client of a promotion, and from a file that
    /// the repository's owner can write, and end up in tables and in the environment of `[notify]`.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let bound = |text: &mut String, max| {
            if let Cow::Owned(shorter) = truncated(text, max) {
                *text = shorter;
            }
        };
        let Actor { user, sudo, ssh, key, .. } = &mut self.by;
        let names = [sudo.as_mut(), ssh.as_mut(), self.release.as_mut()].into_iter().flatten();
        let key = key
            .iter_mut()
            .flat_map(|Key { name, fingerprint }| [Some(fingerprint), name.as_mut()].into_iter().flatten());
        let promotion = self
            .promotion
            .iter_mut()
            .flat_map(|Promotion { from, to, .. }| [Some(to), from.as_mut()].into_iter().flatten());
        let ends = self.lock.iter_mut().filter_map(|lock| lock.until.as_mut());
        let all = names.chain(key).chain(promotion).chain(ends).chain([user, &mut self.time]);
        all.for_each(|name| bound(name, MAX_NAME_CHARS));
        if let Some(lock) = &mut self.lock {
            bound(&mut lock.reason, MAX_SUBJECT_CHARS);
        }
        if let Some(error) = &mut self.error {
            bound(error, MAX_MESSAGE_CHARS);
        }
        self
    }

    /// Checks an entry that a client sends to a server for recording: it must describe a promotion.
    pub fn check_promotion(&self) -> Result<(), String> {
        let is_promotion = self.action == Action::Promote
            && self.promotion.is_some()
            && self.release.is_none()
            && self.lock.is_none()
            && self.outcome != Outcome::Done
            && (0.0..1e9).contains(&self.seconds)
            && humantime::parse_rfc3339(&self.time).is_ok();
        if is_promotion {
            Ok(())
        } else {
            Err("invalid history entry: it does not describe a promotion".into())
        }
    }

    /// Formats the outcome: "live", "failed: cancelled".
    #[must_use]
    pub fn ending(&self) -> String {
        match (&self.outcome, &self.error) {
            (Outcome::Live, None) => "live".into(),
            (Outcome::Live, Some(error)) => format!("live, but {error}"),
            (Outcome::Done, _) => self.lock.as_ref().map_or_else(|| "done".into(), ToString::to_string),
            (Outcome::Failed, error) => format!("failed: {}", error.as_deref().unwrap_or("unknown")),
        }
    }

    /// Formats the entry as a sentence: who did what on a server, and how it ended.
    #[must_use]
    pub fn sentence(&self, server: &str) -> String {
        let side = self.promotion.as_ref().map(|promotion| promotion.to.as_str());
        let commit = self.new.as_ref().map(ObjectId::short);
        let what: Vec<&str> = [side, commit.as_deref()].into_iter().flatten().collect();
        let of = if what.is_empty() { String::new() } else { format!(" of {}", what.join(" ")) };
        let Self { action, by, seconds, .. } = self;
        escape_controls(&format!("{server}: {action}{of} by {by}: {} ({seconds:.2} s)", self.ending()))
    }
}
