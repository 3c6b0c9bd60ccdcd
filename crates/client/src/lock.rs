//! `lock` and `unlock` on every server of a side.

use std::time::{Duration, SystemTime};

use super::program;
use super::remote::Remote;
use crate::error::{Error, Result};
use bluegreen_process::signals::Stop;
use bluegreen_sys::concurrent;
use bluegreen_text::timestamp;

/// The timeout of the command on one server: it waits there for a running deployment.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// A change of the lock of each server.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// `lock`, with the same end on all servers.
    Lock {
        /// The reason, one line.
        reason: &'a str,
        /// The end; without one, it lasts until `unlock`.
        until: Option<SystemTime>,
        /// True if it replaces another lock.
        replace: bool,
    },
    /// `unlock`.
    Unlock,
}

impl Change<'_> {
    /// Returns the command's name.
    #[must_use]
    pub fn command(&self) -> &'static str {
        match self {
            Self::Lock { .. } => "lock",
            Self::Unlock => "unlock",
        }
    }

    /// Changes the lock of all servers in parallel, and returns the output of each, in the order of the servers.
    #[must_use]
    pub fn apply(&self, servers: &[Remote], stop: &Stop) -> Vec<Result<String>> {
        let mut words = vec![self.command()];
        let end;
        if let Self::Lock { reason, until, replace } = self {
            end = until.map(timestamp);
            words.extend(end.iter().flat_map(|end| ["--until", end.as_str()]));
            words.extend(replace.then_some("--force"));
            words.extend(["--", reason]);
        }
        concurrent::map(servers, |server| {
            let output = program::run(&mut server.command(&words)?, TIMEOUT, Some(stop))?;
            if output.is_ok() { Ok(output.stdout) } else { Err(server.failed(self.command(), &output)) }
        })
    }

    /// The error if some servers of a side failed.
    #[must_use]
    pub fn failed(&self, problem: String, side: &str) -> Error {
        Error::LockSide { problem, command: self.command(), side: side.to_owned() }
    }
}
