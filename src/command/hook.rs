//! `post-receive`: git tells which refs a push has moved; the branch of the config is deployed.

use std::io::{Read, stdin};

use super::{Place, called_by_git, host_name};
use crate::deploy::{Target, deploy};
use crate::error::{Error, Result};
use crate::history::Action;
use crate::message::{Message, Serving};
use crate::push::RefUpdate;
use crate::report::Report;
use crate::server::Server;
use crate::signals;

/// Runs the hook. By hand, a line's new revision is deployed as it is given.
pub fn post_receive(place: &Place, report: &Report) -> Result<()> {
    signals::outlive_the_client();
    let not_deployed = |error: Error, serving: &Serving| {
        report.error(&error);
        report.line(Message::NotDone(Action::Deploy, serving));
        Error::Told(Box::new(error))
    };
    let server =
        place.open(report).map_err(|error| not_deployed(error, &Serving::new(&host_name(), None)))?;
    let updates = read_updates().map_err(|error| not_deployed(error, &server.serving()))?;
    let mut outcome = Ok(());
    for update in &updates {
        let result = answer(&server, update);
        if result.is_err() {
            outcome = result;
        }
    }
    outcome
}

fn read_updates() -> Result<Vec<RefUpdate>> {
    let mut input = Vec::new();
    stdin().lock().read_to_end(&mut input).map_err(Error::io("read", "standard input"))?;
    RefUpdate::parse_all(&input)
}

fn answer(server: &Server, update: &RefUpdate) -> Result<()> {
    let branch = &server.config.branch;
    if !update.is_branch(branch) {
        server.report.line(Message::OtherRef { name: &update.name, branch });
        Ok(())
    } else if update.is_deletion() {
        server.report.line(Message::Deleted { branch, serving: &server.serving() });
        Ok(())
    } else if called_by_git() {
        deploy(server, Target::Tip(update.new))
    } else {
        deploy(server, Target::Commit(update.new))
    }
}
