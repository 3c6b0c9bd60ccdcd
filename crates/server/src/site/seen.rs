//! `.bluegreen/seen`: the tips of the branch that were examined and are not live, each with the reason.
//!
//! A tip is settled if it is live, if its release was marked bad, or if it is listed here. Any other tip is unseen: a crash
//! came between git's ref update and the deployment. A successful deployment writes nothing here, and an interrupted one has
//! no entry, so that `resume` deploys its tip.

use bluegreen_object_store::ObjectId;
use serde::{Deserialize, Serialize};

use super::{Live, LockedSite, Site, history};
use crate::error::{Error, Result};

const SEEN: &str = "seen";

/// The number of times that `resume` tries to deploy one tip, or to complete one activation. Steps that crash the machine
/// must not do so at every boot.
pub const ATTEMPTS: u8 = 3;

/// A tip with an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    tip: ObjectId,
    /// Why it is not live: the error of its deployment, "skipped", or "rolled back".
    why: String,
    /// The number of attempts of `resume` to deploy it, none of which completed.
    #[serde(default)]
    attempts: u8,
}

/// The outcomes of one branch's tips.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    /// The branch. If another branch is configured, all of this is ignored.
    branch: String,
    /// The examined tips that are not live.
    tips: Vec<Seen>,
}

impl Account {
    fn find(&self, tip: ObjectId) -> Option<&Seen> {
        self.tips.iter().find(|seen| seen.tip == tip)
    }

    /// Replaces the entry of a tip.
    fn put(&mut self, tip: ObjectId, why: &str, attempts: u8) {
        self.forget(tip);
        self.tips.push(Seen { tip, why: why.to_owned(), attempts });
    }

    fn forget(&mut self, tip: ObjectId) {
        self.tips.retain(|seen| seen.tip != tip);
    }
}

/// The status of a tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    Live,
    /// Examined and not live, for this reason if known.
    Settled(Option<String>),
    /// Not examined.
    Unseen,
    /// All attempts of `resume` to deploy it were interrupted.
    GivenUp,
}

impl Look {
    /// Returns the reason why a tip is not live, if it was examined.
    #[must_use]
    pub fn why(self) -> Option<String> {
        if let Self::Settled(why) = self { why } else { None }
    }
}

impl Site {
    /// Returns the status of a branch's tip.
    pub fn look_up(&self, branch: &str, tip: ObjectId) -> Result<Look> {
        if self.good_commit()? == Some(tip) {
            return Ok(Look::Live);
        }
        let Some(account) = self.account()?.filter(|account| account.branch == branch) else {
            return Ok(if self.is_new()? { Look::Unseen } else { Look::Settled(None) });
        };
        Ok(match account.find(tip) {
            Some(seen) if seen.attempts == 0 => Look::Settled(Some(seen.why.clone())),
            _ if self.has_bad_release_of(tip)? => Look::Settled(None),
            Some(seen) if seen.attempts >= ATTEMPTS => Look::GivenUp,
            _ => Look::Unseen,
        })
    }

    /// Reads the outcomes; `None` if there are none yet.
    fn account(&self) -> Result<Option<Account>> {
        // The file is replaced atomically, so an unparsable one is not ours.
        Ok(self.read_state(SEEN)?.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// Returns the live commit, if its release is good.
    pub fn good_commit(&self) -> Result<Option<ObjectId>> {
        let live = self.live()?;
        Ok(self.commit(&live).filter(|_| self.is_good(&live)))
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
    pub fn begin_account(&self, branch: &str, tip: impl FnOnce() -> Result<Option<ObjectId>>) -> Result<()> {
        if self.account()?.is_some_and(|account| account.branch == branch) {
            return Ok(());
        }
        let mut account = Account { branch: branch.to_owned(), tips: Vec::new() };
        if !self.is_new()?
            && let Some(tip) = tip()?
            && self.good_commit()? != Some(tip)
        {
            account.put(tip, "there is no record of what became of it", 0);
        }
        self.write_account(&account)
    }

    /// Records that a tip must not become live, and why, unless a reason is already recorded.
    pub fn set_aside(&self, tip: ObjectId, why: &str) -> Result<()> {
        let mut account = self.account()?.unwrap_or_default();
        if account.find(tip).is_some_and(|seen| seen.attempts == 0) {
            return Ok(());
        }
        account.put(tip, why, 0);
        self.write_account(&account)
    }

    /// Removes the entry of a tip, which is to be deployed.
    pub fn forget_seen(&self, tip: ObjectId) -> Result<()> {
        let mut account = self.account()?.unwrap_or_default();
        if account.find(tip).is_none() {
            return Ok(());
        }
        account.forget(tip);
        self.write_account(&account)
    }

    /// Records an attempt of `resume` to deploy a tip.
    pub fn begin_attempt(&self, tip: ObjectId) -> Result<()> {
        let mut account = self.account()?.unwrap_or_default();
        let attempts = account.find(tip).map_or(0, |seen| seen.attempts);
        account.put(tip, "its deployment was cut off", attempts + 1);
        self.write_account(&account)
    }

    /// Records the outcome of a change: the error of a commit that failed to become live. Removes the entries of commits that
    /// are live or no longer the tip.
    pub fn settle(
        &self,
        failed: Option<(ObjectId, String)>,
        tip: impl FnOnce() -> Result<Option<ObjectId>>,
    ) -> Result<()> {
        let stored = self.account()?.unwrap_or_default();
        let mut account = stored.clone();
        if let Some((commit, why)) = failed {
            account.put(commit, &why, 0);
        }
        if account.tips.is_empty() {
            return Ok(());
        }
        let (tip, live) = (tip()?, self.good_commit()?);
        account.tips.retain(|seen| Some(seen.tip) == tip && live != tip);
        if account == stored { Ok(()) } else { self.write_account(&account) }
    }

    fn write_account(&self, account: &Account) -> Result<()> {
        let text = serde_json::to_vec(account)
            .map_err(|error| Error::io("write", self.state_path().join(SEEN))(error.into()))?;
        self.write_state(SEEN, &text)
    }
}
