//! The real servers: every method calls the function that the command line calls.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bluegreen_client::action::Lines;
use bluegreen_client::changes::{self, Change as Commit};
use bluegreen_client::observer::Observer;
use bluegreen_client::plan::{Access, Plan, PromoteIntent, Topology, named};
use bluegreen_client::promote::{promote, summary, verdict};
use bluegreen_client::remote::Remote;
use bluegreen_client::switch::Shown;
use bluegreen_client::{Error, action, lock, probe, ssh, trust};
use bluegreen_git_types::ObjectId;
use bluegreen_process::signals::Stop;
use bluegreen_protocol::history::Entry;
use bluegreen_protocol::status::Status;
use bluegreen_report::Report;
use bluegreen_sys::parallel::spawn_alone;
use bluegreen_text::explain::Explain;

use crate::client::{Change, Client, Endpoint, Health, Pair, Planned, Problem, Progress, Promotion};

/// The maximum number of entries of a server's history that are requested.
const MAX_ENTRIES: usize = 200;

/// The settings for reaching the servers.
#[derive(Debug, Clone)]
pub struct Servers {
    /// The config, if the operator named one.
    pub config: Option<PathBuf>,
    /// The ssh client.
    pub client: ssh::Client,
    /// The directory of the file that lists the trusted configs.
    pub state: Option<PathBuf>,
}

/// Rejects an untrusted config. Only the command that starts the panel can prompt the operator.
struct RejectUntrusted;

impl trust::TrustPrompt for RejectUntrusted {
    fn confirm(&self, _: &[String]) -> bluegreen_client::Result<bool> {
        Ok(false)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { message: error.to_string(), hint: error.hint() }
    }
}

impl Client for Servers {
    fn open(&self) -> Result<Box<dyn Pair>, Problem> {
        Ok(Box::new(Opened { topology: open(self)?, access: self.clone() }))
    }
}

fn open(servers: &Servers) -> Result<Topology, Problem> {
    let access = Access {
        config: servers.config.as_deref(),
        client: servers.client.clone(),
        state: servers.state.clone(),
    };
    Ok(Topology::open(&access, &RejectUntrusted)?)
}

/// The servers in the current config.
#[derive(Debug)]
struct Opened {
    topology: Topology,
    access: Servers,
}

impl Opened {
    fn remote(&self, server: &Endpoint) -> Result<&Remote, Problem> {
        let message = || format!("`{}` is no longer in the config", server.url);
        self.topology.server(&server.url).ok_or_else(|| Problem { message: message(), hint: None })
    }
}

impl Pair for Opened {
    fn public_url(&self) -> String {
        self.topology.config.public.url.clone()
    }

    fn servers(&self) -> Vec<Endpoint> {
        let sides = self.topology.sides.iter();
        let servers = sides.flat_map(|(side, servers)| servers.iter().map(move |server| (side, server)));
        servers
            .map(|(side, server)| Endpoint {
                side: side.clone(),
                url: server.url.clone(),
                host: server.host().to_owned(),
            })
            .collect()
    }

    fn front(&self, stop: &Stop) -> Result<Shown, Problem> {
        Ok(self.topology.switch.shown(Some(stop))?)
    }

    fn status(&self, server: &Endpoint, stop: &Stop) -> Result<Status, Problem> {
        Ok(self.remote(server)?.status(Some(stop))?)
    }

    fn health(&self, server: &Endpoint, stop: &Stop) -> Result<Health, Problem> {
        let (config, remote) = (&self.topology.config, self.remote(server)?);
        let page = &config.check.paths[0];
        let response = probe::probe(&config.public.url, page, Some(remote.address()), Some(stop))?;
        let is_healthy = response.is_good();
        let problem = if is_healthy { String::new() } else { response.words() };
        Ok(Health { is_healthy, problem, took: response.took })
    }

    fn history(&self, server: &Endpoint, stop: &Stop) -> Result<Vec<Entry>, Problem> {
        Ok(self.remote(server)?.history(MAX_ENTRIES, Some(stop))?)
    }

    fn author(&self, commit: &ObjectId) -> Option<String> {
        changes::author(commit)
    }

    fn changes(&self, old: &ObjectId, new: &ObjectId) -> Vec<Commit> {
        changes::changes(old, new)
    }

    fn plan(&self, side: &str, force: bool, stop: &Stop) -> Result<Planned, Problem> {
        let plan = self.topology.plan(&intent(side, force), stop, &quiet()?)?;
        Ok(self.planned(&plan, force))
    }

    fn promote(
        &self,
        wanted: &Promotion,
        stop: &Stop,
        progress: &Arc<dyn Progress>,
    ) -> Result<String, Problem> {
        let mut topology = self.topology()?;
        let receiver = Arc::clone(progress);
        topology.observer = Observer::new(move |event| receiver.event(event));
        reported(progress, |report| {
            let promoted = self.promote_with(&topology, wanted, stop, report);
            promoted.map_err(|failure| match failure {
                Failure::Changed(problem) => problem,
                Failure::Client(error) => {
                    let public = topology.switch.show(None).ok();
                    let public = public.as_ref().map(|public| named(public.as_deref()));
                    let message = format!("{} {error}", verdict(public, Some(&error)));
                    Problem { message, hint: error.hint() }
                }
            })
        })
    }

    fn apply(
        &self,
        side: &str,
        change: &Change,
        stop: &Stop,
        progress: &Arc<dyn Progress>,
    ) -> Result<String, Problem> {
        let unknown = || Problem { message: format!("unknown side `{side}`"), hint: None };
        let servers = self.topology.sides.get(side).ok_or_else(unknown)?;
        let say = |at: usize, line: &str| {
            let host = servers.get(at).map_or("", Remote::host);
            if servers.len() > 1 { progress.line(&format!("{host} | {line}")) } else { progress.line(line) }
        };
        let lock = match change {
            Change::Run(action) => {
                let results = action.run(servers, stop, &say);
                return summed_up(results, action.command(), side);
            }
            Change::Lock { reason, until } => lock::Change::Lock { reason, until: *until, replace: false },
            Change::Unlock => lock::Change::Unlock,
        };
        let results = lock
            .apply(servers, stop)
            .into_iter()
            .enumerate()
            .map(|(at, result)| result.map(|text| text.lines().for_each(|line| say(at, line))));
        summed_up(results.collect(), lock.command(), side)
    }

    fn follow(&self, server: &Endpoint, stop: &Stop, line: &dyn Fn(&str)) -> Result<(), Problem> {
        Ok(action::follow(self.remote(server)?, stop, line)?)
    }
}

/// The reason why a promotion has not succeeded.
enum Failure {
    /// The operator has confirmed something else.
    Changed(Problem),
    Client(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl Opened {
    /// Opens the config again, for an observer of its own.
    fn topology(&self) -> Result<Topology, Problem> {
        open(&self.access)
    }

    fn planned(&self, plan: &Plan, force: bool) -> Planned {
        let config = &self.topology.config;
        let has_canary = plan.from.is_some() && !plan.is_public() && !force;
        let steps = config.canary.steps.iter().filter(|_| has_canary);
        Planned {
            from: plan.from.clone(),
            to: plan.to.clone(),
            is_public: plan.is_public(),
            old: plan.old,
            new: plan.commit,
            left_out: plan.left_out.clone(),
            canary: steps.map(|step| (step.weight, step.duration)).collect(),
            watch: config.watch.duration(&config.check),
            drain: config.public.drain,
        }
    }

    fn promote_with(
        &self,
        topology: &Topology,
        wanted: &Promotion,
        stop: &Stop,
        report: &Report,
    ) -> Result<String, Failure> {
        let (started, intent) = (Instant::now(), intent(&wanted.side, wanted.force));
        let prepared = topology.prepare(&intent, stop, report)?;
        let plan = &prepared.plan;
        if wanted.seen.as_ref().is_some_and(|seen| *seen != self.planned(plan, wanted.force).seen()) {
            let message = "Not promoted: the sides have changed since you confirmed.".into();
            let hint = Some("look at the overview, and promote again".into());
            return Err(Failure::Changed(Problem { message, hint }));
        }
        plan.lines().into_iter().for_each(|line| report.line(line));
        for reason in &plan.left_out {
            report.warning(format_args!("{reason}: it is neither locked nor marked"));
        }
        let done = promote(topology, prepared, &intent, stop, report)?;
        Ok(summary(&done, started.elapsed()))
    }
}

fn intent(side: &str, force: bool) -> PromoteIntent<'_> {
    PromoteIntent { side: Some(side), yes: true, dry_run: false, force }
}

fn quiet() -> Result<Report, Problem> {
    Report::quiet().map_err(|error| Problem { message: error.to_string(), hint: error.hint() })
}

fn summed_up(results: Vec<Result<(), Error>>, command: &str, side: &str) -> Result<String, Problem> {
    let all = results.len();
    let mut errors = results.into_iter().filter_map(Result::err);
    let Some(first) = errors.next() else { return Ok(format!("`{command}` of {side} has succeeded.")) };
    let failed = 1 + errors.count();
    let of =
        if all > 1 { format!("{failed} of {all} servers failed, the first one: ") } else { String::new() };
    Err(Problem { message: format!("{of}{first}"), hint: first.hint() })
}

/// Passes what is reported on, line by line, while `work` runs.
fn reported<T>(
    progress: &Arc<dyn Progress>,
    work: impl FnOnce(&Report) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let failed = |error: std::io::Error| Problem {
        message: format!("cannot report the progress: {}", bluegreen_text::reason(&error)),
        hint: None,
    };
    let (mut reader, writer) = std::io::pipe().map_err(failed)?;
    let receiver = Arc::clone(progress);
    let reading = spawn_alone(move || {
        let (mut lines, mut buffer) = (Lines::default(), [0; 4096]);
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            lines.take(&buffer[..length], &|line| receiver.line(line));
        }
        lines.end(&|line| receiver.line(line));
    })
    .map_err(failed)?;
    let report = Report::new(writer.try_clone().map_err(failed)?.into(), writer.into());
    let result = work(&report);
    // The reader ends with the last writer.
    drop(report);
    let _ = reading.join();
    result
}
