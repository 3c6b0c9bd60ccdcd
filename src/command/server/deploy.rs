//! `deploy [REVISION]`: deploys a fresh release of a revision.

use crate::error::{Error, Result};
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::deploy::{self, Target};

/// Deploys a revision, by default the branch.
pub fn run(server: &DeployContext, revision: Option<&str>, dry_run: bool) -> Result<()> {
    let commit = match revision {
        None => {
            let branch = &server.config.branch;
            server.repository.tip(branch)?.ok_or_else(|| Error::NoBranch(branch.clone()))?
        }
        Some(revision) => {
            server.repository.resolve(revision)?.ok_or_else(|| Error::UnknownRevision(revision.to_owned()))?
        }
    };
    if dry_run {
        deploy::dry_run(server, commit)?;
    } else {
        deploy::deploy(server, Target::Commit(commit))?;
    }
    Ok(())
}
