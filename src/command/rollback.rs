//! `rollback [RELEASE]`: an older release becomes live again.

use crate::error::Result;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::deploy::rollback::roll_back;

/// Rolls back to a release by its name; without one, to the newest good one before the live one.
pub fn run(server: &DeployContext, release: Option<&str>) -> Result<()> {
    let release = release.map(str::parse).transpose()?;
    Ok(roll_back(server, release.as_ref())?)
}
