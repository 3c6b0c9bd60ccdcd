//! `resume`: recovers from a crash. A systemd unit runs it at every boot.

use crate::error::Result;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::deploy::resume;

/// Completes an interrupted activation, and deploys a tip that no deployment has examined.
pub fn run(server: &DeployContext) -> Result<()> {
    Ok(resume::resume(server)?)
}
