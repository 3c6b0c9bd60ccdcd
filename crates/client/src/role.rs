//! The role of the sides: hands the jobs of the public side, such as scheduled ones, from one side to the other.
//!
//! The leaving side stops first, on all its servers, before the other side starts, so that at most one side runs the jobs at
//! any time. If the handover fails in between, no side runs them until the next `public` or `promote`.

use std::cell::Cell;
use std::time::Instant;

use bluegreen_report::Report;
use bluegreen_sys::concurrent;
use bluegreen_text::explain::Explain;
use bluegreen_text::{count, seconds};

use crate::context::PromoteContext;
use crate::error::{Error, Result};
use crate::hold::{Heartbeat, Hold};
use crate::plan::{Topology, all};
use bluegreen_protocol::status::Status;

/// A handover during a promotion.
#[derive(Debug, Default)]
pub struct Handover {
    /// True once a server was told to change its role.
    has_begun: Cell<bool>,
    /// True once the new side has the role.
    is_done: Cell<bool>,
}

impl Handover {
    /// Makes the other side leave, and the plan's side enter. Returns false if all servers already have their roles.
    pub fn run(&self, context: &PromoteContext, holds: &[Hold]) -> Result<bool> {
        let &PromoteContext { topology, plan, report, .. } = context;
        let (entering, leaving) = split(topology, Some(&plan.to), holds);
        if have_their_roles(&entering, &leaving) {
            self.is_done.set(true);
            return Ok(false);
        }
        if !plan.left_out.is_empty() {
            report.warning(
                "a server that is left out may still run what only the public side runs: stop it there",
            );
        }
        self.has_begun.set(true);
        change(&other(topology, &plan.to), &leaving, false, report)?;
        change(&plan.to, &entering, true, report)?;
        self.is_done.set(true);
        Ok(true)
    }

    /// Hands the jobs back to the side that was public before. A failure is only printed, because it does not affect visitors.
    pub fn undo(&self, context: &PromoteContext, holds: &mut [Hold], heartbeat: &Heartbeat) {
        let &PromoteContext { topology, plan, report, .. } = context;
        if !self.has_begun.get() || (plan.is_public() && self.is_done.get()) {
            return;
        }
        let back = plan.from.as_ref().filter(|_| !plan.is_public());
        let (mut entering, mut leaving) = split_mut(topology, &plan.to, holds);
        let result = change_surely(&plan.to, &mut entering, false, heartbeat, report).and_then(|()| {
            back.map_or(Ok(()), |side| change_surely(side, &mut leaving, true, heartbeat, report))
        });
        let problem = match (result, back) {
            (Ok(()), Some(_)) => return,
            (Ok(()), None) => "no side runs what only the public side runs".to_owned(),
            (Err(error), _) => {
                report.warning(&error);
                error.hint().into_iter().for_each(|hint| report.hint(hint));
                "what only the public side runs may run on no server".to_owned()
            }
        };
        report.warning(problem);
        report.hint("fix the cause, then run `bluegreen public`, which starts it on the public side");
    }
}

/// Returns whether the roles that promotions have set disagree with whether each server's side is public.
#[must_use]
pub fn is_wrong(servers: &[(bool, &Status)]) -> bool {
    let roles = || servers.iter().filter_map(|(is_public, status)| Some((*is_public, status.role.as_ref()?)));
    roles().any(|(_, role)| role.public.is_some())
        && !roles().all(|(is_public, role)| role.complete && role.public == Some(is_public))
}

/// Gives every server the role of its side, under holds.
pub fn correct(topology: &Topology, public: Option<&str>, holds: &[Hold], report: &Report) -> Result<()> {
    let (entering, leaving) = split(topology, public, holds);
    let Some(side) = public.filter(|side| topology.sides.contains_key(*side)) else { return Ok(()) };
    if have_their_roles(&entering, &leaving) {
        return Ok(());
    }
    change(&other(topology, side), &leaving, false, report)?;
    change(side, &entering, true, report)
}

/// Returns the servers with a role: those of a side, and the others.
fn split<'h>(topology: &Topology, side: Option<&str>, holds: &'h [Hold]) -> (Vec<&'h Hold>, Vec<&'h Hold>) {
    let with_role = holds.iter().filter(|hold| hold.status.role.is_some());
    with_role.partition(|hold| topology.is_on_side(side, hold.url()))
}

fn split_mut<'h>(
    topology: &Topology,
    side: &str,
    holds: &'h mut [Hold],
) -> (Vec<&'h mut Hold>, Vec<&'h mut Hold>) {
    let with_role = holds.iter_mut().filter(|hold| hold.status.role.is_some());
    with_role.partition(|hold| topology.is_on_side(Some(side), hold.url()))
}

fn have_their_roles(entering: &[&Hold], leaving: &[&Hold]) -> bool {
    entering.iter().all(|hold| hold.has_role(true)) && leaving.iter().all(|hold| hold.has_role(false))
}

/// Returns the name of the other side.
fn other(topology: &Topology, side: &str) -> String {
    topology.sides.keys().find(|name| *name != side).cloned().unwrap_or_default()
}

/// Changes the role of all these servers in parallel.
fn change(side: &str, holds: &[&Hold], public: bool, report: &Report) -> Result<()> {
    if holds.is_empty() {
        return Ok(());
    }
    let started = Instant::now();
    report.line(format_args!("{} {side}...", if public { "Entering" } else { "Leaving" }));
    all(concurrent::map(holds, |hold| hold.change_role(public)), report)?;
    let (done, servers) = (if public { "Entered" } else { "Left" }, count(holds.len() as u64, "server"));
    report.line(format_args!("{done} {side} after {}: {servers}.", seconds(started.elapsed())));
    Ok(())
}

/// Like `change`, for going back: takes a server's lock again if its connection was lost. By then, that server has left the
/// role, because the next holder of its lock undoes an interrupted change.
fn change_surely(
    side: &str,
    holds: &mut [&mut Hold],
    public: bool,
    heartbeat: &Heartbeat,
    report: &Report,
) -> Result<()> {
    if holds.is_empty() {
        return Ok(());
    }
    report.line(format_args!("{} {side}...", if public { "Entering" } else { "Leaving" }));
    let results = concurrent::map(holds.iter_mut(), |hold| {
        let result = hold.change_role(public);
        if !result.as_ref().is_err_and(Error::is_connection_lost) {
            return result;
        }
        hold.take_again(heartbeat)?;
        hold.change_role(public)
    });
    all(results, report).map(|_| ())
}
