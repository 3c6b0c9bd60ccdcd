//! The first step of a promotion: queries the front end and all servers in parallel.

use std::panic::resume_unwind;
use std::thread;

use bluegreen_process::signals::Stop;
use bluegreen_protocol::status::Status;
use bluegreen_report::Report;
use bluegreen_sys::{concurrent, parallel};

use crate::error::{Error, Result};
use crate::hold::Heartbeat;
use crate::observer::Step;
use crate::plan::{Failed, Plan, PromoteIntent, ServerStatus, Topology};
use crate::progress::Progress;
use crate::remote::Remote;
use crate::standby::Standby;

/// A plan, and the connections that can lock its servers.
#[derive(Debug)]
pub struct Prepared {
    pub plan: Plan,
    pub(crate) standby: Vec<Standby>,
    /// Keeps the connections until they are dropped.
    pub(crate) heartbeat: Heartbeat,
}

/// The servers that reported their state, each with what else the request returned, and those that did not.
type Found<T> = (Vec<(ServerStatus, T)>, Vec<Failed>);

impl Topology {
    /// Plans a promotion, or returns the reason why it must not run.
    pub fn plan(&self, intent: &PromoteIntent, stop: &Stop, report: &Report) -> Result<Plan> {
        let (from, looked) = self.show_and(|stop| self.look(stop, report), intent, stop)?;
        self.decide(intent, from, looked, report)
    }

    /// Does the same, and keeps the connections to the servers open, for the promotion.
    pub fn prepare(&self, intent: &PromoteIntent, stop: &Stop, report: &Report) -> Result<Prepared> {
        let heartbeat = Heartbeat::start()?;
        let connect =
            |stop: &Stop| self.look_by(|server: &Remote| Standby::connect(server, &heartbeat, stop), report);
        let (from, (found, failed)) = self.show_and(connect, intent, stop)?;
        let (states, standby): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let plan = self.decide(intent, from, (states, failed), report)?;
        Ok(Prepared { plan, standby: standby.into_iter().flatten().collect(), heartbeat })
    }

    /// Returns the public side, and the result of `look`, which runs at the same time. If no side can be promoted, `look` is
    /// cancelled.
    fn show_and<T>(
        &self,
        look: impl FnOnce(&Stop) -> Result<T>,
        intent: &PromoteIntent,
        stop: &Stop,
    ) -> Result<(Option<String>, T)> {
        self.observer.step(Step::Look);
        let looking = stop.part();
        let show = || {
            let public = self.switch.show(Some(stop));
            let public = public.and_then(|public| {
                self.choose(intent.side, public.as_deref())?;
                Ok(public)
            });
            public.inspect_err(|_| looking.request())
        };
        let (shown, looked) = thread::scope(|scope| match parallel::spawn(scope, show) {
            Ok(showing) => {
                let looked = look(&looking);
                (showing.join().unwrap_or_else(|panic| resume_unwind(panic)), looked)
            }
            Err(_) => (show(), look(&looking)),
        });
        Ok((shown?, looked?))
    }

    /// Requests the state of every server; also returns the servers that did not report it. A line of progress is
    /// printed for every second that it waits.
    pub fn look(&self, stop: &Stop, report: &Report) -> Result<(Vec<ServerStatus>, Vec<Failed>)> {
        let request = |server: &Remote| Ok((server.status(Some(stop))?, ()));
        let (found, failed) = self.look_by(request, report)?;
        Ok((found.into_iter().map(|(state, ())| state).collect(), failed))
    }

    fn look_by<T: Send>(
        &self,
        request: impl Fn(&Remote) -> Result<(Status, T)> + Sync,
        report: &Report,
    ) -> Result<Found<T>> {
        let servers: Vec<(&String, &Remote)> = self
            .sides
            .iter()
            .flat_map(|(side, servers)| servers.iter().map(move |server| (side, server)))
            .collect();
        let mut progress = Progress::new(report, "respond", 1);
        let results = concurrent::map_with_progress(
            &servers,
            |(_, server)| request(server),
            |waiting| progress.show(waiting.iter().map(|&at| servers[at].1.host()).collect()),
        );
        report.end_progress();
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for ((side, server), result) in servers.into_iter().zip(results) {
            let (side, url) = (side.clone(), server.url.clone());
            match result {
                Ok((status, more)) => found.push((ServerStatus { side, url, status }, more)),
                // These say nothing about the server.
                Err(error @ (Error::Cancelled | Error::Io(_))) => return Err(error),
                Err(error) => failed.push(Failed { side, url, error }),
            }
        }
        Ok((found, failed))
    }
}
