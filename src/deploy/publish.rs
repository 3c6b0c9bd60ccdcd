//! From a finished release to a live one, and back again if it does not work: what a deployment and a
//! rollback share.
//!
//! Where more than the flip is to be done, a note in `.bluegreen/publishing` says what has begun: the
//! ref is moved, `current` is flipped, services restart, the site is verified. Whoever takes the lock
//! after a crash finds the note and ends it: behind the flip the release is verified again, before it
//! the ref goes back, so that what is live and where a gated ref points agree again.

use serde::{Deserialize, Serialize};

use crate::config::Phase;
use crate::deploy::server::Server;
use crate::deploy::steps::Steps;
use crate::error::{Error, Result};
use crate::git::id::CommitId;
use crate::git::push::RefUpdate;
use crate::pusher::message::Message;
use crate::release::ReleaseName;
use crate::run::signals::Stop;
use crate::site::{Live, LockedSite, Staged};

const NOTE: &str = "publishing";

/// A release on its way to the public.
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
    /// True if it was made for this, and nobody knows yet whether it works.
    pub is_new: bool,
    /// The ref that moves together with the flip.
    pub push: Option<&'a RefUpdate>,
}

/// A publication that has begun, as the next holder of the lock finds it.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    release: String,
    /// The release that was live before.
    previous: Option<String>,
    /// True if the release was made for this, and goes if it never becomes live.
    is_new: bool,
    /// Ref, old and new id.
    push: Option<(String, CommitId, CommitId)>,
}

impl Publication<'_> {
    /// Moves the ref, flips, and runs the steps that follow. If one of them fails, what was live
    /// becomes live again. `staged` is kept from the flip on.
    pub fn publish(&self, staged: Option<Staged>) -> Result<()> {
        staged.as_ref().map_or(Ok(()), Staged::refuse_replaced)?;
        let is_noted = self.push.is_some() || self.server.config.steps.has_after_flip();
        if is_noted {
            self.note()?;
        }
        self.site.phase("activate");
        let flipped = self.move_ref().and_then(|()| match self.site.activate(self.release) {
            Err(error) if !matches!(error, Error::AfterFlip(_)) => {
                self.move_ref_back();
                Err(error)
            }
            flipped => Ok(flipped),
        });
        let flushed = match flipped {
            Ok(flushed) => flushed,
            Err(error) => {
                drop(staged);
                return self.forget().and(Err(error));
            }
        };
        if let Some(staged) = staged {
            staged.keep();
        }
        let verified = self.verify(Some(self.server.stop()));
        if is_noted {
            let forgotten = self.forget();
            verified.and(forgotten.map_err(|error| Error::AfterFlip(Box::new(error))))?;
        }
        flushed
    }

    /// Restarts and verifies what is live now, and goes back if that fails.
    fn verify(&self, stop: Option<&Stop>) -> Result<()> {
        let steps = Steps::new(self.server, self.site, self.release, self.previous.release());
        let result = steps.run(Phase::Restart, stop).and_then(|()| steps.run(Phase::Verify, stop));
        result.or_else(|error| self.go_back(error))
    }

    /// Makes live again what was live before. Fails in any case, with what led here.
    fn go_back(&self, error: Error) -> Result<()> {
        let after_flip = |error| Err(Error::AfterFlip(Box::new(error)));
        // First of all, so that a crash in the middle goes on going back.
        // An old release that was to come back and was cancelled is as good as before.
        let is_to_blame = self.is_new || !matches!(error, Error::Cancelled);
        if is_to_blame && let Err(unmarked) = self.site.mark_bad(self.release) {
            self.server.report.warning(unmarked);
        }
        let Some(previous) = self.previous.release() else { return after_flip(error) };
        self.server.report.line(Message::GoingBack(previous));
        self.site.phase("go back");
        if let Err(stuck) = self.site.activate(previous) {
            self.server.report.error(&error);
            return after_flip(stuck);
        }
        self.settle(previous);
        Err(error)
    }

    /// Lets services take up what is live again, and the ref follow.
    fn settle(&self, live: &ReleaseName) {
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
            self.server.report.warning(error);
        }
    }

    fn note(&self) -> Result<()> {
        let push = self.push.map(|push| {
            let name = String::from_utf8_lossy(&push.name).into_owned();
            (name, push.old, push.new)
        });
        let previous = self.previous.release().map(ToString::to_string);
        let note = Note { release: self.release.to_string(), previous, is_new: self.is_new, push };
        let text = serde_json::to_vec(&note).map_err(|error| {
            Error::io("write", self.site.root().join(".bluegreen/publishing"))(error.into())
        })?;
        self.site.write_state(NOTE, &text)
    }

    fn forget(&self) -> Result<()> {
        forget(self.site)
    }
}

/// Ends what an earlier run began and could not end, and says so.
pub fn resume(server: &Server, site: &LockedSite) -> Result<()> {
    let Some(note) = read_note(site)? else { return Ok(()) };
    let live = site.live()?;
    if let (Ok(release), push) = (note.release.parse::<ReleaseName>(), note.push()) {
        let previous = note.previous().map_or(Live::Nothing, Live::Release);
        let cut_off = Publication {
            server,
            site,
            release: &release,
            previous: &previous,
            is_new: note.is_new,
            push: push.as_ref(),
        };
        let is_live = live.release() == Some(&release);
        server.report.warning(Message::CutOff { release: &release, is_live });
        let is_bad = site.release(&release).is_ok_and(|release| release.is_bad());
        let result = match live.release() {
            Some(_) if is_live && is_bad => cut_off.go_back(Error::Unverified(release.to_string())),
            Some(_) if is_live => cut_off.verify(None),
            Some(live) if is_bad => {
                cut_off.settle(live);
                Ok(())
            }
            _ => {
                cut_off.move_ref_back_if_moved();
                if note.is_new && site.release(&release).is_ok() { site.remove(&release) } else { Ok(()) }
            }
        };
        if let Err(error) = result {
            server.report.warning(error);
        }
    }
    forget(site)
}

impl Publication<'_> {
    /// Before the flip nobody knows whether the ref had moved yet.
    fn move_ref_back_if_moved(&self) {
        let moved =
            |push: &RefUpdate| self.server.repository.id_of(&push.name).is_ok_and(|id| id == Some(push.new));
        if self.push.is_some_and(moved) {
            self.move_ref_back();
        }
    }
}

impl Note {
    fn push(&self) -> Option<RefUpdate> {
        let (name, old, new) = self.push.as_ref()?;
        Some(RefUpdate { old: *old, new: *new, name: name.clone().into_bytes() })
    }

    fn previous(&self) -> Option<ReleaseName> {
        self.previous.as_ref()?.parse().ok()
    }
}

fn read_note(site: &LockedSite) -> Result<Option<Note>> {
    let Some(text) = site.state_file(NOTE).read()? else { return Ok(None) };
    match serde_json::from_slice(&text) {
        Ok(note) => Ok(Some(note)),
        // Written whole or not at all, so it is not one of ours.
        Err(error) => {
            log::warn!("`publishing` cannot be read: {error}");
            forget(site).map(|()| None)
        }
    }
}

fn forget(site: &LockedSite) -> Result<()> {
    site.state_file(NOTE).remove()
}
