//! The check of every server of a side, before anything is switched: pages, and the user's own commands.

use std::panic::resume_unwind;
use std::sync::mpsc::channel;
use std::thread;

use crate::check_config::Page;
use crate::context::PromoteContext;
use crate::error::{Error, Result};
use crate::latch::Latch;
use crate::plan::{Plan, Topology, all};
use crate::probe::{join_url, probe, try_it, until_healthy};
use crate::progress::{Progress, SILENT};
use crate::remote::Remote;
use crate::user_command::UserCommand;
use crate::watch::COMMAND_TIMEOUT;
use bluegreen_process::signals::Stop;
use bluegreen_sys::{concurrent, parallel};
use bluegreen_text::count;

/// Checks every page of every server of the side, at its own address, while `lock` takes the locks. The last request of each
/// page begins after that, at the same time as `then`. Returns the results of both, and of each page.
pub fn check_pages_while<L, T>(
    context: &PromoteContext,
    lock: impl FnOnce() -> Result<L>,
    then: impl FnOnce() -> Result<T>,
) -> Result<(L, T, Vec<Result<()>>)> {
    let &PromoteContext { topology, plan, stop, report, .. } = context;
    let (latch, check) = (Latch::default(), stop.part());
    let (sender, events) = channel();
    let (latch, check) = (&latch, &check);
    let in_thread = move || {
        check_pages(topology, plan, latch, check, |waiting| {
            // Until then, the promotion waits for the locks.
            if latch.opened().is_some() {
                // The receiver hangs up only after an error.
                let _ = sender.send(waiting.to_vec());
            }
        })
    };
    thread::scope(|scope| {
        // An error or a panic must not leave the threads behind that wait for the latch.
        let _cancel = Cancel(check);
        let Ok(checking) = parallel::spawn(scope, in_thread) else {
            let locks = lock()?;
            latch.open();
            return Ok((locks, then()?, check_pages(topology, plan, latch, check, |_| ())));
        };
        let locks = lock()?;
        latch.open();
        let done = then()?;
        let mut progress = Progress::new(report, "pass the check", SILENT);
        let probes = probes(topology, plan);
        for waiting in events {
            progress.show(waiting.iter().map(|&at: &usize| probes[at].0.host()).collect());
        }
        report.end_progress();
        Ok((locks, done, checking.join().unwrap_or_else(|panic| resume_unwind(panic))))
    })
}

/// Cancels a part of the work when it is dropped.
struct Cancel<'a>(&'a Stop);

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// Concludes the check of a side whose pages have these results: runs the commands, once for each server.
pub fn check_side(context: &PromoteContext, mut checked: Vec<Result<()>>) -> Result<()> {
    let &PromoteContext { topology, plan, intent, stop, report } = context;
    let servers = &topology.sides[&plan.to];
    // A smoke test of a server that does not respond would only repeat the reason.
    if checked.iter().all(Result::is_ok) {
        checked.extend(run_commands(topology, plan, stop));
    }
    let is_waived = |result: &Result<()>| {
        intent.force && matches!(result, Err(Error::Unhealthy { .. } | Error::CheckCommand { .. }))
    };
    let (waived, checked): (Vec<_>, Vec<_>) = checked.into_iter().partition(is_waived);
    for error in waived.iter().filter_map(|result| result.as_ref().err()) {
        report.warning(error);
    }
    all(checked, report)?;
    if waived.is_empty() {
        report.line(format_args!("Checked {}: {}.", plan.to, count(servers.len() as u64, "server")));
    } else {
        report.warning(format_args!("{} failed its check; continuing because of --force", plan.to));
    }
    Ok(())
}

/// Returns every page of every server of the side.
fn probes<'a>(topology: &'a Topology, plan: &Plan) -> Vec<(&'a Remote, &'a Page)> {
    let (servers, pages) = (&topology.sides[&plan.to], &topology.config.check.paths);
    servers.iter().flat_map(|server| pages.iter().map(move |page| (server, page))).collect()
}

fn check_pages(
    topology: &Topology,
    plan: &Plan,
    latch: &Latch,
    stop: &Stop,
    waiting: impl FnMut(&[usize]),
) -> Vec<Result<()>> {
    let (check, public) = (&topology.config.check, &topology.config.public.url);
    let (_, foreign) = plan.distinct_names(&plan.to);
    let check_page = |(server, page): (&Remote, &Page)| {
        let address = server.address();
        let request = || {
            let response = probe(public, page, Some(address), Some(stop))?.not_from(&foreign);
            topology.observer.response(&response);
            Ok(response)
        };
        let problem = until_healthy((check.healthy, check.within), latch, Some(stop), request)?;
        let error = |how| Error::Unhealthy {
            path: page.path.clone(),
            url: server.url.clone(),
            address: address.to_owned(),
            how,
            try_it: try_it(&join_url(public, &page.path), address),
        };
        problem.map_or(Ok(()), |how| Err(error(how)))
    };
    concurrent::map_with_progress(probes(topology, plan), check_page, waiting)
}

fn run_commands(topology: &Topology, plan: &Plan, stop: &Stop) -> Vec<Result<()>> {
    let check = &topology.config.check;
    concurrent::map(&topology.sides[&plan.to], |server| {
        let mut variables = variables(topology, plan);
        let address = server.address().trim_start_matches("http://");
        variables.push(("BLUEGREEN_ADDRESS", address.to_owned()));
        // With `subdirectory`, the servers of a side may serve different commits with the same files.
        let own =
            plan.states.iter().find(|state| state.url == server.url).and_then(|state| state.status.commit);
        if let Some(own) = own {
            variables.retain(|(name, _)| *name != "BLUEGREEN_COMMIT");
            variables.push(("BLUEGREEN_COMMIT", own.to_string()));
        }
        check.run.iter().try_for_each(|line| {
            let timeout = check.within;
            let command = UserCommand { line, folder: &topology.folder, variables: &variables, timeout };
            let problem = command.run(stop)?;
            problem.map_or(Ok(()), |how| Err(failed(line, server, how, &variables)))
        })
    })
}

fn failed(line: &str, server: &Remote, how: String, variables: &[(&str, String)]) -> Error {
    let variables: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{name}={}", shlex::try_quote(value).unwrap_or_default()))
        .collect();
    Error::CheckCommand {
        command: line.trim().to_owned(),
        url: server.url.clone(),
        how,
        variables: variables.join(" "),
    }
}

/// Returns the variables of every command of `[check]` and `[watch]`.
#[must_use]
pub fn variables(topology: &Topology, plan: &Plan) -> Vec<(&'static str, String)> {
    let commit = plan.commit.map(|commit| commit.to_string()).unwrap_or_default();
    vec![
        ("BLUEGREEN_URL", topology.config.public.url.clone()),
        ("BLUEGREEN_COMMIT", commit),
        ("BLUEGREEN_SIDE", plan.to.clone()),
    ]
}

/// Returns the commands of `[watch]`.
#[must_use]
pub fn watch_commands<'a>(
    topology: &'a Topology,
    variables: &'a [(&'static str, String)],
) -> Vec<UserCommand<'a>> {
    let (folder, timeout) = (&topology.folder, COMMAND_TIMEOUT);
    topology.config.watch.run.iter().map(|line| UserCommand { line, folder, variables, timeout }).collect()
}
