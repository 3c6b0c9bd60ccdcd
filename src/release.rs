//! Releases: their names, their records, and which ones are removed or recycled.
//!
//! A release is never changed once it is ready. Its [`Record`] is kept outside of it, in `.bluegreen/`.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::SystemTime;

use bluegreen_object_store::ObjectId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A release's name, `20261122T201500Z-1a2b3c4d5e6f`: the UTC time of staging and 12 digits of the commit, then
/// `-2`, `-3` for more releases in one second. Names are ordered by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseName {
    second: String,
    sequence: u32,
    commit: String,
}

impl ReleaseName {
    /// Makes the name for a release of `commit` staged at `now`. It sorts after `newest`, even if the clock was
    /// set back.
    #[must_use]
    pub fn next(now: SystemTime, commit: ObjectId, newest: Option<&Self>) -> Self {
        let mut second = humantime::format_rfc3339_seconds(now).to_string();
        second.retain(|character| character.is_ascii_alphanumeric());
        let name = Self { second, sequence: 1, commit: commit.short() };
        match newest {
            Some(newest) if newest.second >= name.second => {
                Self { second: newest.second.clone(), sequence: newest.sequence + 1, ..name }
            }
            _ => name,
        }
    }

    /// Parses a file name; `None` for a name that is not in this pattern.
    #[must_use]
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        std::str::from_utf8(name).ok()?.parse().ok()
    }

    /// The first digits of the commit.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }
}

impl Display for ReleaseName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.second, self.commit)?;
        if self.sequence > 1 {
            write!(formatter, "-{}", self.sequence)?;
        }
        Ok(())
    }
}

impl FromStr for ReleaseName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let mut parts = text.splitn(3, '-');
            let (second, commit) = (parts.next()?, parts.next()?);
            let is_time = second.len() == 16
                && second.bytes().enumerate().all(|(at, byte)| match at {
                    8 => byte == b'T',
                    15 => byte == b'Z',
                    _ => byte.is_ascii_digit(),
                });
            let is_commit = commit.len() == ObjectId::SHORT_LEN
                && commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let sequence = match parts.next() {
                None => 1,
                Some(digits) if digits.starts_with(|first: char| ('1'..='9').contains(&first)) => {
                    digits.parse().ok().filter(|&sequence| sequence > 1)?
                }
                Some(_) => return None,
            };
            (is_time && is_commit).then(|| Self { second: second.into(), sequence, commit: commit.into() })
        };
        parse().ok_or_else(|| Error::NoRelease(text.to_owned()))
    }
}

/// The state of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its steps may still run. If the process has died, the next holder of the lock removes it.
    Staged,
    /// It is complete and on the disk; it may be live.
    Ready,
    /// It was live and failed its verification; it is never chosen again.
    Bad,
}

/// The record of a release: `.bluegreen/releases/<name>.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// Its commit.
    pub commit: ObjectId,
    /// The first line of the commit's message.
    pub subject: String,
    /// Its state.
    pub state: State,
    /// The number of files and links in the commit.
    pub files: u64,
    /// The time at which it became ready, RFC 3339, UTC.
    pub sealed: Option<String>,
    /// The inode number of its directory, where the file system keeps these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

impl Record {
    /// The record of a release that is not ready yet.
    #[must_use]
    pub fn new(commit: ObjectId, subject: String, files: u64) -> Self {
        Self { commit, subject, state: State::Staged, files, sealed: None, inode: None }
    }
}

/// A release on the disk. Without a record it is not known to be complete.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its directory's name.
    pub name: ReleaseName,
    /// Its record, if there is a readable one.
    pub record: Option<Record>,
}

impl Release {
    /// Returns whether it may become live.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.state == State::Ready)
    }

    /// Returns whether it was live and failed its verification.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.state == State::Bad)
    }

    /// Its commit.
    #[must_use]
    pub fn commit(&self) -> Option<ObjectId> {
        Some(self.record.as_ref()?.commit)
    }

    /// Its state, as tables and messages name it.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.record.as_ref().map(|record| record.state) {
            Some(State::Ready) => "ready",
            Some(State::Staged) => "not finished",
            Some(State::Bad) => "marked bad",
            None => "without a record",
        }
    }
}

/// Chooses the releases beyond `keep` good ones besides the live one, oldest first. Failed releases are counted
/// apart: only the newest of them stays, for inspection. A release without a record stays, because it is not known to
/// have failed. `releases` is ordered by age.
#[must_use]
pub fn surplus(releases: &[Release], live: &ReleaseName, keep: usize) -> Vec<ReleaseName> {
    let others = releases.iter().filter(|release| release.name != *live && release.record.is_some());
    let (good, failed): (Vec<_>, Vec<_>) = others.partition(|release| release.is_good());
    let kept: Vec<_> =
        good.iter().rev().take(keep).chain(failed.last()).map(|release| &release.name).collect();
    let is_surplus = |release: &&Release| {
        release.name != *live && release.record.is_some() && !kept.contains(&&release.name)
    };
    releases.iter().filter(is_surplus).map(|release| release.name.clone()).collect()
}

/// Chooses the releases that the next one may be made from, best first: the newest of those beyond `keep`, but never the
/// one that a rollback would choose. So a deployment that fails costs no release that `keep` promises.
#[must_use]
pub fn recyclable(releases: &[Release], live: Option<&ReleaseName>, keep: usize) -> Vec<ReleaseName> {
    let Some(live) = live else { return Vec::new() };
    let previous = previous(releases, Some(live)).map(|release| &release.name);
    let mut names = surplus(releases, live, keep);
    names.retain(|name| Some(name) != previous);
    names.reverse();
    names
}

/// Returns the newest good release that is older than the live one; the newest one if nothing is live. `releases` is
/// ordered by age.
#[must_use]
pub fn previous<'a>(releases: &'a [Release], live: Option<&ReleaseName>) -> Option<&'a Release> {
    let older = releases.iter().take_while(|release| Some(&release.name) != live);
    older.filter(|release| release.is_good()).last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn name(text: &str) -> ReleaseName {
        text.parse().unwrap()
    }

    fn release(text: &str, state: State) -> Release {
        let record = Record { state, ..Record::new(ObjectId::NULL, String::new(), 0) };
        Release { name: name(text), record: Some(record) }
    }

    #[test]
    fn names_are_utc_time_and_commit() {
        let commit = "1a2b3c4d5e6f7a8b9c0d1a2b3c4d5e6f7a8b9c0d".parse().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_378_500);
        let first = ReleaseName::next(now, commit, None);
        assert_eq!(first.to_string(), "20261122T201500Z-1a2b3c4d5e6f");
        let second = ReleaseName::next(now, commit, Some(&first));
        assert_eq!(second.to_string(), "20261122T201500Z-1a2b3c4d5e6f-2");
        let backwards = ReleaseName::next(now - Duration::from_secs(3600), commit, Some(&second));
        assert_eq!(backwards.to_string(), "20261122T201500Z-1a2b3c4d5e6f-3");
        assert!(first < second && second < backwards);
    }

    #[test]
    fn order_is_age_not_spelling() {
        assert!(name("20261122T201500Z-ffffffffffff") < name("20261122T201500Z-000000000000-2"));
        assert!(name("20261122T201500Z-aaaaaaaaaaaa-9") < name("20261122T201500Z-aaaaaaaaaaaa-10"));
    }

    #[test]
    fn foreign_names_are_not_releases() {
        for foreign in [
            "current",
            "20261122",
            "20261122T201500Z-1a2b3c4d5e6",
            "20261122T201500Z-1A2B3C4D5E6F",
            "20261122T201500Z-1a2b3c4d5e6f-1",
            "20261122T201500Z-1a2b3c4d5e6f-02",
            "20261122T201500Z-1a2b3c4d5e6f-x",
            "20261122T201500Z-1a2b3c4d5e6f/",
            "20261122-201500Z-1a2b3c4d5e6f",
        ] {
            assert!(foreign.parse::<ReleaseName>().is_err(), "{foreign}");
        }
    }

    #[test]
    fn surplus_counts_good_releases_only() {
        let at = |second: u32| format!("20261122T2015{second:02}Z-1a2b3c4d5e6f");
        let mut releases: Vec<_> = (0..5).map(|second| release(&at(second), State::Ready)).collect();
        releases.push(release(&at(6), State::Bad));
        releases.push(release(&at(7), State::Bad));
        let live = name(&at(4));
        assert_eq!(surplus(&releases, &live, 4), [name(&at(6))]);
        assert_eq!(surplus(&releases, &live, 2), [name(&at(0)), name(&at(1)), name(&at(6))]);
        assert_eq!(surplus(&releases, &name(&at(0)), 0).len(), 5);
        assert_eq!(recyclable(&releases, Some(&live), 4), [name(&at(6))]);
        assert_eq!(recyclable(&releases, Some(&live), 2), [name(&at(6)), name(&at(1)), name(&at(0))]);
        assert_eq!(recyclable(&releases[..5], Some(&live), 4), [], "a rollback may choose any of them");
        assert_eq!(recyclable(&releases[3..5], Some(&live), 0), [], "the one before the live one stays");
        assert_eq!(recyclable(&releases, None, 0), []);
        assert_eq!(surplus(&releases, &name(&at(0)), 3), [name(&at(1)), name(&at(6))]);
    }

    #[test]
    fn a_release_without_a_record_is_neither_surplus_nor_recycled() {
        let at = |second: u32| format!("20261122T2015{second:02}Z-1a2b3c4d5e6f");
        let unknown = |second| Release { name: name(&at(second)), record: None };
        let mut releases: Vec<_> = (0..5).map(unknown).collect();
        releases.push(release(&at(5), State::Ready));
        assert_eq!(surplus(&releases, &name(&at(5)), 0), []);
        assert_eq!(recyclable(&releases, Some(&name(&at(5))), 0), []);
    }
}
