//! Which side is public, and what every server of both sides serves.

use std::thread;

use serde::Serialize;

use bluegreen_process::signals::Stop;
use bluegreen_protocol::status::{Status, first_different};
use bluegreen_report::Report;
use bluegreen_sys::{concurrent, parallel};

use crate::error::Result;
use crate::hold::{Heartbeat, Hold};
use crate::locks::hold_all;
use crate::plan::{Failed, ServerStatus, Topology, named};
use crate::probe::Response;
use crate::remote::Remote;
use crate::switch::{Shown, Split};
use crate::{probe, role};

/// One server, as `--json` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub side: String,
    /// Its address, as the config has it.
    pub url: String,
    /// True if the front end shows its side.
    pub is_public: bool,
    /// The percentage of the requests that its side gets.
    pub weight: u8,
    /// True if the server reported its state.
    pub is_reachable: bool,
    /// True if its page passes `[check]`.
    pub healthy: bool,
    /// "well", or the problem.
    pub health: String,
    /// The state, if the server reported it.
    #[serde(flatten)]
    pub status: Option<Status>,
}

/// The state of both sides at one moment.
#[derive(Debug)]
pub struct Overview {
    /// The public side, as the front end shows it.
    pub public: Option<String>,
    /// The share of the other side, if it has one.
    pub split: Option<Split>,
    /// One row for each server, in the order of the config.
    pub rows: Vec<Row>,
    /// The state of every server that reported it.
    pub states: Vec<ServerStatus>,
    /// The servers that did not.
    pub failed: Vec<Failed>,
}

impl Overview {
    /// Queries the front end and all servers.
    pub fn read(topology: &Topology, stop: &Stop, report: &Report) -> Result<Self> {
        let shown = topology.switch.shown(Some(stop))?;
        let (looked, probed) = look_and_probe(topology, stop, report);
        let (states, failed) = looked?;
        let rows = rows(topology, &shown, &states, &failed, probed)?;
        Ok(Self { public: shown.public, split: shown.split, rows, states, failed })
    }

    /// Returns whether the servers of a side serve different commits, and these contain different files to deploy.
    #[must_use]
    pub fn differs(&self, side: &str) -> bool {
        let servers = self.states.iter().filter(|server| server.side == side);
        first_different(&servers.map(|server| &server.status).collect::<Vec<_>>()).is_some()
    }

    /// Corrects marks and roles that disagree with the front end, unless something runs that may write them itself.
    pub fn correct_marks(&self, topology: &Topology, stop: &Stop, report: &Report) -> Result<()> {
        let is_on_public_side = |server: &ServerStatus| self.public.as_ref() == Some(&server.side);
        let seen: Vec<_> =
            self.states.iter().map(|server| (is_on_public_side(server), &server.status)).collect();
        let is_right = wrong_marks(&seen).next().is_none() && !role::is_wrong(&seen);
        if is_right || seen.iter().any(|(_, status)| status.running.is_some()) {
            return Ok(());
        }
        let heartbeat = Heartbeat::start()?;
        let holds = hold_all(topology, &self.states, Vec::new(), &heartbeat, stop, report)?;
        // Until the locks were held, another promotion may have switched.
        let public = topology.switch.show(Some(stop))?;
        let public = public.as_deref();
        let locked: Vec<_> =
            holds.iter().map(|hold| (topology.is_on_side(public, hold.url()), &hold.status)).collect();
        if role::is_wrong(&locked) {
            self.correct_roles(topology, public, &holds, report)?;
        }
        let marked = concurrent::map(&holds, |hold| hold.mark(topology.is_on_side(public, hold.url())));
        marked.into_iter().collect::<Result<()>>()?;
        for status in wrong_marks(&locked) {
            let (server, side) = (&status.server, named(public));
            report.warning(format_args!(
                "corrected the mark of {server}, which was wrong or missing: {side} is public"
            ));
        }
        Ok(())
    }

    /// Gives every server the role of its side, unless a server may have another role that does not respond.
    fn correct_roles(
        &self,
        topology: &Topology,
        public: Option<&str>,
        holds: &[Hold],
        report: &Report,
    ) -> Result<()> {
        if let Some(Failed { url, .. }) = self.failed.first() {
            report.warning(format_args!(
                "`{url}` does not respond, so it may run what only the public side runs"
            ));
            report.hint("`bluegreen public` corrects that once it responds");
            return Ok(());
        }
        report.warning(
            "a promotion was interrupted while it changed which side runs the jobs: correcting that",
        );
        role::correct(topology, public, holds, report)
    }
}

/// Returns the servers whose mark disagrees with whether their side is public. Before the first promotion, no server has a
/// mark.
fn wrong_marks<'s>(servers: &[(bool, &'s Status)]) -> impl Iterator<Item = &'s Status> {
    let has_marks = servers.iter().any(|(_, status)| status.public.is_some());
    let is_marked = |status: &Status| status.public.as_ref().is_some_and(|mark| mark.public);
    servers
        .iter()
        .filter(move |(is_public, status)| has_marks && is_marked(status) != *is_public)
        .map(|(_, status)| *status)
}

/// The servers that reported their state, and those that did not.
type Looked = Result<(Vec<ServerStatus>, Vec<Failed>)>;

/// The health of each server, in the order of the config.
type Probed = Vec<Result<Response>>;

/// Requests the state of every server over ssh and its page at the same time, so that a server that hangs in one of
/// them costs its time only once.
fn look_and_probe(topology: &Topology, stop: &Stop, report: &Report) -> (Looked, Probed) {
    let (url, page) = (&topology.config.public.url, &topology.config.check.paths[0]);
    let servers: Vec<_> = topology.sides.values().flatten().collect();
    let probe_all =
        || concurrent::map(&servers, |server| probe::probe(url, page, Some(server.address()), Some(stop)));
    thread::scope(|scope| match parallel::spawn(scope, probe_all) {
        Ok(probing) => {
            let looked = topology.look(stop, report);
            (looked, probing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        }
        Err(_) => (topology.look(stop, report), probe_all()),
    })
}

/// Returns a row for each server, also for those that ssh does not reach, in the order of the config.
fn rows(
    topology: &Topology,
    shown: &Shown,
    states: &[ServerStatus],
    failed: &[Failed],
    probed: Probed,
) -> Result<Vec<Row>> {
    let servers =
        topology.sides.iter().flat_map(|(side, servers)| servers.iter().map(move |server| (side, server)));
    let row = |((side, server), response): ((&String, &Remote), Result<Response>)| {
        let response = response?;
        let status = states.iter().find(|state| state.url == server.url).map(|state| state.status.clone());
        let problem = failed.iter().find(|failed| failed.url == server.url);
        let health = if response.is_good() { "well".into() } else { response.words() };
        let health = match problem {
            Some(failed) => format!("{health}, but {}", failed.error),
            None => health,
        };
        Ok(Row {
            side: side.clone(),
            url: server.url.clone(),
            is_public: shown.public.as_ref() == Some(side),
            weight: shown.percent(side),
            is_reachable: status.is_some(),
            healthy: response.is_good(),
            health,
            status,
        })
    };
    servers.zip(probed).map(row).collect()
}
