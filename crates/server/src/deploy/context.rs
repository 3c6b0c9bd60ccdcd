//! The context of a command: repository, config, name of the server, the person who called, and the report.

use std::cell::{LazyCell, OnceCell, RefCell};

use crate::config::Config;
use crate::deploy::options::PushOptions;
use crate::pusher::live_line::LiveLine;
use crate::pusher::message::Message;
use crate::site::history::{Actor, Entry};
use crate::site::{LockedSite, Site};
use bluegreen_git::Repository;
use bluegreen_process::signals::Stop;
use bluegreen_report::Report;

/// The server that a command works on, and the person who called it.
#[derive(Debug)]
pub struct DeployContext<'a> {
    /// The repository that is pushed to.
    pub repository: Repository,
    /// Its config.
    pub config: Config,
    /// The server's name in messages.
    pub name: String,
    /// The caller.
    pub caller: Caller,
    /// The output to the caller.
    pub report: &'a Report,
    /// The options of the push, or of the command that deploys.
    pub options: PushOptions,
    /// The history entries for which `[notify]` has not run yet.
    pub(crate) unreported: RefCell<Vec<Entry>>,
    stop: OnceCell<Stop>,
}

/// The person or program that called this one.
#[derive(Debug)]
pub struct Caller {
    /// The person; looked up only when something is recorded.
    pub actor: LazyCell<Actor, Box<dyn FnOnce() -> Actor>>,
    /// True if a git client waits for this program: INT and HUP are then meant for the client.
    pub is_git: bool,
    /// The release whose step runs this program, if it is a release of the same site.
    pub step_of: Option<String>,
    /// True if a command of `[notify]` runs this program.
    pub is_notice: bool,
}

impl<'a> DeployContext<'a> {
    /// Creates the context of a command without push options, and without signal handlers.
    #[must_use]
    pub fn new(
        repository: Repository,
        config: Config,
        name: String,
        caller: Caller,
        report: &'a Report,
    ) -> Self {
        let (options, unreported, stop) = (PushOptions::default(), RefCell::default(), OnceCell::new());
        Self { repository, config, name, caller, report, options, unreported, stop }
    }

    /// Installs the signal handlers. From now on TERM, and INT and HUP unless a client of git waits for the program, only
    /// request a stop.
    pub fn catch_signals(&self) {
        self.stop.get_or_init(|| Stop::catch(self.caller.is_git));
    }

    /// Returns the request to stop. No signal makes it before [`DeployContext::catch_signals`].
    #[must_use]
    pub fn stop(&self) -> &Stop {
        static NEVER: Stop = Stop::never();
        self.stop.get().unwrap_or(&NEVER)
    }

    /// Records the phase for `status`, and prints it for the push option `verbose`.
    pub fn phase(&self, site: &LockedSite, phase: &str) {
        site.phase(phase);
        self.report.detail(Message::Phase(phase));
    }

    /// Reads the live release, for the last line of a failure.
    #[must_use]
    pub fn live_line(&self) -> LiveLine {
        let live = Site::open(&self.config.site).and_then(|site| site.live());
        LiveLine::new(&self.name, live.ok().as_ref())
    }
}
