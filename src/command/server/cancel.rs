//! `cancel`: stops the running deployment. The live release stays live.

use std::time::Duration;

use crate::error::{Error, Result};
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::pusher::message::Message;
use bluegreen_server::site::Site;
use bluegreen_server::site::history;
use bluegreen_server::site::holder::HoldingProcess;

/// The timeout for the other process, which may have to kill a step and restart services.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Sends TERM to the process that holds the lock, and waits until it exits.
pub fn run(server: &DeployContext) -> Result<()> {
    let site = Site::open(&server.config.site)?;
    let Some(running) = HoldingProcess::find(&site)? else {
        server.report.line(Message::NothingRuns);
        return Ok(());
    };
    let holder = &running.holder;
    server.report.line(Message::Cancelling(holder));
    running.stop()?;
    if !running.wait(TIMEOUT) {
        return Err(Error::StillRunning { holder: holder.to_string(), waited: TIMEOUT });
    }
    let entries = history::read(&site)?;
    let entry = entries.iter().rev().find(|entry| (&entry.time, &entry.by) == (&holder.since, &holder.by));
    let was_cancelled =
        entry.is_none_or(|entry| entry.error == Some(bluegreen_server::error::Error::Cancelled.to_string()));
    let live_line = server.live_line();
    if was_cancelled {
        server.report.line(Message::Cancelled(&live_line));
        Ok(())
    } else {
        Err(Error::TooLate(live_line.to_string()))
    }
}
