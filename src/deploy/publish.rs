//! Publishes a ready release, and goes back if it does not work. Deployments and rollbacks share this part.
//!
//! The order: the ref moves (gate only), `current` flips, services restart, the site is verified. If there is
//! more to do than the flip, the [`journal`] records the publication. After a crash the next holder of the
//! lock ends it: if `current` has flipped, it verifies the release again; if not, it moves the ref back. So
//! the live release and the branch agree again.

use std::cell::Cell;

use crate::config::Phase;
use crate::deploy::journal::{self, Entry};
use crate::deploy::server::Server;
use crate::deploy::steps::Steps;
use crate::error::{Error, Result};
use crate::git::push::RefUpdate;
use crate::pusher::message::Message;
use crate::release::ReleaseName;
use crate::run::signals::Stop;
use crate::site::{Flip, Live, LockedSite, Staged};

/// A release that is being made live.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The server.
    pub server: &'a Server<'a>,
    /// Its site.
    pub site: &'a LockedSite,
    /// The release.
    pub release: &'a ReleaseName,
    /// The release that is live before.
    pub previous: &'a Live,
    /// True for a new release, which has never been verified; false for a rollback.
    pub is_new: bool,
    /// The ref that moves together with the flip.
    pub push: Option<&'a RefUpdate>,
    /// True if the ref could not be moved back: the journal stays, and the next run tries again.
    pub is_stuck: Cell<bool>,
}

impl Publication<'_> {
    /// Moves the ref, flips, and runs `restart` and `verify`. If a step fails, the previous release becomes
    /// live again. After the flip, `staged` is not removed any more.
    pub fn publish(&self, staged: Option<Staged>) -> Result<()> {
        staged.as_ref().map_or(Ok(()), Staged::refuse_replaced)?;
        let has_more = self.push.is_some() || self.server.config.steps.has_after_flip();
        if has_more {
            let entry = Entry::new(self.release, self.previous.release(), self.is_new, self.push);
            journal::begin(self.site, &entry)?;
        }
        self.server.phase(self.site, "activate");
        let stop = self.server.stop();
        // The last check for a request to stop: after the flip it would mean going back.
        let activate = || stop.check().and_then(|()| self.site.activate(self.release));
        let activate = || activate().inspect_err(|_| self.move_ref_back());
        let flip = match stop.check().and_then(|()| self.move_ref()).and_then(|()| activate()) {
            Ok(flip) => flip,
            Err(error) => {
                drop(staged);
                return self.finish().and(Err(error));
            }
        };
        if let Some(staged) = staged {
            staged.keep();
        }
        let verified = self.verify(Some(stop));
        if has_more {
            let finished = self.finish();
            verified.and(finished.map_err(|error| Error::AfterFlip(Box::new(error))))?;
        }
        flip.flushed()
    }

    /// Runs `restart` and `verify` on the live release; goes back if one of them fails.
    fn verify(&self, stop: Option<&Stop>) -> Result<()> {
        let steps = Steps::new(self.server, self.site, self.release, self.previous.release());
        let result = steps.run(Phase::Restart, stop).and_then(|()| steps.run(Phase::Verify, stop));
        result.or_else(|error| self.go_back(error))
    }

    /// Makes the previous release live again. Always returns an error: the given one, or a worse one.
    fn go_back(&self, error: Error) -> Result<()> {
        let after_flip = |error| Err(Error::AfterFlip(Box::new(error)));
        // The release is marked first, so that after a crash from here on the next run goes back too.
        // A cancelled rollback is not marked: that does not mean that the release is bad.
        let is_to_blame = self.is_new || !matches!(error, Error::Cancelled);
        if is_to_blame && let Err(unmarked) = self.site.mark_bad(self.release) {
            self.server.report.warning(unmarked);
        }
        let Some(previous) = self.previous.release() else { return after_flip(error) };
        self.server.report.line(Message::GoingBack(previous));
        self.server.phase(self.site, "go back");
        match self.site.activate(previous) {
            Ok(Flip::Done) => {}
            Ok(Flip::Unflushed(unflushed)) => self.server.report.warning(unflushed),
            Err(stuck) => {
                self.server.report.error(&error);
                return after_flip(stuck);
            }
        }
        self.restart_previous(previous);
        Err(error)
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
        self.push.map_or(Ok(()), |push| self.server.repository.move_ref(push, "push"))
    }

    fn move_ref_back(&self) {
        let Some(push) = self.push else { return };
        let back = RefUpdate { old: push.new, new: push.old, name: push.name.clone() };
        if let Err(error) = self.server.repository.move_ref(&back, "bluegreen: not deployed") {
            // If somebody else has moved the ref since, it stays as they left it.
            self.is_stuck.set(!matches!(error, Error::RefMoved(_)));
            self.server.report.warning(error);
        }
    }

    /// Removes the journal, unless there is something left to do.
    fn finish(&self) -> Result<()> {
        if self.is_stuck.get() { Ok(()) } else { journal::finish(self.site) }
    }
}

/// Ends a publication that a crash cut off, if there is one, and reports it.
pub fn resume(server: &Server, site: &LockedSite) -> Result<()> {
    let Some(entry) = journal::read(site)? else { return Ok(()) };
    let live = site.live()?;
    if let (Some(release), push) = (entry.release(), entry.push()) {
        let previous = entry.previous().map_or(Live::Nothing, Live::Release);
        let cut_off = Publication {
            server,
            site,
            release: &release,
            previous: &previous,
            is_new: entry.is_new,
            push: push.as_ref(),
            is_stuck: Cell::default(),
        };
        let is_live = live.release() == Some(&release);
        server.report.warning(Message::CutOff { release: &release, is_live });
        let is_bad = site.has(&release)? && site.release(&release)?.is_bad();
        let result = match live.release() {
            Some(_) if is_live && is_bad => cut_off.go_back(Error::Unverified(release.to_string())),
            Some(_) if is_live => cut_off.verify(None),
            Some(live) if is_bad => {
                cut_off.restart_previous(live);
                Ok(())
            }
            _ => {
                cut_off.move_ref_back_if_moved();
                if entry.is_new && site.has(&release)? { site.remove(&release) } else { Ok(()) }
            }
        };
        if let Err(error) = result {
            server.report.warning(error);
        }
        return cut_off.finish();
    }
    journal::finish(site)
}

impl Publication<'_> {
    /// Moves the ref back if it has moved: the crash may have come before that.
    fn move_ref_back_if_moved(&self) {
        let moved =
            |push: &RefUpdate| self.server.repository.id_of(&push.name).is_ok_and(|id| id == Some(push.new));
        if self.push.is_some_and(moved) {
            self.move_ref_back();
        }
    }
}
