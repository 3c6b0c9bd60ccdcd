//! `.bluegreen/seen`: the tips of the branch that were looked at, and why they are not live.
//!
//! A tip is settled if it is live, if a release of it was marked bad, or if it stands here. Any other one nobody
//! has looked at: git had moved the branch, and a crash came before the deployment. A deployment that succeeds
//! writes nothing here, and one that a crash cut off has no entry, so that `resume` finds its tip.

use bluegreen_object_store::ObjectId;
use serde::{Deserialize, Serialize};

use super::{Live, LockedSite, Site, history};
use crate::error::{Error, Result};

const SEEN: &str = "seen";

/// The number of times that `resume` begins to deploy one tip, or runs the steps of one publication. Steps that
/// bring the machine down must not do so at every boot.
pub const ATTEMPTS: u8 = 3;

/// A tip that somebody has decided about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    tip: ObjectId,
    /// The reason why it is not live: the error of its deployment, "skipped", "rolled back".
    why: String,
    /// The number of times that `resume` began to deploy it, while none of them has ended.
    #[serde(default)]
    attempts: u8,
}

/// The account of one branch.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    /// The branch. After another one was put into the config, nothing is known of its tip.
    branch: String,
    /// The tips that were looked at and are not live.
    tips: Vec<Seen>,
}

impl Account {
    fn find(&self, tip: ObjectId) -> Option<&Seen> {
        self.tips.iter().find(|seen| seen.tip == tip)
    }

    /// Puts an entry into the place of what there was of its tip.
    fn put(&mut self, tip: ObjectId, why: &str, attempts: u8) {
        self.forget(tip);
        self.tips.push(Seen { tip, why: why.to_owned(), attempts });
    }

    fn forget(&mut self, tip: ObjectId) {
        self.tips.retain(|seen| seen.tip != tip);
    }
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
    /// Looks up what became of the tip of a branch.
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

    /// The account of the branch; `None` where nobody has kept one yet.
    fn account(&self) -> Result<Option<Account>> {
        // It is written whole or not at all, so one that cannot be parsed is not ours.
        Ok(self.read_state(SEEN)?.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// The commit that is live, if it is good.
    pub fn good_commit(&self) -> Result<Option<ObjectId>> {
        let live = self.live()?;
        Ok(self.commit(&live).filter(|_| self.is_good(&live)))
    }

    /// Returns whether nothing was ever done here.
    fn is_new(&self) -> Result<bool> {
        Ok(self.live()? == Live::Nothing && self.releases()?.is_empty() && history::read(self)?.is_empty())
    }

    fn has_bad_release_of(&self, commit: ObjectId) -> Result<bool> {
        Ok(self.releases()?.iter().any(|release| release.is_bad() && release.commit() == Some(commit)))
    }
}

impl LockedSite {
    /// Begins to keep account of a branch, where nobody has. What became of its tip is not known then, unless it
    /// is live or the site is new.
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

    /// Records that a tip is not to become live, and why, unless a reason stands there already.
    pub fn set_aside(&self, tip: ObjectId, why: &str) -> Result<()> {
        let mut account = self.account()?.unwrap_or_default();
        if account.find(tip).is_some_and(|seen| seen.attempts == 0) {
            return Ok(());
        }
        account.put(tip, why, 0);
        self.write_account(&account)
    }

    /// Forgets a tip: somebody wants it to be deployed.
    pub fn forget_seen(&self, tip: ObjectId) -> Result<()> {
        let mut account = self.account()?.unwrap_or_default();
        if account.find(tip).is_none() {
            return Ok(());
        }
        account.forget(tip);
        self.write_account(&account)
    }

    /// Records that `resume` begins to deploy a tip.
    pub fn begin_attempt(&self, tip: ObjectId) -> Result<()> {
        let mut account = self.account()?.unwrap_or_default();
        let attempts = account.find(tip).map_or(0, |seen| seen.attempts);
        account.put(tip, "its deployment was cut off", attempts + 1);
        self.write_account(&account)
    }

    /// Records how a change ended: the error of a commit that was to become live. What is not the tip, or is
    /// live, is forgotten.
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
