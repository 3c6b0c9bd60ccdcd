//! This server as a command finds it: its repository, config and name, the person who asks, and the report.

use std::cell::{Cell, LazyCell, OnceCell, RefCell};

use crate::config::Config;
use crate::git::Repository;
use crate::pusher::live_line::LiveLine;
use crate::pusher::message::Message;
use crate::pusher::report::Report;
use crate::run::signals::Stop;
use crate::site::history::{Actor, Entry};
use crate::site::{LockedSite, Site};

/// The server that a command works on, and the person that it works for.
#[derive(Debug)]
pub struct Server<'a> {
    /// The repository that is pushed to.
    pub repository: Repository,
    /// Its config.
    pub config: Config,
    /// The server's name in messages.
    pub name: String,
    /// The person who asked; the user is looked up once there is something to be recorded.
    pub actor: LazyCell<Actor, Box<dyn FnOnce() -> Actor>>,
    /// The way to the person who waits.
    pub report: &'a Report,
    /// True if a client of git waits for us, whose signals are not for us.
    pub for_client: bool,
    /// The release whose step runs this program, where the step belongs to the same site.
    pub in_step: Option<String>,
    /// True if a line of `[notify]` runs this program.
    pub in_notice: bool,
    /// The lines of the history that nobody was told of yet.
    pub untold: RefCell<Vec<Entry>>,
    /// True if whoever pushed insists on a deployment to the public side.
    pub insists: Cell<bool>,
    pub(crate) stop: OnceCell<Stop>,
}

impl Server<'_> {
    /// Returns the wish to stop. From the first call on, signals only ask.
    pub fn stop(&self) -> &Stop {
        self.stop.get_or_init(|| Stop::catch(self.for_client))
    }

    /// Reports the phase to `status`, and to a pusher who asked for details.
    pub fn phase(&self, site: &LockedSite, phase: &str) {
        site.phase(phase);
        self.report.detail(Message::Phase(phase));
    }

    /// Looks at the live release, for the last line of a failure.
    #[must_use]
    pub fn live_line(&self) -> LiveLine {
        let live = Site::open(&self.config.site).and_then(|site| site.live());
        LiveLine::new(&self.name, live.ok().as_ref())
    }
}
