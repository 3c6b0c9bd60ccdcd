//! Locks with a reason: `lock` sets one, and deployments and rollbacks are refused until `unlock` removes it.

use std::time::{Instant, SystemTime};

use crate::deploy::context::DeployContext;
use crate::error::{Error, Result};
use crate::site::history::{Action, Actor, Entry, Lock, Outcome};
use crate::site::tip_status::TipStatus;
use crate::site::{LockedSite, Site};
use bluegreen_protocol::freeze::Freeze;
use bluegreen_text::timestamp;

/// The refused action, which decides the wording of the hint.
#[derive(Debug, Clone, Copy)]
pub enum Refused {
    /// A push that has moved the branch.
    Push,
    /// A push through the gate, which has not moved the branch.
    GatedPush,
    /// An operator's command, which may override the lock.
    Command,
}

impl Refused {
    fn hint(self, server: &str) -> String {
        let unlock = format!("`bluegreen unlock` on {server}");
        match self {
            Self::Push => {
                format!("once it is unlocked, run `bluegreen deploy` on {server}; {unlock} removes the lock")
            }
            Self::GatedPush => format!("push again once it is unlocked; {unlock} removes the lock"),
            Self::Command => format!("run {unlock}, or override the lock with `--force`"),
        }
    }
}

impl DeployContext<'_> {
    /// Fails if the server is locked, unless `--force` overrides that.
    pub fn refuse_frozen(&self, site: &Site, refused: Refused) -> Result<()> {
        let freeze = match site.freeze() {
            Ok(None) => return Ok(()),
            Err(error) if self.options.force => {
                self.report.warning(error);
                return Ok(());
            }
            Err(error) => return Err(error),
            Ok(Some(freeze)) => Box::new(freeze),
        };
        let server = self.name.clone();
        let hint = refused.hint(&server);
        let error = Error::Frozen { server, freeze, hint };
        if self.options.force {
            self.report.warning(format_args!("{error}; `--force` overrides it"));
            return Ok(());
        }
        Err(error)
    }

    /// Locks the server. Once this returns, no deployment runs. An existing lock stays unless `replace` is true.
    pub fn freeze(&self, reason: &str, until: Option<SystemTime>, replace: bool) -> Result<()> {
        self.change_freeze(Action::Lock, |site, begun| {
            match site.freeze() {
                Ok(Some(freeze)) if !replace => {
                    return Err(Error::AlreadyFrozen { server: self.name.clone(), freeze: Box::new(freeze) });
                }
                Err(error) if !replace => return Err(error),
                _ => {}
            }
            let freeze = Freeze {
                reason: reason.to_owned(),
                by: Actor::clone(&self.caller.actor),
                since: timestamp(begun),
                until: until.map(timestamp),
            };
            site.set_freeze(&freeze)?;
            self.report.line(format_args!("Locked {}: {}", self.name, freeze.what()));
            Ok(Some(Lock { reason: freeze.reason, until: freeze.until }))
        })
    }

    /// Unlocks the server, and reports a tip of the branch that was not deployed.
    pub fn unfreeze(&self) -> Result<()> {
        self.change_freeze(Action::Unlock, |site, _| {
            let lock = match site.freeze() {
                Ok(None) => {
                    // An expired lock is removed, too.
                    site.remove_freeze()?;
                    self.report.line(format_args!("{} is not locked.", self.name));
                    return Ok(None);
                }
                Ok(Some(freeze)) => Lock { reason: freeze.reason, until: None },
                Err(error) => Lock { reason: error.to_string(), until: None },
            };
            site.remove_freeze()?;
            self.report.line(format_args!("Unlocked {}: {}", self.name, lock.reason));
            self.report_tip(site)?;
            Ok(Some(lock))
        })
    }

    /// Reports the tip of the branch and the command that deploys it, if it is not live.
    fn report_tip(&self, site: &LockedSite) -> Result<()> {
        let branch = &self.config.branch;
        let Some(tip) = self.repository.tip(branch)? else { return Ok(()) };
        let (why, command) = match site.tip_status(branch, tip)? {
            TipStatus::Live => return Ok(()),
            TipStatus::Unseen => (None, "resume"),
            TipStatus::Examined(why) => (why, "deploy"),
            TipStatus::GivenUp => (None, "deploy"),
        };
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        let (server, tip) = (&self.name, tip.short());
        self.report.line(format_args!(
            "{branch} is at {tip}, which is not live{why}: `bluegreen {command}` on {server} deploys it."
        ));
        Ok(())
    }

    /// Runs `change` under the site's lock, and records the lock that it returns. Nothing is recovered, so that an
    /// operator can lock a server whose recovery would run steps.
    fn change_freeze(
        &self,
        action: Action,
        change: impl FnOnce(&LockedSite, SystemTime) -> Result<Option<Lock>>,
    ) -> Result<()> {
        self.catch_signals();
        let (begun, started) = (SystemTime::now(), Instant::now());
        let site = self.lock(action, begun)?;
        let branch = &self.config.branch;
        // An entry in the history would make a new site look used.
        site.begin_tip_log(branch, || Ok(self.repository.tip_to_record(branch)?))?;
        let Some(lock) = change(&site, begun)? else { return Ok(()) };
        let entry = Entry {
            time: timestamp(begun),
            action,
            by: Actor::clone(&self.caller.actor),
            release: None,
            old: None,
            new: None,
            seconds: started.elapsed().as_secs_f64(),
            outcome: Outcome::Done,
            error: None,
            promotion: None,
            lock: Some(lock),
        };
        if let Err(error) = self.record(&site, entry) {
            self.report.warning(error);
        }
        drop(site);
        for warning in self.notify() {
            self.report.warning(warning);
        }
        Ok(())
    }
}
