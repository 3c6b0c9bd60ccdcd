//! [`Pending`]: the recovery that a crash left to be done, for commands that only read.

use crate::deploy::journal;
use crate::error::Result;
use crate::pusher::leftover::Leftover;
use crate::release::Release;
use crate::site::tip_status::{MAX_ATTEMPTS, TipStatus};
use crate::site::{Live, Site};
use bluegreen_git::Repository;
pub use bluegreen_protocol::status::{Kind, Pending};

/// Returns all pending recovery.
pub fn find(repository: &Repository, branch: &str, site: &Site) -> Result<Vec<Pending>> {
    let pending = |kind, what: Leftover, command: &str| Pending {
        kind,
        message: what.to_string(),
        command: command.to_owned(),
    };
    let (locks, errors) = repository.stale_locks();
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    let mut found: Vec<Pending> =
        locks.iter().map(|lock| pending(Kind::Lock, Leftover::StaleLock(lock), "resume")).collect();
    // The holder of the lock completes everything else.
    if site.holder().is_some() {
        return Ok(found);
    }
    if site.live()? == Live::Nothing && site.releases()?.iter().any(Release::is_good) {
        found.push(pending(Kind::Tip, Leftover::NoCurrent, "rollback"));
        return Ok(found);
    }
    let role = site.role()?;
    let mark = site.public_mark()?.map(|mark| mark.public);
    let begun = journal::peek(site)?;
    let tip = repository.tip(branch)?;
    let look = tip.map(|tip| site.tip_status(branch, tip)).transpose()?;
    if site.holder().is_some() {
        return Ok(found);
    }
    found.extend(role.and_then(|role| match role.complete {
        false => Some(pending(Kind::Role, Leftover::RoleInterrupted, "resume")),
        true if Some(role.public) != mark => Some(pending(Kind::Role, Leftover::RoleUnrecorded, "public")),
        true => None,
    }));
    found.extend(
        begun.map(|release| pending(Kind::Publication, Leftover::ActivationInterrupted(&release), "resume")),
    );
    found.extend(tip.zip(look).and_then(|(tip, look)| {
        let tip = &tip.short();
        match look {
            TipStatus::Unseen => Some(pending(Kind::Tip, Leftover::TipUndeployed { branch, tip }, "resume")),
            TipStatus::GivenUp => {
                Some(pending(Kind::Tip, Leftover::TipGivenUp { tip, attempts: MAX_ATTEMPTS }, "deploy"))
            }
            TipStatus::Live | TipStatus::Examined(_) => None,
        }
    }));
    Ok(found)
}
