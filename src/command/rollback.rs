//! `rollback [RELEASE]`: an older release becomes live again.

use crate::deploy::context::DeployContext;
use crate::deploy::rollback::roll_back;
use crate::error::Result;

/// Rolls back to a release by its name; without one, to the newest good one before the live one.
pub fn run(server: &DeployContext, release: Option<&str>) -> Result<()> {
    let release = release.map(str::parse).transpose()?;
    roll_back(server, release.as_ref())
}
