//! Pushes through the gate that deploy nothing: those with `-o skip`, and deletions of the branch.

use crate::deploy::server::Server;
use crate::error::Result;
use crate::git::push::RefUpdate;
use crate::pusher::message::Message;
use crate::site::history::Action;

/// Moves the branch and deploys nothing, as the pusher asked.
pub fn skip(server: &Server, push: &RefUpdate) -> Result<()> {
    move_it(server, push)?;
    let branch = &server.config.branch;
    server.report.line(Message::Skipped { branch, live_line: &server.live_line() });
    Ok(())
}

/// Deletes the branch; what is live stays.
pub fn delete(server: &Server, push: &RefUpdate) -> Result<()> {
    move_it(server, push)?;
    let branch = &server.config.branch;
    server.report.line(Message::Deleted { branch, live_line: &server.live_line() });
    Ok(())
}

/// Moves the branch under the site's lock, so that it does not move during a deployment.
fn move_it(server: &Server, push: &RefUpdate) -> Result<()> {
    server.change_site(Action::Deploy, |_, _| server.repository.move_ref(push, "push"))
}
