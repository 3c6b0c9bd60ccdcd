//! One repository on one server, and what every change to its site has in common: the lock, the
//! sweep, a line in the history, and a last word on what is live.

use std::cell::{LazyCell, OnceCell};
use std::time::{Duration, Instant, SystemTime};

use crate::config::Config;
use crate::deploy::publish;
use crate::error::{Error, Result};
use crate::git::Repository;
use crate::git::id::CommitId;
use crate::pusher::message::Message;
use crate::pusher::report::Report;
use crate::pusher::serving::Serving;
use crate::release::ReleaseName;
use crate::run::signals::Stop;
use crate::site::history::{self, Action, Actor, Entry, Outcome};
use crate::site::{Holder, Live, LockedSite, Site};
use crate::text::timestamp;

/// Where a command works and for whom.
#[derive(Debug)]
pub struct Server<'a> {
    /// The repository that is pushed to.
    pub repository: Repository,
    /// Its config.
    pub config: Config,
    /// The server's name in messages.
    pub name: String,
    /// Who asked; the user is looked up once there is something to be recorded.
    pub actor: LazyCell<Actor, Box<dyn FnOnce() -> Actor>>,
    /// Who listens.
    pub report: &'a Report,
    /// Whether a client of git waits for us, whose signals are not for us.
    pub for_client: bool,
    pub(crate) stop: OnceCell<Stop>,
}

/// One attempt to change what is live, as the history will tell it.
#[derive(Debug)]
pub struct Attempt {
    started: Instant,
    /// The release that is to become live.
    pub release: Option<ReleaseName>,
    /// The commit that was live before.
    pub old: Option<CommitId>,
    /// The commit that is to become live.
    pub new: Option<CommitId>,
}

impl Attempt {
    /// How long it has been going on, waiting for the lock included.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Server<'_> {
    /// Runs `change` under the site's lock, after what a crash left was swept. The history gets a line
    /// if there was something to do, and a failure ends by saying what is still live.
    pub fn change_site(
        &self,
        action: Action,
        change: impl FnOnce(&mut LockedSite, &mut Attempt) -> Result<()>,
    ) -> Result<()> {
        self.stop();
        let begun = SystemTime::now();
        let mut attempt = Attempt { started: Instant::now(), release: None, old: None, new: None };
        let result = self.lock(action, begun).and_then(|mut site| {
            let result = self.look(&site, &mut attempt).and_then(|()| change(&mut site, &mut attempt));
            // Still under the lock, so that the lines stand in the order of what was done.
            self.record(&site, action, begun, &attempt, &result);
            result
        });
        result.map_err(|error| {
            self.report.error(&error);
            match error {
                Error::AfterFlip(_) => self.report.line(Message::LiveNevertheless(&self.serving().anew())),
                _ => self.report.line(Message::NotDone(action, &self.serving())),
            }
            Error::Told(Box::new(error))
        })
    }

    /// Whether the program was asked to stop. From the first call on, signals only ask.
    pub fn stop(&self) -> &Stop {
        self.stop.get_or_init(|| Stop::catch(self.for_client))
    }

    /// Says what is being done, to `status` and to a pusher who wants to know.
    pub fn phase(&self, site: &LockedSite, phase: &str) {
        site.phase(phase);
        self.report.detail(Message::Phase(phase));
    }

    /// What the public gets right now.
    #[must_use]
    pub fn serving(&self) -> Serving {
        let live = Site::open(&self.config.site).and_then(|site| site.live());
        Serving::new(&self.name, live.ok().as_ref())
    }

    fn lock(&self, action: Action, begun: SystemTime) -> Result<LockedSite> {
        let holder = Holder {
            pid: std::process::id(),
            action,
            by: Actor::clone(&self.actor),
            since: timestamp(begun),
            phase: "begin".into(),
        };
        let announce = |holder: &str| self.report.line(Message::Waiting { holder });
        let site = Site::open(&self.config.site)?;
        site.live()?;
        site.lock(holder, self.config.lock_timeout, announce, || self.stop().check())
    }

    fn look(&self, site: &LockedSite, attempt: &mut Attempt) -> Result<()> {
        for leftover in site.sweep()? {
            self.report.warning(leftover);
        }
        publish::resume(self, site)?;
        let live = site.live()?;
        attempt.old = site.commit(&live);
        match &live {
            Live::Gone(name) => self.report.warning(format!("release {name} was live, but it is gone")),
            Live::Elsewhere(path) => {
                let path = crate::text::printable(path);
                self.report.warning(format!("`current` leads to `{path}`, which is no release"));
            }
            Live::Nothing | Live::Release(_) => {}
        }
        Ok(())
    }

    fn record(&self, site: &Site, action: Action, begun: SystemTime, attempt: &Attempt, result: &Result<()>) {
        if attempt.new.is_none() && attempt.release.is_none() && result.is_ok() {
            return;
        }
        let entry = Entry {
            time: timestamp(begun),
            action,
            by: Actor::clone(&self.actor),
            release: attempt.release.as_ref().map(ToString::to_string),
            old: attempt.old,
            new: attempt.new,
            seconds: attempt.took().as_secs_f64(),
            outcome: match result {
                Ok(()) | Err(Error::AfterFlip(_)) => Outcome::Live,
                Err(_) => Outcome::Failed,
            },
            error: result.as_ref().err().map(ToString::to_string),
        };
        if let Err(error) = history::append(&site.history_path(), &entry) {
            self.report.warning(error);
        }
    }
}
