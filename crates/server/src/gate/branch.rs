//! Pushes through the gate that deploy nothing: those with `-o skip`, and branch deletions.

use crate::deploy::context::DeployContext;
use crate::error::Result;
use crate::pusher::message::Message;
use crate::site::history::Action;
use bluegreen_git::push::RefUpdate;

/// The reason why a skipped commit is not live.
const SKIPPED: &str = "skipped";

/// Moves the branch and deploys nothing, as the pusher requested.
pub fn skip(server: &DeployContext, push: &RefUpdate) -> Result<()> {
    server.change_site(Action::Deploy, |site, _| {
        // Record this before it becomes the tip, so that `resume` does not deploy it if this run crashes.
        site.set_aside(push.new, SKIPPED)?;
        Ok(server.repository.move_ref(push, "push", Some(server.stop()))?)
    })?;
    let branch = &server.config.branch;
    server.report.line(Message::Skipped { branch, live_line: &server.live_line() });
    Ok(())
}

/// Deploys nothing after git has moved the branch, as the pusher requested, and records that.
pub fn skip_moved(server: &DeployContext, push: &RefUpdate) -> Result<()> {
    server.change_site(Action::Deploy, |site, _| site.set_aside(push.new, SKIPPED))?;
    let branch = &server.config.branch;
    server.report.line(Message::Skipped { branch, live_line: &server.live_line() });
    Ok(())
}

/// Deletes the branch. The live release stays.
pub fn delete(server: &DeployContext, push: &RefUpdate) -> Result<()> {
    // Under the lock, so that no deployment runs concurrently.
    server.change_site(Action::Deploy, |_, _| {
        Ok(server.repository.move_ref(push, "push", Some(server.stop()))?)
    })?;
    let branch = &server.config.branch;
    server.report.line(Message::Deleted { branch, live_line: &server.live_line() });
    Ok(())
}
