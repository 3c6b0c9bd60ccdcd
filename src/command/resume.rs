//! `resume`: ends what a crash cut off. A unit of systemd runs it at every boot.

use crate::deploy::context::DeployContext;
use crate::deploy::resume;
use crate::error::Result;

/// Ends a publication that has begun, and deploys a tip that no deployment has looked at.
pub fn run(server: &DeployContext) -> Result<()> {
    resume::resume(server)
}
