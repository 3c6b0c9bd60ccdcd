//! The protocol of `hold`: the client sends one request per line, and the server replies to each with one line of JSON.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::history::Entry;
use super::status::Status;
use bluegreen_text::{MAX_MESSAGE_CHARS, MAX_NAME_CHARS, truncated};

/// The maximum length of a request, in bytes.
pub const MAX_REQUEST: usize = 64 * 1024;

/// The version of the protocol: 2 has `enter` and `leave`, and a client that respects `bluegreen lock`.
pub const PROTOCOL: u32 = 2;

/// A request of the client.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Renews the lease.
    Beat,
    /// Requests the state of the server, which also shows whether it still holds the lock.
    Status,
    /// Takes the lock, if `hold --standby` has not taken it yet.
    Lock,
    /// Runs `enter` of `[public]`, or `leave` if this is false.
    Role(bool),
    /// Writes the mark: this side is public, or not.
    Public(bool),
    /// Adds an entry to the history.
    Record(Box<Entry>),
    /// Releases the lock and runs `[notify]` for what was recorded.
    Notify,
}

/// A reply of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Another process holds the lock.
    Waiting(#[serde(deserialize_with = "super::message")] String),
    /// The lock is held now, so no other process changes the server.
    Held(Box<Status>),
    /// The lease was renewed.
    Beat(bool),
    /// The state of the server.
    Status(Box<Status>),
    /// `enter` has run, or `leave` if this is false.
    Role(bool),
    /// The mark was written: "yes" or "no".
    Marked(#[serde(deserialize_with = "super::name")] String),
    /// The entry was written.
    Recorded(bool),
    /// `[notify]` has run, with these warnings.
    Notified(Vec<String>),
    /// The request failed.
    Error(#[serde(deserialize_with = "super::message")] String),
}

impl Reply {
    /// Parses a line of the server.
    pub fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

impl Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beat => formatter.write_str("beat"),
            Self::Status => formatter.write_str("status"),
            Self::Lock => formatter.write_str("lock"),
            Self::Role(public) => formatter.write_str(if *public { "enter" } else { "leave" }),
            Self::Public(public) => write!(formatter, "public {}", if *public { "yes" } else { "no" }),
            Self::Record(entry) => {
                let text = serde_json::to_string(entry).map_err(|_| fmt::Error)?;
                write!(formatter, "record {text}")
            }
            Self::Notify => formatter.write_str("notify"),
        }
    }
}

impl FromStr for Request {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (verb, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match (verb, rest) {
            ("beat", _) => Ok(Self::Beat),
            ("status", _) => Ok(Self::Status),
            ("lock", "") => Ok(Self::Lock),
            ("enter" | "leave", "") => Ok(Self::Role(verb == "enter")),
            ("public", "yes" | "no") => Ok(Self::Public(rest == "yes")),
            ("notify", _) => Ok(Self::Notify),
            ("record", entry) => {
                let entry: Entry = serde_json::from_str(entry).map_err(|error| {
                    format!("invalid history entry: {}", truncated(&error.to_string(), MAX_MESSAGE_CHARS))
                })?;
                entry.check_promotion()?;
                Ok(Self::Record(Box::new(entry.bounded())))
            }
            _ => Err(format!("unknown request `{}`", truncated(verb, MAX_NAME_CHARS))),
        }
    }
}
