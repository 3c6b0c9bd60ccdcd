//! The end of a promotion: switching back after a failure, marks and histories, and the release of the locks.

use std::time::{Instant, SystemTime};

use crate::context::PromoteContext;
use crate::error::{Error, Result};
use crate::hold::Hold;
use crate::latch::Latch;
use crate::observer::Step;
use crate::plan::{Plan, Topology};
use crate::probe::{join_url, probe, until_healthy};
use crate::remote::Remote;
use crate::switch::Shown;
use crate::watch::Watched;
use bluegreen_protocol::history::{Action, Actor, Entry, Outcome, Promotion};
use bluegreen_report::Report;
use bluegreen_sys::concurrent;
use bluegreen_text::explain::Explain;
use bluegreen_text::{message, timestamp};

/// Switches back to the previous side, and returns the error that made it necessary. With [`Error::Afterwards`] the new
/// side is public.
pub fn go_back(context: &PromoteContext, error: Error) -> Result<()> {
    let &PromoteContext { topology, plan, report, .. } = context;
    let shown = topology.switch.shown(None);
    let is_split = shown.as_ref().is_ok_and(|shown| shown.public == plan.from && shown.split.is_some());
    if plan.is_public() || shown.as_ref().is_ok_and(|shown| shown.public == plan.from && !is_split) {
        return Err(error);
    }
    let Some(from) = &plan.from else {
        let is_elsewhere = shown.is_ok_and(|shown| shown.public.as_ref() != Some(&plan.to));
        return Err(if is_elsewhere { error } else { Error::Afterwards(Box::new(error)) });
    };
    topology.observer.step(Step::GoBack);
    report.line(format_args!("Going back to {from}: {error}"));
    // The side that visitors had before is better than the one that failed, even if it is unhealthy.
    let set = |_| topology.switch.set(from, true);
    let back = if is_split {
        topology.switch.weight(&plan.to, 0).or_else(set)
    } else {
        topology.switch.set(from, true)
    };
    let is_back = |shown: &Shown| shown.split.is_none() && shown.public.as_ref() == Some(from);
    let shown = topology.switch.shown(None);
    if shown.as_ref().is_ok_and(is_back) {
        return Err(Error::WentBack(Box::new(error), problem_at(topology, plan, from)));
    }
    if let Err(stuck) = back {
        report.warning(&stuck);
        stuck.hint().into_iter().for_each(|hint| report.hint(hint));
    }
    match shown {
        Ok(Shown { public, split: Some(split) }) if public.as_ref() == Some(from) => {
            report.warning(format_args!("{} still gets {}% of the requests", split.side, split.percent));
            report.hint(format_args!("`bluegreen promote {from}` ends that"));
            Err(error)
        }
        _ => Err(Error::Afterwards(Box::new(error))),
    }
}

/// Returns the problem that visitors have now that the previous side is public again. An earlier Ctrl-C does not
/// interrupt this.
fn problem_at(topology: &Topology, plan: &Plan, side: &str) -> Option<String> {
    let check = &topology.config.check;
    let (_, foreign) = plan.distinct_names(side);
    check.paths.iter().find_map(|page| {
        let public = &topology.config.public.url;
        let url = join_url(public, &page.path);
        let probe = || probe(public, page, None, None).map(|response| response.not_from(&foreign));
        let open = Latch::default();
        open.open();
        let problem = until_healthy((check.healthy, check.within), &open, None, probe);
        problem
            .unwrap_or_else(|error| Some(format!("cannot be checked: {error}")))
            .map(|how| format!("{url} {how}"))
    })
}

/// Writes marks and histories. A failure here does not change which side is public.
pub fn finish(
    context: &PromoteContext,
    holds: &mut [Hold],
    (begun, started): (SystemTime, Instant),
    watched: &Watched,
    result: Result<()>,
) -> Result<()> {
    let &PromoteContext { topology, plan, report, .. } = context;
    let public = match topology.switch.show(None) {
        Ok(public) => public,
        // The public side is unknown: the marks stay as they are, and the next `public` corrects them.
        Err(error) => {
            let Err(earlier) = result else { return Err(Error::Afterwards(Box::new(error))) };
            report.warning(&error);
            return Err(earlier);
        }
    };
    let is_live = public.as_ref() == Some(&plan.to);
    let entry = Entry {
        time: timestamp(begun),
        action: Action::Promote,
        // The server replaces this by the actor that it identifies itself.
        by: Actor { user: String::new(), sudo: None, boot: false, ssh: None, key: None, role: None },
        release: None,
        old: plan.old,
        new: plan.commit,
        seconds: started.elapsed().as_secs_f64(),
        outcome: if is_live { Outcome::Live } else { Outcome::Failed },
        error: result.as_ref().err().map(message),
        promotion: Some(Promotion {
            from: plan.from.clone(),
            to: plan.to.clone(),
            requests: watched.requests(),
            failures: watched.failures,
        }),
        lock: None,
    };
    let marked = concurrent::map(holds, |hold| {
        hold.mark_and_record(topology.is_on_side(public.as_deref(), hold.url()), &entry)
    });
    let marked = marked.into_iter().collect::<Result<()>>();
    let marked = marked.map_err(|error| Error::Marks(error.to_string()));
    result.and(marked.map_err(|error| Error::Afterwards(Box::new(error))))
}

/// Releases the lock of every server, and has the first one of the side run its `[notify]`: there is one promotion to
/// report, however many servers have recorded it.
pub fn release_locks(holds: Vec<Hold>, side: &[Remote], report: &Report) {
    let is_first = |hold: &Hold| side.first().is_some_and(|server| server.url == hold.url());
    let warnings = concurrent::map(holds, |hold| if is_first(&hold) { hold.notify() } else { Vec::new() });
    for warning in warnings.into_iter().flatten() {
        report.warning(warning);
    }
}
