//! `rollback [RELEASE]`: activates an older release.

use crate::error::Result;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::deploy::rollback::roll_back;

/// Rolls back to the named release, by default to the newest good one that is older than the live one.
pub fn run(server: &DeployContext, release: Option<&str>) -> Result<()> {
    let release = release.map(str::parse).transpose()?;
    Ok(roll_back(server, release.as_ref())?)
}
