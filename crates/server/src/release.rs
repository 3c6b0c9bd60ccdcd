//! Releases: their names, their records, and which ones are removed or recycled.
//!
//! The files of a release are not modified once it is ready, until it is recycled or removed. Its [`Record`] is stored
//! outside of it, in `.bluegreen/`.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use bluegreen_object_store::ObjectId;
use bluegreen_text::timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The largest backward step of the clock that release names conceal.
const TOLERANCE: Duration = Duration::from_secs(86_400);

/// A release's name, `20261122T201500Z-1a2b3c4d5e6f`: the UTC time of staging, 12 digits of the commit, and `-2`, `-3` for
/// further releases in the same second. Names sort by age unless the clock was set back by more than a day.
/// [`Record::number`] always does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseName {
    second: String,
    sequence: u32,
    commit: String,
}

impl ReleaseName {
    /// Returns the name for a release of `commit` staged at `now`, after `releases`, which are sorted by age. It sorts after
    /// the newest of them even if the clock was set back by up to a day. If the newest is dated later than that, its date is
    /// wrong, and later releases do not inherit it.
    #[must_use]
    pub fn next(now: SystemTime, commit: ObjectId, releases: &[Release]) -> Self {
        let second = |time| {
            let mut text = timestamp(time);
            text.retain(|character| character.is_ascii_alphanumeric());
            text
        };
        let latest = second(now.checked_add(TOLERANCE).unwrap_or(now));
        let newest = releases.last().map(|release| &release.name.second);
        let newest = newest.filter(|newest| **newest <= latest).cloned();
        let second = newest.into_iter().fold(second(now), String::max);
        let same = releases.iter().map(|release| &release.name).filter(|name| name.second == second);
        let sequence = same.map(|name| name.sequence).max().map_or(1, |last| last.saturating_add(1));
        Self { second, sequence, commit: commit.short() }
    }

    /// Parses a file name; `None` if it is not a release's name.
    #[must_use]
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        std::str::from_utf8(name).ok()?.parse().ok()
    }

    /// Returns the first digits of the commit.
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
    /// Its steps may still be running. If their process has died, the next holder of the lock removes it.
    Staged,
    /// Complete and flushed to disk. It may be live.
    Ready,
    /// It failed its verification, and is never chosen again.
    Bad,
}

/// The record of a release: `.bluegreen/releases/<name>.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    pub commit: ObjectId,
    /// The first line of the commit message.
    pub subject: String,
    pub state: State,
    /// The number of files and links in the commit.
    pub files: u64,
    /// When it became ready, RFC 3339, UTC.
    pub sealed: Option<String>,
    /// Its position in the order of releases. Releases created by old versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Whether its files were flushed to the disk before it became ready.
    #[serde(default)]
    pub flushed: bool,
    /// The inode number of its directory, if the file system has stable ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// The folder of the commit that was deployed; `None` for the whole commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdirectory: Option<PathBuf>,
    /// The outputs of build steps that later releases may copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
}

/// The outputs of a build step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// A digest of the step's dependencies.
    pub key: String,
    /// A digest of the state of the output files when the release became ready.
    pub fingerprint: String,
}

impl Record {
    /// Creates the record of a release that is not ready yet.
    #[must_use]
    pub fn new(commit: ObjectId, subject: String, files: u64) -> Self {
        Self {
            commit,
            subject,
            state: State::Staged,
            files,
            sealed: None,
            number: None,
            flushed: false,
            inode: None,
            subdirectory: None,
            outputs: Vec::new(),
        }
    }

    /// Returns whether the release may become live.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.state == State::Ready
    }
}

/// A release on disk. Without a record, it may be incomplete.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its directory's name.
    pub name: ReleaseName,
    /// Its record, if it exists and can be read.
    pub record: Option<Record>,
}

impl Release {
    /// Returns whether the release may become live.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.record.as_ref().is_some_and(Record::is_good)
    }

    /// Returns whether the release failed its verification.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.state == State::Bad)
    }

    /// Returns the commit.
    #[must_use]
    pub fn commit(&self) -> Option<ObjectId> {
        Some(self.record.as_ref()?.commit)
    }

    /// Returns the state as tables and messages print it.
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

/// Sorts releases by age: by number. A release without a number follows its predecessor by name.
pub fn sort_by_age(releases: &mut [Release]) {
    releases.sort_by(|a, b| a.name.cmp(&b.name));
    let mut number = 0;
    let mut keys = HashMap::new();
    for release in &*releases {
        number = release.record.as_ref().and_then(|record| record.number).unwrap_or(number);
        keys.insert(release.name.clone(), number);
    }
    // The sort is stable.
    releases.sort_by_key(|release| keys.get(&release.name).copied());
}

#[must_use]
pub fn next_number(releases: &[Release]) -> u64 {
    let numbers = releases.iter().filter_map(|release| release.record.as_ref()?.number);
    numbers.max().map_or(1, |last| last.saturating_add(1))
}

/// Returns the surplus releases, oldest first: all but the live one, `keep` other good ones, and the newest failed one,
/// which is kept for inspection. A release without a record is kept, because it may be good. `releases` is sorted by age.
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

/// Returns the releases that the next one may recycle, best first: the surplus ones, newest first, but never the one that
/// a rollback would choose. A failed deployment therefore costs no release that `keep` promises.
#[must_use]
pub fn recyclable(releases: &[Release], live: Option<&ReleaseName>, keep: usize) -> Vec<ReleaseName> {
    let Some(live) = live else { return Vec::new() };
    let previous = previous(releases, Some(live)).map(|release| &release.name);
    let mut names = surplus(releases, live, keep);
    names.retain(|name| Some(name) != previous);
    names.reverse();
    names
}

/// Returns the newest good release that is older than the live one, or the newest one if nothing is live. `releases` is
/// sorted by age.
#[must_use]
pub fn previous<'a>(releases: &'a [Release], live: Option<&ReleaseName>) -> Option<&'a Release> {
    let older = releases.iter().take_while(|release| Some(&release.name) != live);
    older.filter(|release| release.is_good()).last()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let named = |names: &[&ReleaseName]| -> Vec<Release> {
            names.iter().map(|name| Release { name: (*name).clone(), record: None }).collect()
        };
        let first = ReleaseName::next(now, commit, &[]);
        assert_eq!(first.to_string(), "20261122T201500Z-1a2b3c4d5e6f");
        let second = ReleaseName::next(now, commit, &named(&[&first]));
        assert_eq!(second.to_string(), "20261122T201500Z-1a2b3c4d5e6f-2");
        let backwards =
            ReleaseName::next(now - Duration::from_secs(3600), commit, &named(&[&first, &second]));
        assert_eq!(backwards.to_string(), "20261122T201500Z-1a2b3c4d5e6f-3");
        assert!(first < second && second < backwards);
        // Before the epoch and after the calendar: a wrong clock must not cause a panic.
        let before = ReleaseName::next(SystemTime::UNIX_EPOCH - Duration::from_secs(9), commit, &[]);
        assert_eq!(before.to_string(), "19700101T000000Z-1a2b3c4d5e6f");
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 45);
        let jumped = ReleaseName::next(far, commit, &named(&[&first]));
        assert_eq!(jumped.to_string(), "99991231T235959Z-1a2b3c4d5e6f");
        // Once the clock is right again, so are the names.
        let after = ReleaseName::next(now, commit, &named(&[&first, &jumped]));
        assert_eq!(after.to_string(), "20261122T201500Z-1a2b3c4d5e6f-2");
    }

    #[test]
    fn order_is_that_of_the_numbers() {
        let numbered = |text: &str, number| {
            let record = Record { number, ..Record::new(ObjectId::NULL, String::new(), 0) };
            Release { name: name(text), record: Some(record) }
        };
        let mut releases = vec![
            numbered("20261122T201500Z-1a2b3c4d5e6f", Some(3)),
            numbered("20261121T201500Z-1a2b3c4d5e6f", Some(1)),
            numbered("99991231T235959Z-1a2b3c4d5e6f", Some(2)),
            Release { name: name("20261121T201500Z-000000000000-2"), record: None },
            numbered("20251121T201500Z-1a2b3c4d5e6f", None),
        ];
        assert_eq!(next_number(&releases), 4);
        sort_by_age(&mut releases);
        let years: Vec<String> =
            releases.iter().map(|release| release.name.to_string()[..8].to_owned()).collect();
        assert_eq!(years, ["20251121", "20261121", "20261121", "99991231", "20261122"]);
        assert_eq!(previous(&releases, Some(&releases[4].name)).map(|release| &release.name), None);
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
