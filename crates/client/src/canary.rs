//! The canary: before the switch, a side gets a percentage of the requests, in steps, and is judged by its own responses.

use std::time::Duration;

use crate::canary_config::Step;
use crate::check;
use crate::context::PromoteContext;
use crate::error::{Error, Result};
use crate::observer;
use crate::plan::Topology;
use crate::probe::probe;
use crate::switch::Split;
use crate::watch::{Own, Rules, Watched, expected, progress, watch};
use bluegreen_text::MAX_NAME_CHARS;
use bluegreen_text::truncated;

/// The expected number of responses from which on a side without any counts as unreachable. With 10, the probability of
/// a false alarm is 1 in 22,000.
const MIN_EXPECTED: u64 = 10;

/// The canary of a promotion.
#[derive(Debug)]
pub struct Run<'a> {
    context: PromoteContext<'a>,
    from: &'a str,
    own: Own,
}

impl<'a> Run<'a> {
    /// Checks the requirements of a canary before anything is switched; `None` if there is none to run. `is_split` is true
    /// if an interrupted one has left some of the requests to the side.
    pub fn prepare(context: &PromoteContext<'a>, is_split: bool) -> Result<Option<Self>> {
        let &PromoteContext { topology, plan, intent, report, .. } = context;
        if topology.config.canary.steps.is_empty() || plan.is_public() {
            return Ok(None);
        }
        let Some(from) = plan.from.as_deref().filter(|_| !intent.force) else {
            let reason = if intent.force { "of --force" } else { "no side is public" };
            report.line(format_args!("Skipping the canary, because {reason}."));
            return Ok(None);
        };
        let (names, others) = plan.distinct_names(&plan.to);
        let run = Self { context: *context, from, own: Own { names, others } };
        run.check_names(is_split)?;
        // Reset the split of an interrupted canary.
        topology.switch.weight(&plan.to, 0)?;
        Ok(Some(run))
    }

    /// Fails unless every server of the new side, and the old side at the public address, identify themselves.
    fn check_names(&self, is_split: bool) -> Result<()> {
        let PromoteContext { topology, plan, stop, .. } = self.context;
        let (config, to) = (&topology.config, &plan.to);
        let page = &config.check.paths[0];
        let check = |address: Option<&str>, what: &str, names: &[String]| {
            let named = probe(&config.public.url, page, address, Some(stop))?.served_by;
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
        for server in &topology.sides[to] {
            check(Some(server.address()), server.address(), &self.own.names)?;
        }
        let either = [&self.own.others[..], &self.own.names].concat();
        check(None, &config.public.url, if is_split { &either } else { &self.own.others })
    }

    /// Runs the steps. `watched` receives the responses of a failed step.
    pub fn run(&self, limit: Option<Duration>, watched: &mut Watched) -> Result<()> {
        let topology = self.context.topology;
        topology.observer.step(observer::Step::Canary);
        for step in &topology.config.canary.steps {
            *watched =
                Watched { own: Some(Box::new((self.own.clone(), Watched::default()))), ..Watched::default() };
            self.step(*step, limit, watched)?;
        }
        *watched = Watched::default();
        Ok(())
    }

    fn step(&self, step: Step, limit: Option<Duration>, watched: &mut Watched) -> Result<()> {
        let PromoteContext { topology, plan, stop, report, .. } = self.context;
        let (config, switch, to) = (&topology.config, &topology.switch, &plan.to);
        let time = humantime::format_duration(step.duration);
        let what = format!("Giving {to} {}% of the requests for {time}...", step.weight);
        report.line(&what);
        topology.observer.waiting(what);
        let result = switch.weight(to, step.weight);
        let shown = switch.shown(None)?;
        let wanted = Split { side: to.clone(), percent: step.weight };
        if shown.public.as_deref() != Some(self.from) || shown.split != Some(wanted) {
            result?;
            return Err(Error::NotSwitched(shown.to_string()));
        }
        topology.observer.weight(step.weight);
        let variables = check::variables(topology, plan);
        let rules = Rules {
            duration: step.duration,
            tolerate: tolerated(topology, step),
            limit,
            percent: step.weight,
            foreign: &[],
            commands: check::watch_commands(topology, &variables),
            observer: topology.observer.clone(),
        };
        let progress = progress(report, step.duration);
        watch(&config.public.url, &config.check.paths, &rules, stop, watched, progress)?;
        self.check_seen(step, watched)
    }

    /// Fails if the side received no requests because the front end ignores the weight.
    fn check_seen(&self, step: Step, watched: &Watched) -> Result<()> {
        if watched.own.as_ref().is_some_and(|own| own.1.requests() > 0) {
            return Ok(());
        }
        let PromoteContext { plan, report, .. } = self.context;
        let to = &plan.to;
        let problem = format!("no response came from {to}, although it has a weight of {}%", step.weight);
        if expected(step.duration, step.weight) < MIN_EXPECTED {
            report.warning(format_args!("{problem}: it is not judged in this step"));
            report.hint("give the step more time");
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
