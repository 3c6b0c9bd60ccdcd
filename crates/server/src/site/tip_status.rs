//! `.bluegreen/seen`: the tips of the branch that were examined and are not live, each with the reason.
//!
//! A tip has an outcome if it is live, if its release was marked bad, or if it is listed here. Any other tip is unseen: a
//! crash occurred between git's ref update and the deployment. A successful deployment writes nothing here, and an
//! interrupted one has no entry, so that `resume` deploys its tip.

use bluegreen_object_store::ObjectId;
use serde::{Deserialize, Serialize};

use super::{Live, LockedSite, Site, history};
use crate::error::{Error, Result};
use crate::release::Record;

const SEEN: &str = "seen";

/// The maximum number of times that `resume` tries to deploy one tip, or to complete one activation. Steps that crash
/// the machine must not do so at every boot.
pub const MAX_ATTEMPTS: u8 = 3;

/// A tip with an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ExaminedTip {
    tip: ObjectId,
    /// Why it is not live: the error of its deployment, "skipped", or "rolled back".
    why: String,
    /// The number of attempts of `resume` to deploy it, none of which completed.
    #[serde(default)]
    attempts: u8,
}

/// The outcomes of one branch's tips.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TipLog {
    /// The branch. If another branch is configured, all of this is ignored.
    branch: String,
    /// The examined tips that are not live.
    tips: Vec<ExaminedTip>,
}

impl TipLog {
    fn find(&self, tip: ObjectId) -> Option<&ExaminedTip> {
        self.tips.iter().find(|seen| seen.tip == tip)
    }

    /// Replaces the entry of a tip.
    fn put(&mut self, tip: ObjectId, why: &str, attempts: u8) {
        self.forget(tip);
        self.tips.push(ExaminedTip { tip, why: why.to_owned(), attempts });
    }

    fn forget(&mut self, tip: ObjectId) {
        self.tips.retain(|seen| seen.tip != tip);
    }
}

/// The status of a tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TipStatus {
    Live,
    /// Examined and not live, for this reason if known.
    Examined(Option<String>),
    /// Not examined.
    Unseen,
    /// All attempts of `resume` to deploy it were interrupted.
    GivenUp,
}

impl TipStatus {
    /// Returns the reason why a tip is not live, if it was examined.
    #[must_use]
    pub fn why(self) -> Option<String> {
        if let Self::Examined(why) = self { why } else { None }
    }
}

impl Site {
    /// Returns the status of a branch's tip.
    pub fn tip_status(&self, branch: &str, tip: ObjectId) -> Result<TipStatus> {
        if self.good_commit()? == Some(tip) {
            return Ok(TipStatus::Live);
        }
        let Some(log) = self.tip_log()?.filter(|log| log.branch == branch) else {
            return Ok(if self.is_new()? { TipStatus::Unseen } else { TipStatus::Examined(None) });
        };
        Ok(match log.find(tip) {
            Some(seen) if seen.attempts == 0 => TipStatus::Examined(Some(seen.why.clone())),
            _ if self.has_bad_release_of(tip)? => TipStatus::Examined(None),
            Some(seen) if seen.attempts >= MAX_ATTEMPTS => TipStatus::GivenUp,
            _ => TipStatus::Unseen,
        })
    }

    /// Reads the outcomes; `None` if there are none yet.
    fn tip_log(&self) -> Result<Option<TipLog>> {
        // The file is replaced atomically, so an unparsable one is not ours.
        Ok(self.read_state(SEEN)?.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// Returns the live commit, if its release is good.
    pub fn good_commit(&self) -> Result<Option<ObjectId>> {
        let record = self.live_record(&self.live()?).filter(Record::is_good);
        Ok(record.map(|record| record.commit))
    }

    /// Returns whether the site was never changed.
    fn is_new(&self) -> Result<bool> {
        Ok(self.live()? == Live::Nothing && self.releases()?.is_empty() && history::read(self)?.is_empty())
    }

    fn has_bad_release_of(&self, commit: ObjectId) -> Result<bool> {
        Ok(self.releases()?.iter().any(|release| release.is_bad() && release.commit() == Some(commit)))
    }
}

impl LockedSite {
    /// Begins recording outcomes for a branch, if none are recorded yet. The outcome of its current tip is then unknown, unless
    /// it is live or the site is new.
    pub fn begin_tip_log(&self, branch: &str, tip: impl FnOnce() -> Result<Option<ObjectId>>) -> Result<()> {
        if self.tip_log()?.is_some_and(|log| log.branch == branch) {
            return Ok(());
        }
        let mut log = TipLog { branch: branch.to_owned(), tips: Vec::new() };
        if !self.is_new()?
            && let Some(tip) = tip()?
            && self.good_commit()? != Some(tip)
        {
            log.put(tip, "there is no record of what became of it", 0);
        }
        self.write_tip_log(&log)
    }

    /// Records that a tip must not become live, and why, unless a reason is already recorded.
    pub fn set_aside(&self, tip: ObjectId, why: &str) -> Result<()> {
        let mut log = self.tip_log()?.unwrap_or_default();
        if log.find(tip).is_some_and(|seen| seen.attempts == 0) {
            return Ok(());
        }
        log.put(tip, why, 0);
        self.write_tip_log(&log)
    }

    /// Removes the entry of a tip, which is to be deployed.
    pub fn forget_tip(&self, tip: ObjectId) -> Result<()> {
        let mut log = self.tip_log()?.unwrap_or_default();
        if log.find(tip).is_none() {
            return Ok(());
        }
        log.forget(tip);
        self.write_tip_log(&log)
    }

    /// Records an attempt of `resume` to deploy a tip.
    pub fn begin_attempt(&self, tip: ObjectId) -> Result<()> {
        let mut log = self.tip_log()?.unwrap_or_default();
        let attempts = log.find(tip).map_or(0, |seen| seen.attempts);
        log.put(tip, "its deployment was interrupted", attempts + 1);
        self.write_tip_log(&log)
    }

    /// Records the outcome of a change: the error of a commit that failed to become live. Removes the entries of commits that
    /// are live or no longer the tip.
    pub fn record_outcome(
        &self,
        failed: Option<(ObjectId, String)>,
        tip: impl FnOnce() -> Result<Option<ObjectId>>,
    ) -> Result<()> {
        let stored = self.tip_log()?.unwrap_or_default();
        let mut log = stored.clone();
        if let Some((commit, why)) = failed {
            log.put(commit, &why, 0);
        }
        if log.tips.is_empty() {
            return Ok(());
        }
        let (tip, live) = (tip()?, self.good_commit()?);
        log.tips.retain(|seen| Some(seen.tip) == tip && live != tip);
        if log == stored { Ok(()) } else { self.write_tip_log(&log) }
    }

    fn write_tip_log(&self, log: &TipLog) -> Result<()> {
        let text = serde_json::to_vec(log)
            .map_err(|error| Error::io("write", self.state_path().join(SEEN))(error.into()))?;
        self.write_state(SEEN, &text)
    }
}
