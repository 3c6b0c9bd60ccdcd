//! A session under the site's lock, common to all changes to a site: lock, recovery, history entry, and a last line that
//! names the live release.

use std::time::{Duration, Instant, SystemTime};

use bluegreen_object_store::ObjectId;
use bluegreen_text::{message, printable, timestamp};

use crate::deploy::app::App;
use crate::deploy::context::DeployContext;
use crate::deploy::publish::{self, CompletedActivation};
use crate::error::{Error, Result};
use crate::pusher::message::Message;
use crate::release::{Record, ReleaseName};
use crate::shared;
use crate::site::history::{Action, Actor, Entry, Outcome};
use crate::site::{Holder, Live, LockedSite, Site};

/// An attempt to change the live release, as the history records it.
#[derive(Debug)]
pub struct Attempt {
    started: Instant,
    /// The release to activate.
    pub release: Option<ReleaseName>,
    /// The release that was live before, read after the recovery under this lock.
    pub live: Live,
    /// Its record.
    pub old: Option<Record>,
    /// The commit to activate.
    pub new: Option<ObjectId>,
}

impl Attempt {
    fn begin() -> Self {
        Self { started: Instant::now(), release: None, live: Live::Nothing, old: None, new: None }
    }

    /// Returns the time since the attempt began, including the wait for the lock.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.started.elapsed()
    }
}

impl DeployContext<'_> {
    /// Runs `change` under the site's lock, after recovery from a crash. Records an entry in the history if there was
    /// something to do, and runs `[notify]` after the lock is released. After a failure, prints which release is still live.
    pub fn change_site(
        &self,
        action: Action,
        change: impl FnOnce(&mut LockedSite, &mut Attempt) -> Result<()>,
    ) -> Result<()> {
        // From here on, signals only request a stop.
        self.catch_signals();
        let begun = SystemTime::now();
        let mut attempt = Attempt::begin();
        self.timing.begin("wait for the lock");
        let result = self.lock(action, begun).and_then(|mut site| {
            self.timing.begin("recover");
            let result = self.recover(&site, &mut attempt).and_then(|()| change(&mut site, &mut attempt));
            self.timing.begin("record the outcome");
            self.record_outcome(&site, attempt.new, result.as_ref().err());
            if let Err(error) = shared::finish_seeding(&site) {
                self.report.warning(error);
            }
            // Record it under the lock, so that the entries are in order.
            self.record_attempt(&site, action, begun, &attempt, &result);
            result
        });
        if let Err(error) = &result {
            self.report.error(error);
        }
        self.timing.begin("notify");
        for warning in self.notify() {
            self.report.warning(warning);
        }
        if self.options.timing {
            self.timing.print(self.report);
        }
        result.map_err(|error| {
            match error {
                Error::AfterActivation(_) => {
                    self.report.line(Message::LiveNevertheless(&self.live_line().anew()));
                }
                _ => self.report.line(Message::NotDone(action, &self.live_line())),
            }
            Error::Reported(Box::new(error))
        })
    }

    /// Takes the lock for a promotion, and recovers from a crash. `announce` receives the holder that it waits for; an error
    /// from `go_on` ends the wait.
    pub fn hold(&self, announce: impl FnOnce(&str), go_on: impl Fn() -> Result<()>) -> Result<LockedSite> {
        let begun = SystemTime::now();
        let site = Site::open(&self.config.site)?;
        site.live()?;
        let site =
            site.lock(self.holder(Action::Promote, begun), self.config.lock_timeout, announce, go_on)?;
        let mut attempt = Attempt::begin();
        self.recover(&site, &mut attempt)?;
        site.phase("promote");
        Ok(site)
    }

    fn holder(&self, action: Action, begun: SystemTime) -> Holder {
        Holder {
            pid: std::process::id(),
            action,
            by: Actor::clone(&self.caller.actor),
            since: timestamp(begun),
            phase: "begin".into(),
        }
    }

    pub(super) fn lock(&self, action: Action, begun: SystemTime) -> Result<LockedSite> {
        let holder = self.holder(action, begun);
        let announce = |holder: &str| {
            if self.caller.step_of.is_none() {
                self.report.line(Message::Waiting { holder });
            }
        };
        // A step that waits for its own deployment would deadlock until its timeout.
        let go_on = || self.caller.step_of.clone().map_or(Ok(()), |release| Err(Error::InStep(release)));
        let site = Site::open(&self.config.site)?;
        site.live()?;
        site.lock(holder, self.config.lock_timeout, announce, || {
            go_on().and_then(|()| Ok(self.stop().check()?))
        })
    }

    /// Sweeps leftovers, completes an interrupted activation, and reads the live release.
    fn recover(&self, site: &LockedSite, attempt: &mut Attempt) -> Result<()> {
        let mut live = site.live()?;
        let app = App::of(self, site);
        app.map_or(Ok(()), |app| app.stop_strays(&live))?;
        for leftover in site.sweep(&live)? {
            self.report.warning(leftover);
        }
        if let Some(app) = app {
            app.ensure_live(&live);
        }
        let (begun, started) = (SystemTime::now(), Instant::now());
        if let Some(CompletedActivation { release, commit, previous, is_new, was_live, result }) =
            publish::resume(self, site)?
        {
            // A commit that never became live must be tried again.
            self.record_outcome(site, commit.filter(|_| was_live), result.as_ref().err());
            let action = if is_new { Action::Deploy } else { Action::Rollback };
            let old = site.live_record(&previous);
            let ended = Attempt { started, release: Some(release), live: previous, old, new: commit };
            self.record_attempt(site, action, begun, &ended, &result);
            live = site.live()?;
        }
        shared::finish_seeding(site)?;
        super::role::recover(self, site)?;
        app.map_or(Ok(()), |app| app.declare_live_if_interrupted(&live))?;
        let branch = &self.config.branch;
        if let Err(error) = site.begin_tip_log(branch, || Ok(self.repository.tip_to_record(branch)?)) {
            self.report.warning(error);
        }
        attempt.old = site.live_record(&live);
        match &live {
            Live::Gone(name) => {
                self.report.warning(format!("`current` points to release {name}, which does not exist"));
            }
            Live::Elsewhere(path) => {
                let path = printable(path);
                self.report.warning(format!("`current` points to `{path}`, which is not a release"));
            }
            Live::Nothing | Live::Release(_) => {}
        }
        attempt.live = live;
        Ok(())
    }

    /// Records that the branch's tip must not become live because another commit is about to. If this run crashes, `resume`
    /// then does not deploy the tip. A failure is only a warning, so that a rollback works on a full disk.
    pub fn set_tip_aside(&self, site: &LockedSite, other: Option<ObjectId>, why: &str) {
        let set_aside = |tip: Option<ObjectId>| match tip.filter(|_| tip != other) {
            Some(tip) => site.set_aside(tip, why),
            None => Ok(()),
        };
        if let Err(error) =
            self.repository.tip_to_record(&self.config.branch).map_err(Error::from).and_then(set_aside)
        {
            self.report.warning(error);
        }
    }

    /// Records the outcome of a deployment in `seen`.
    fn record_outcome(&self, site: &LockedSite, commit: Option<ObjectId>, error: Option<&Error>) {
        let why = error.map(|error| match error {
            // The reason outlives the lock.
            Error::Frozen { freeze, .. } => freeze.why_skipped(),
            error => message(error),
        });
        let failed = commit.zip(why);
        if let Err(error) =
            site.record_outcome(failed, || Ok(self.repository.tip_to_record(&self.config.branch)?))
        {
            self.report.warning(error);
        }
    }

    fn record_attempt(
        &self,
        site: &LockedSite,
        action: Action,
        begun: SystemTime,
        attempt: &Attempt,
        result: &Result<()>,
    ) {
        if attempt.new.is_none() && attempt.release.is_none() && result.is_ok() {
            return;
        }
        let entry = Entry {
            time: timestamp(begun),
            action,
            by: Actor::clone(&self.caller.actor),
            release: attempt.release.as_ref().map(ToString::to_string),
            old: attempt.old.as_ref().map(|record| record.commit),
            new: attempt.new,
            seconds: attempt.took().as_secs_f64(),
            outcome: match result {
                Ok(()) | Err(Error::AfterActivation(_)) => Outcome::Live,
                Err(_) => Outcome::Failed,
            },
            error: result.as_ref().err().map(message),
            promotion: None,
            lock: None,
        };
        if let Err(error) = self.record(site, entry) {
            self.report.warning(error);
        }
    }
}
