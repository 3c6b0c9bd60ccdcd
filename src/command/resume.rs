//! `resume`: ends what a crash cut off. A unit of systemd runs it at every boot.

use crate::error::Result;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::deploy::resume;

/// Ends a publication that has begun, and deploys a tip that no deployment has looked at.
pub fn run(server: &DeployContext) -> Result<()> {
    Ok(resume::resume(server)?)
}
