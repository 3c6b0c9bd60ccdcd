//! `[site] subdirectory`: a push that leaves the deployed folder unchanged deploys nothing.

use bluegreen_object_store::ObjectId;
use bluegreen_text::printable;

use crate::deploy::Target;
use crate::deploy::context::DeployContext;
use crate::error::Result;
use crate::pusher::message::Message;
use crate::site::{Live, LockedSite, Site};
use bluegreen_checkout::subdirectory::Subdirectory;

/// Completes a push whose commit has the same folder as the live release, if that is good. Returns false if the commit
/// must be deployed.
pub fn complete_unchanged(
    server: &DeployContext,
    site: &LockedSite,
    target: Target<'_>,
    live: &Live,
    commit: ObjectId,
) -> Result<bool> {
    let DeployContext { config, repository, report, .. } = server;
    let (Some(folder), Some(release)) = (&config.site.subdirectory, live.release()) else { return Ok(false) };
    if matches!(target, Target::Commit(_)) || !is_unchanged(server, site, live, commit) {
        return Ok(false);
    }
    if let Some(push) = target.push() {
        repository.move_ref(push, "push", Some(server.stop()))?;
    }
    // `resume` has nothing to do either.
    site.set_aside(commit, &format!("`{}` is unchanged since the live release", printable(folder)))?;
    report.line(Message::FolderUnchanged(folder, &commit.short(), release));
    Ok(true)
}

/// Returns whether a commit has the same folder as the live release, and that is good. An unreadable commit is reported
/// by its deployment.
#[must_use]
pub fn is_unchanged(server: &DeployContext, site: &Site, live: &Live, commit: ObjectId) -> bool {
    let Some(folder) = &server.config.site.subdirectory else { return false };
    let Some((old, old_folder)) = site.source(live).filter(|_| site.is_good(live)) else { return false };
    let objects = server.repository.objects(commit.format());
    let reader = objects.reader();
    let find = |commit| Subdirectory::find(&reader, reader.commit(commit).ok()?.tree, folder).ok();
    old_folder == *folder && find(old).zip(find(commit)).is_some_and(|(old, new)| old.has_same_files(&new))
}
