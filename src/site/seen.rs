//! `.bluegreen/seen`: the tips of the branch that were looked at, and why they are not live.
//!
//! A tip is settled if it is live, if a release of it was marked bad, or if it stands here. Any other one nobody
//! has looked at: git had moved the branch, and a crash came before the deployment. A deployment that succeeds
//! writes nothing here, and one that a crash cut off has no entry, so that `resume` finds its tip.

use serde::{Deserialize, Serialize};

use super::{Live, LockedSite, Site, history};
use crate::error::{Error, Result};
use crate::git::id::CommitId;

const SEEN: &str = "seen";

/// The number of times that `resume` begins to deploy one tip, or runs the steps of one publication. Steps that
/// bring the machine down must not do so at every boot.
pub const ATTEMPTS: u8 = 3;

/// A tip that somebody has decided about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The commit.
    pub tip: CommitId,
    /// The reason why it is not live: the error of its deployment, "skipped", "rolled back".
    pub why: String,
    /// The number of times that `resume` began to deploy it, while none of them has ended.
    #[serde(default)]
    pub attempts: u8,
}

/// The answer about a tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It is live.
    Live,
    /// It was looked at, and is not live, for this reason where one is known.
    Settled(Option<String>),
    /// Nobody has looked at it.
    Unseen,
    /// `resume` has begun to deploy it as often as it may, and was cut off each time.
    GivenUp,
}

impl Look {
    /// The reason why a tip is not live, where it was looked at.
    #[must_use]
    pub fn why(self) -> Option<String> {
        if let Self::Settled(why) = self { why } else { None }
    }
}

impl Site {
    /// Looks up what became of a tip.
    pub fn look_up(&self, tip: CommitId) -> Result<Look> {
        if self.good_commit()? == Some(tip) {
            return Ok(Look::Live);
        }
        let Some(seen) = self.seen()? else {
            return Ok(if self.is_new()? { Look::Unseen } else { Look::Settled(None) });
        };
        Ok(match seen.into_iter().find(|seen| seen.tip == tip) {
            Some(seen) if seen.attempts == 0 => Look::Settled(Some(seen.why)),
            _ if self.has_bad_release_of(tip)? => Look::Settled(None),
            Some(seen) if seen.attempts >= ATTEMPTS => Look::GivenUp,
            _ => Look::Unseen,
        })
    }

    /// The tips that were looked at and are not live; `None` where nobody has kept account of them yet.
    pub fn seen(&self) -> Result<Option<Vec<Seen>>> {
        // It is written whole or not at all, so one that cannot be parsed is not ours.
        Ok(self.read_state(SEEN)?.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// The commit that is live, if it is good.
    pub fn good_commit(&self) -> Result<Option<CommitId>> {
        let live = self.live()?;
        Ok(self.commit(&live).filter(|_| self.is_good(&live)))
    }

    /// Returns whether nothing was ever done here.
    fn is_new(&self) -> Result<bool> {
        Ok(self.live()? == Live::Nothing && self.releases()?.is_empty() && history::read(self)?.is_empty())
    }

    fn has_bad_release_of(&self, commit: CommitId) -> Result<bool> {
        Ok(self.releases()?.iter().any(|release| release.is_bad() && release.commit() == Some(commit)))
    }
}

impl LockedSite {
    /// Begins to keep account, where nobody has. What became of the tip is not known then, unless it is live
    /// or the site is new.
    pub fn begin_account(&self, tip: impl FnOnce() -> Result<Option<CommitId>>) -> Result<()> {
        if self.seen()?.is_some() {
            return Ok(());
        }
        let tip = if self.is_new()? { None } else { tip()? };
        let live = self.good_commit()?;
        let unknown = tip.filter(|_| tip != live).map(|tip| Seen {
            tip,
            why: "there is no record of what became of it".into(),
            attempts: 0,
        });
        self.write_seen(unknown.as_slice())
    }

    /// Records that a tip is not to become live, and why.
    pub fn set_aside(&self, tip: CommitId, why: &str) -> Result<()> {
        let mut seen = self.seen()?.unwrap_or_default();
        if seen.iter().any(|seen| seen.tip == tip && seen.attempts == 0) {
            return Ok(());
        }
        seen.retain(|seen| seen.tip != tip);
        seen.push(Seen { tip, why: why.to_owned(), attempts: 0 });
        self.write_seen(&seen)
    }

    /// Forgets a tip: somebody wants it to be deployed.
    pub fn forget_seen(&self, tip: CommitId) -> Result<()> {
        let mut seen = self.seen()?.unwrap_or_default();
        let before = seen.len();
        seen.retain(|seen| seen.tip != tip);
        if seen.len() == before { Ok(()) } else { self.write_seen(&seen) }
    }

    /// Records that `resume` begins to deploy a tip.
    pub fn begin_attempt(&self, tip: CommitId) -> Result<()> {
        let mut seen = self.seen()?.unwrap_or_default();
        let attempts = seen.iter().find(|seen| seen.tip == tip).map_or(0, |seen| seen.attempts);
        seen.retain(|seen| seen.tip != tip);
        let why = "its deployment was cut off".to_owned();
        seen.push(Seen { tip, why, attempts: attempts + 1 });
        self.write_seen(&seen)
    }

    /// Records how a change ended: the error of a commit that was to become live. What is not the tip, or is
    /// live, is forgotten.
    pub fn settle(
        &self,
        failed: Option<(CommitId, String)>,
        tip: impl FnOnce() -> Result<Option<CommitId>>,
    ) -> Result<()> {
        let stored = self.seen()?.unwrap_or_default();
        let mut seen = stored.clone();
        if let Some((commit, why)) = failed {
            seen.retain(|seen| seen.tip != commit);
            seen.push(Seen { tip: commit, why, attempts: 0 });
        }
        if seen.is_empty() {
            return Ok(());
        }
        let (tip, live) = (tip()?, self.good_commit()?);
        seen.retain(|seen| Some(seen.tip) == tip && live != tip);
        if seen == stored { Ok(()) } else { self.write_seen(&seen) }
    }

    fn write_seen(&self, seen: &[Seen]) -> Result<()> {
        let text = serde_json::to_vec(seen)
            .map_err(|error| Error::io("write", self.state_path().join(SEEN))(error.into()))?;
        self.write_state(SEEN, &text)
    }
}
