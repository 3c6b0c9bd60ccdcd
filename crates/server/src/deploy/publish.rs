//! Activates a ready release, and goes back if it fails. Deployments and rollbacks share this part.
//!
//! The order: the ref moves (gate only), the release is activated, services restart, the site is verified. If there is
//! more to do than replacing `current`, the [`journal`] records the activation. After a crash, the next holder of the
//! lock completes it: if `current` was replaced, it verifies the release again; otherwise it moves the ref back. The
//! live release and the branch then agree again.

use std::cell::Cell;

use bluegreen_object_store::ObjectId;

use crate::config::Phase;
use crate::deploy::app::{App, Started};
use crate::deploy::context::DeployContext;
use crate::deploy::journal::{self, Entry};
use crate::deploy::steps::Steps;
use crate::error::{Error, Result};
use crate::pusher::leftover::Leftover;
use crate::pusher::message::Message;
use crate::release::ReleaseName;
use crate::site::tip_status::MAX_ATTEMPTS;
use crate::site::{Activated, Live, LockedSite, Staged};
use bluegreen_git as git;
use bluegreen_git::push::RefUpdate;
use bluegreen_process::signals::Stop;

/// A release that is being activated.
#[derive(Debug)]
pub struct Publication<'a> {
    pub server: &'a DeployContext<'a>,
    pub site: &'a LockedSite,
    /// The release to activate.
    pub release: &'a ReleaseName,
    /// The release that was live before.
    pub previous: &'a Live,
    /// True for a new release, which was never verified; false for a rollback.
    pub is_new: bool,
    /// The ref update that belongs to the activation.
    pub push: Option<&'a RefUpdate>,
    /// True if the ref could not be moved back. The journal then stays, and the next run retries.
    pub is_stuck: Cell<bool>,
}

impl Publication<'_> {
    /// Moves the ref, activates the release, and runs `restart` and `verify`. If a step fails, the previous release
    /// becomes live again. After activation, `staged` and `started` stay.
    pub fn publish(&self, staged: Option<Staged>, started: Option<Started>) -> Result<()> {
        staged.as_ref().map_or(Ok(()), Staged::refuse_replaced)?;
        let has_more = self.push.is_some() || self.server.config.steps.has_after_activation();
        if has_more {
            let entry = Entry::new(self.release, self.previous.release(), self.is_new, self.push);
            journal::write(self.site, &entry)?;
        }
        self.server.phase(self.site, "activate");
        let stop = self.server.stop();
        // This is the last check for a stop request: after activation, stopping would mean going back.
        let activate = || {
            stop.check()?;
            self.site.activate(self.release)
        };
        let move_ref_and_activate = || {
            stop.check()?;
            self.move_ref()?;
            activate().inspect_err(|_| self.move_ref_back())
        };
        let activated = match move_ref_and_activate() {
            Ok(activated) => activated,
            Err(error) => {
                // Stop the instance before its files are removed.
                drop(started);
                drop(staged);
                return self.finish().and(Err(error));
            }
        };
        if let Some(staged) = staged {
            staged.keep();
        }
        if let Some(started) = started {
            started.keep();
        }
        let verified = self.verify(Some(stop));
        if has_more {
            let finished = self.finish();
            verified.and(finished.map_err(|error| Error::AfterActivation(Box::new(error))))?;
        }
        activated.flushed()
    }

    /// Runs `restart` and `verify` on the live release, and goes back if one of them fails.
    fn verify(&self, stop: Option<&Stop>) -> Result<()> {
        let steps = Steps::new(self.server, self.site, self.release, self.previous.release());
        let result = steps.run(Phase::Restart, stop).and_then(|()| steps.run(Phase::Verify, stop));
        result.map(|()| self.declare_live(self.release)).or_else(|error| self.go_back(error))
    }

    /// Makes the previous release live again. Always returns an error: the given one, or a more severe one.
    fn go_back(&self, error: Error) -> Result<()> {
        let after_activation = |error| Err(Error::AfterActivation(Box::new(error)));
        // The release is marked first, so that the next run also goes back if this one crashes from here on.
        // A cancelled rollback is not marked: its release may be good.
        let is_to_blame = self.is_new || !matches!(error, Error::Cancelled);
        if is_to_blame && let Err(unmarked) = self.site.mark_bad(self.release) {
            self.server.report.warning(unmarked);
        }
        let Some(previous) = self.previous.release() else { return after_activation(error) };
        self.server.report.line(Message::GoingBack(previous));
        self.server.phase(self.site, "go back");
        self.start_previous(previous);
        match self.site.activate(previous) {
            Ok(Activated::Done) => {}
            Ok(Activated::Unflushed(unflushed)) => self.server.report.warning(unflushed),
            Err(stuck) => {
                self.server.report.error(&error);
                return after_activation(stuck);
            }
        }
        self.restart_previous(previous);
        self.declare_live(previous);
        Err(error)
    }

    /// Starts the previous release's instance if it no longer runs. A failure does not prevent going back, because the
    /// failed release is worse.
    fn start_previous(&self, previous: &ReleaseName) {
        if let Some(app) = App::of(self.server, self.site) {
            app.start_again(previous);
        }
    }

    /// Drains the instances of all other releases.
    fn declare_live(&self, live: &ReleaseName) {
        if let Some(app) = App::of(self.server, self.site) {
            app.declare_live(live);
        }
    }

    /// Restarts services on the release that is live again, and moves the ref back.
    fn restart_previous(&self, live: &ReleaseName) {
        let steps = Steps::new(self.server, self.site, live, Some(self.release));
        if let Err(error) = steps.run(Phase::Restart, None) {
            self.server.report.warning(error);
        }
        self.move_ref_back();
    }

    fn move_ref(&self) -> Result<()> {
        let server = self.server;
        Ok(self.push.map_or(Ok(()), |push| server.repository.move_ref(push, "push", Some(server.stop())))?)
    }

    fn move_ref_back(&self) {
        let Some(push) = self.push else { return };
        let back = RefUpdate { old: push.new, new: push.old, name: push.name.clone() };
        if let Err(error) = self.server.repository.move_ref(&back, "bluegreen: not deployed", None) {
            // If the ref has been moved again in the meantime, it stays.
            self.is_stuck.set(!matches!(error, git::Error::RefMoved(_)));
            self.server.report.warning(error);
        }
    }

    /// Removes the journal unless the ref still has to be moved back.
    fn finish(&self) -> Result<()> {
        if self.is_stuck.get() { Ok(()) } else { journal::finish(self.site) }
    }
}

/// An interrupted activation, and how it was completed.
#[derive(Debug)]
pub struct CompletedActivation {
    /// The release that was being activated.
    pub release: ReleaseName,
    /// Its commit, if known.
    pub commit: Option<ObjectId>,
    /// The release that was live before.
    pub previous: Live,
    /// True for a deployment, false for a rollback.
    pub is_new: bool,
    /// True if the release had become live before the interruption.
    pub was_live: bool,
    /// Ok if it is now live and verified.
    pub result: Result<()>,
}

/// Completes an activation that a crash interrupted, and reports it.
pub fn resume(server: &DeployContext, site: &LockedSite) -> Result<Option<CompletedActivation>> {
    let Some(mut entry) = journal::read(site)? else { return Ok(None) };
    let Some(release) = entry.release() else { return journal::finish(site).map(|()| None) };
    entry.attempts = entry.attempts.saturating_add(1);
    // Complete it even if the disk is full.
    if let Err(error) = journal::write(site, &entry) {
        server.report.warning(error);
    }
    let (previous, push) = (entry.previous().map_or(Live::Nothing, Live::Release), entry.push());
    let publication = Publication {
        server,
        site,
        release: &release,
        previous: &previous,
        is_new: entry.is_new,
        push: push.as_ref(),
        is_stuck: Cell::default(),
    };
    let commit = if site.has(&release)? { site.release(&release)?.commit() } else { None };
    let (was_live, result) = publication.complete(entry.attempts > MAX_ATTEMPTS)?;
    match &result {
        // Already reported.
        Ok(()) | Err(Error::Interrupted(_)) => {}
        Err(error) => server.report.warning(error),
    }
    publication.finish()?;
    Ok(Some(CompletedActivation { release, commit, previous, is_new: entry.is_new, was_live, result }))
}

impl Publication<'_> {
    /// Continues after the interruption, without steps if they were tried too often. Returns whether the release had become
    /// live, and the outcome.
    fn complete(&self, is_last: bool) -> Result<(bool, Result<()>)> {
        let Self { server, site, release, .. } = self;
        let live = site.live()?;
        let is_live = live.release() == Some(release);
        server.report.warning(Leftover::CompletingActivation { release, is_live });
        let is_bad = site.has(release)? && site.release(release)?.is_bad();
        let unverified = || Error::Unverified(release.to_string());
        let result = match live.release() {
            Some(_) if is_live && is_last => site.mark_bad(release).and(Err(unverified())),
            Some(_) if is_live && is_bad => self.go_back(unverified()),
            Some(_) if is_live => self.verify(None),
            Some(live) if is_bad && !is_last => {
                self.restart_previous(live);
                Err(unverified())
            }
            _ => {
                self.move_ref_back_if_moved();
                let removed = if self.is_new && site.has(release)? { site.remove(release) } else { Ok(()) };
                removed.and(Err(Error::Interrupted(release.to_string())))
            }
        };
        Ok((is_live || is_bad, result))
    }

    /// Moves the ref back if it has moved. A crash before activation may also have come before the ref update.
    fn move_ref_back_if_moved(&self) {
        let moved =
            |push: &RefUpdate| self.server.repository.id_of(&push.name).is_ok_and(|id| id == Some(push.new));
        if self.push.is_some_and(moved) {
            self.move_ref_back();
        }
    }
}
