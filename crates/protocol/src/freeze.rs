//! A freeze: the lock with a reason that an operator sets with `lock` and removes with `unlock`. Until then, or until its
//! end, a server refuses deployments, and `promote` refuses both sides.

use std::fmt::{self, Display};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::history::{Actor, Lock};
use super::{name, optional_name, subject};

/// A freeze of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// The reason, for everyone who is refused.
    #[serde(deserialize_with = "subject")]
    pub reason: String,
    /// The person who set it.
    pub by: Actor,
    /// The time at which it was set, RFC 3339, UTC.
    #[serde(deserialize_with = "name")]
    pub since: String,
    /// Its end, RFC 3339, UTC; without one, it lasts until `unlock`.
    #[serde(default, deserialize_with = "optional_name")]
    pub until: Option<String>,
}

impl Freeze {
    /// Stands for a freeze that cannot be read, because of a problem.
    #[must_use]
    pub fn unreadable(problem: String) -> Self {
        let by = Actor { user: "unknown".into(), sudo: None, boot: false, ssh: None, key: None, role: None };
        Self { reason: problem, by, since: "unknown".into(), until: None }
    }

    /// Returns whether the freeze has ended at a time. One whose end cannot be parsed lasts.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        let end = self.until.as_deref().and_then(|until| humantime::parse_rfc3339(until).ok());
        end.is_some_and(|end| end <= now)
    }

    /// Formats the reason why a commit that was pushed during the lock is not live. The lock may have ended by the time
    /// it is shown.
    #[must_use]
    pub fn why_skipped(&self) -> String {
        format!("the server was locked: {}", self.reason)
    }

    /// Formats the reason and the end: "Black Friday, until 2026-11-30T08:00:00Z".
    #[must_use]
    pub fn what(&self) -> String {
        Lock { reason: self.reason.clone(), until: self.until.clone() }.to_string()
    }
}

impl Display for Freeze {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, by, since, until } = self;
        write!(formatter, "locked by {by} (since {since}")?;
        if let Some(until) = until {
            write!(formatter, ", until {until}")?;
        }
        write!(formatter, "): {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_freeze_ends_at_its_time_and_one_without_an_end_lasts() {
        let by = Actor { user: "deploy".into(), sudo: None, boot: false, ssh: None, key: None, role: None };
        let until = |until: Option<&str>| Freeze {
            reason: "Black Friday".into(),
            by: by.clone(),
            since: "2026-11-27T00:00:00Z".into(),
            until: until.map(str::to_owned),
        };
        let end = humantime::parse_rfc3339("2026-11-30T08:00:00Z").unwrap();
        let freeze = until(Some("2026-11-30T08:00:00Z"));
        assert!(!freeze.is_over(end - Duration::from_secs(1)) && freeze.is_over(end));
        assert_eq!(
            freeze.to_string(),
            "locked by deploy (since 2026-11-27T00:00:00Z, until 2026-11-30T08:00:00Z): Black Friday"
        );
        for lasting in [until(None), until(Some("soon"))] {
            assert!(!lasting.is_over(end + Duration::from_secs(1 << 32)));
        }
        assert_eq!(until(None).what(), "Black Friday");
    }
}
