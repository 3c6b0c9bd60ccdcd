//! The context of a command: repository, config, server name, caller, and report.

use std::cell::{LazyCell, OnceCell, RefCell};

use crate::config::Config;
use crate::deploy::options::PushOptions;
use crate::deploy::timing::Timing;
use crate::pusher::live_line::LiveLine;
use crate::pusher::message::Message;
use crate::site::history::{Actor, Entry};
use crate::site::{LockedSite, Site};
use bluegreen_git::Repository;
use bluegreen_process::signals::Stop;
use bluegreen_report::Report;

/// The repository and config that a command works on, and its caller.
#[derive(Debug)]
pub struct DeployContext<'a> {
    pub repository: Repository,
    pub config: Config,
    /// The server's name in messages.
    pub name: String,
    pub caller: Caller,
    /// The output to the caller.
    pub report: &'a Report,
    /// The options of the push, or those that the command's own options stand for.
    pub options: PushOptions,
    /// The phases of this run, for the push option `timing`.
    pub(crate) timing: Timing,
    /// The history entries for which `[notify]` has not run yet.
    pub(crate) unreported: RefCell<Vec<Entry>>,
    stop: OnceCell<Stop>,
}

/// The person or program that called this one.
#[derive(Debug)]
pub struct Caller {
    /// The person, looked up lazily when an entry is recorded.
    pub actor: LazyCell<Actor, Box<dyn FnOnce() -> Actor>>,
    /// True if a git client waits for this program. INT and HUP are then meant for the client.
    pub is_git: bool,
    /// True in the gate, where the branch moves only if the deployment succeeds.
    pub is_gate: bool,
    /// The release whose step runs this program, if the release belongs to the same site.
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
        Self {
            repository,
            config,
            name,
            caller,
            report,
            options: PushOptions::default(),
            timing: Timing::start(),
            unreported: RefCell::default(),
            stop: OnceCell::new(),
        }
    }

    /// Installs the signal handlers. From then on, TERM only requests a stop, and so do INT and HUP unless the caller is git.
    pub fn catch_signals(&self) {
        self.stop.get_or_init(|| Stop::catch(self.caller.is_git));
    }

    /// Returns the stop request, which no signal sets before [`DeployContext::catch_signals`].
    #[must_use]
    pub fn stop(&self) -> &Stop {
        static NEVER: Stop = Stop::never();
        self.stop.get().unwrap_or(&NEVER)
    }

    /// Records the phase for `status`, and prints it for the push option `verbose`.
    pub fn phase(&self, site: &LockedSite, phase: &str) {
        site.phase(phase);
        self.timing.begin(phase);
        self.report.detail(Message::Phase(phase));
    }

    /// Reads the live release, for the last line of a failure.
    #[must_use]
    pub fn live_line(&self) -> LiveLine {
        let live = Site::open(&self.config.site).and_then(|site| site.live());
        LiveLine::new(&self.name, live.ok().as_ref())
    }
}
