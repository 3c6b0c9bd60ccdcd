//! The end of a promotion: the way back where it went wrong, marks and histories, and the locks that are let go.

use std::time::{Instant, SystemTime};

use bluegreen_text::explain::Explain;
use bluegreen_text::timestamp;
use serde_json::json;

use super::check;
use super::hold::Hold;
use super::look::{Front, Plan};
use super::side::{Remote, at_once};
use super::watch::Watched;
use crate::error::{Error, Result};
use crate::pusher::report::Report;
use crate::run::signals::Stop;

/// Goes back to the side before. The error stays the reason; with [`Error::AfterFlip`] the new side is
/// public nevertheless.
pub fn go_back(front: &Front, plan: &Plan, error: Error, report: &Report) -> Result<()> {
    let shown = front.switch.show(None);
    if plan.is_public() || shown.as_ref().is_ok_and(|shown| *shown == plan.from) {
        return Err(error);
    }
    let Some(from) = &plan.from else {
        let is_elsewhere = shown.is_ok_and(|shown| shown.as_ref() != Some(&plan.to));
        return Err(if is_elsewhere { error } else { Error::AfterFlip(Box::new(error)) });
    };
    report.line(format_args!("Going back to {from}: {error}"));
    // What visitors had before is better than what they have now, however it is.
    let back = front.switch.set(from, true);
    if matches!(front.switch.show(None), Ok(Some(shown)) if shown == *from) {
        return Err(Error::WentBack(Box::new(error), problem_at(front, plan, from)));
    }
    if let Err(stuck) = back {
        report.warning(&stuck);
        stuck.hint().into_iter().for_each(|hint| report.hint(hint));
    }
    Err(Error::AfterFlip(Box::new(error)))
}

/// The problem that visitors have now that they get the side before again. Ctrl-C has been heard already, and
/// does not end this.
fn problem_at(front: &Front, plan: &Plan, side: &str) -> Option<String> {
    let check = &front.config.check;
    let (_, foreign) = plan.told_apart(side);
    check.paths.iter().find_map(|path| {
        let url = check::place(&front.config.public.url, path);
        let ask = || check::ask(&url, None).map(|answer| answer.not_from(&foreign));
        let problem = check::until_healthy((check.healthy, check.within), None, ask);
        problem
            .unwrap_or_else(|error| Some(format!("cannot be asked: {error}")))
            .map(|how| format!("{url} {how}"))
    })
}

/// Writes marks and histories. What fails here changes nothing about who is public.
pub fn finish(
    front: &Front,
    plan: &Plan,
    holds: &mut [Hold],
    begun: (SystemTime, Instant),
    watched: &Watched,
    result: Result<()>,
) -> Result<()> {
    let public = match front.switch.show(None) {
        Ok(public) => public,
        // Nobody knows who is public: the marks stay, and the next `public` puts them right.
        Err(error) => return Err(Error::AfterFlip(Box::new(result.err().unwrap_or(error)))),
    };
    let outcome = if public.as_ref() == Some(&plan.to) { "live" } else { "failed" };
    let entry = json!({
        "time": timestamp(begun.0), "action": "promote", "by": {"user": ""}, "release": null,
        "old": plan.old, "new": plan.commit, "seconds": begun.1.elapsed().as_secs_f64(), "outcome": outcome,
        "error": result.as_ref().err().map(ToString::to_string),
        "promotion": {"from": plan.from, "to": plan.to, "requests": watched.requests(),
            "failures": watched.failures},
    });
    let marked = at_once(holds, |hold| {
        hold.mark(front.is_of(public.as_deref(), hold.url())).and_then(|()| hold.record(&entry))
    });
    let marked = marked.into_iter().collect::<Result<()>>().map_err(|error| Error::Promotion {
        problem: format!("{error}: not every server knows who is public"),
        hint: "`bluegreen public` tells them".into(),
    });
    result.and(marked.map_err(|error| Error::AfterFlip(Box::new(error))))
}

/// Lets every server go, and has the first of the side run its `[notify]`: there is one promotion to tell
/// of, however many servers recorded it.
pub fn let_go(mut holds: Vec<Hold>, side: &[Remote], report: &Report) {
    let first = holds.iter().position(|hold| side.first().is_some_and(|server| server.url == hold.url()));
    let first = first.map(|at| holds.swap_remove(at));
    at_once(holds, drop);
    for warning in first.map(Hold::notify).unwrap_or_default() {
        report.warning(warning);
    }
}

/// Puts the marks right, under holds.
pub fn mark(front: &Front, holds: &mut [Hold], stop: &Stop) -> Result<()> {
    let public = front.switch.show(Some(stop))?;
    at_once(holds, |hold| hold.mark(front.is_of(public.as_deref(), hold.url()))).into_iter().collect()
}
