//! The canary: before the switch, a side gets a percentage of the requests, in steps, and is judged by its own responses.

use std::time::Duration;

use crate::canary_config::Step;
use crate::check;
use crate::error::{Error, Result};
use crate::observer;
use crate::plan::{Plan, PromoteIntent, Topology};
use crate::probe::probe;
use crate::switch::Split;
use crate::watch::{Own, Rules, Watched, expected, progress, watch};
use bluegreen_process::signals::Stop;
use bluegreen_report::Report;
use bluegreen_text::MAX_NAME_CHARS;
use bluegreen_text::truncated;

/// The expected number of responses after which a side without any counts as unreachable. With 10, the probability of a
/// false alarm is 1 in 22,000.
const MIN_EXPECTED: u64 = 10;

/// The canary of a promotion.
#[derive(Debug)]
pub struct Run<'a> {
    topology: &'a Topology,
    plan: &'a Plan,
    from: &'a str,
    own: Own,
    stop: &'a Stop,
    report: &'a Report,
}

impl<'a> Run<'a> {
    /// Checks the requirements of a canary before anything is switched; `None` if there is none to run. `is_split` is true
    /// if an interrupted one has left some of the requests to the side.
    pub fn prepare(
        topology: &'a Topology,
        plan: &'a Plan,
        intent: &PromoteIntent,
        is_split: bool,
        stop: &'a Stop,
        report: &'a Report,
    ) -> Result<Option<Self>> {
        if topology.config.canary.steps.is_empty() || plan.is_public() {
            return Ok(None);
        }
        let Some(from) = plan.from.as_deref().filter(|_| !intent.force) else {
            let reason = if intent.force { "of --force" } else { "no side is public" };
            report.line(format_args!("Skipping the canary, because {reason}."));
            return Ok(None);
        };
        let (names, others) = plan.distinct_names(&plan.to);
        let run = Self { topology, plan, from, own: Own { names, others }, stop, report };
        run.check_names(is_split)?;
        // Reset the split of an interrupted canary.
        topology.switch.weight(&plan.to, 0)?;
        Ok(Some(run))
    }

    /// Fails unless every server of the new side, and the old side at the public address, identify themselves.
    fn check_names(&self, is_split: bool) -> Result<()> {
        let (config, to) = (&self.topology.config, &self.plan.to);
        let page = &config.check.paths[0];
        let check = |address: Option<&str>, what: &str, names: &[String]| {
            let named = probe(&config.public.url, page, address, Some(self.stop))?.served_by;
            if named.as_ref().is_some_and(|name| names.contains(name)) {
                return Ok(());
            }
            let named = named.map_or("no `X-Served-By`".into(), |name| {
                format!("`X-Served-By: {}`", truncated(&name, MAX_NAME_CHARS))
            });
            Err(Error::Canary {
                problem: format!("a canary needs responses that name their server, but {what} sends {named}"),
                hint: "have each site send its server's name as `X-Served-By`, as docs/howto/promote.md shows, \
                       or remove [canary]",
            })
        };
        for server in &self.topology.sides[to] {
            check(Some(&server.address), &server.address, &self.own.names)?;
        }
        let either = [&self.own.others[..], &self.own.names].concat();
        check(None, &config.public.url, if is_split { &either } else { &self.own.others })
    }

    /// Runs the steps. `watched` receives the responses of a failed step.
    pub fn run(&self, limit: Option<Duration>, watched: &mut Watched) -> Result<()> {
        self.topology.observer.step(observer::Step::Canary);
        for step in &self.topology.config.canary.steps {
            *watched =
                Watched { own: Some(Box::new((self.own.clone(), Watched::default()))), ..Watched::default() };
            self.step(*step, limit, watched)?;
        }
        *watched = Watched::default();
        Ok(())
    }

    fn step(&self, step: Step, limit: Option<Duration>, watched: &mut Watched) -> Result<()> {
        let (switch, to) = (&self.topology.switch, &self.plan.to);
        let time = humantime::format_duration(step.duration);
        let what = format!("Giving {to} {}% of the requests for {time}...", step.weight);
        self.report.line(&what);
        self.topology.observer.waiting(what);
        let result = switch.weight(to, step.weight);
        let shown = switch.shown(None)?;
        let wanted = Split { side: to.clone(), percent: step.weight };
        if shown.public.as_deref() != Some(self.from) || shown.split != Some(wanted) {
            result?;
            return Err(Error::NotSwitched(shown.to_string()));
        }
        self.topology.observer.weight(step.weight);
        let config = &self.topology.config;
        let variables = check::variables(self.topology, self.plan);
        let rules = Rules {
            duration: step.duration,
            tolerate: tolerated(self.topology, step),
            limit,
            percent: step.weight,
            foreign: &[],
            commands: check::watch_commands(self.topology, &variables),
            observer: self.topology.observer.clone(),
        };
        let progress = progress(self.report, step.duration);
        watch(&config.public.url, &config.check.paths, &rules, self.stop, watched, progress)?;
        self.check_seen(step, watched)
    }

    /// Fails if the side received no requests because the front end ignores the weight.
    fn check_seen(&self, step: Step, watched: &Watched) -> Result<()> {
        if watched.own.as_ref().is_some_and(|own| own.1.requests() > 0) {
            return Ok(());
        }
        let to = &self.plan.to;
        let problem = format!("no response came from {to}, although it has a weight of {}%", step.weight);
        if expected(step.duration, step.weight) < MIN_EXPECTED {
            self.report.warning(format_args!("{problem}: it is not judged in this step"));
            self.report.hint("give the step more time");
            return Ok(());
        }
        let hint = "check that the front end's config splits requests, as docs/reference/switches.md shows";
        Err(Error::Canary { problem, hint })
    }
}

/// Returns the number of tolerated failures of the side in a step, at the same rate as in the watch.
fn tolerated(topology: &Topology, step: Step) -> u64 {
    let config = &topology.config;
    let tolerate = config.watch.tolerate(&config.check);
    let own = expected(step.duration, step.weight);
    let watched = expected(config.watch.duration(&config.check), 100);
    tolerate.saturating_mul(own).checked_div(watched).unwrap_or(tolerate)
}
