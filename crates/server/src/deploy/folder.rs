//! `[site] subdirectory`: a push that leaves the deployed folder unchanged deploys nothing.

use bluegreen_object_store::ObjectId;
use bluegreen_text::printable;

use crate::deploy::Target;
use crate::deploy::context::DeployContext;
use crate::deploy::session::Attempt;
use crate::error::Result;
use crate::pusher::message::Message;
use crate::release::Record;
use crate::site::LockedSite;
use bluegreen_checkout::subdirectory::Subdirectory;

/// Completes a push whose commit has the same folder as the live release, if that is good. Returns false if the commit
/// must be deployed.
pub fn complete_unchanged(
    server: &DeployContext,
    site: &LockedSite,
    target: Target<'_>,
    attempt: &Attempt,
    commit: ObjectId,
) -> Result<bool> {
    let DeployContext { config, repository, report, .. } = server;
    let Some(folder) = &config.site.subdirectory else { return Ok(false) };
    let (Some(release), Some(old)) = (attempt.live.release(), &attempt.old) else { return Ok(false) };
    if matches!(target, Target::Commit(_)) || !is_unchanged(server, old, commit) {
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
pub fn is_unchanged(server: &DeployContext, live: &Record, commit: ObjectId) -> bool {
    let Some(folder) = &server.config.site.subdirectory else { return false };
    if !live.is_good() || live.subdirectory.as_ref() != Some(folder) {
        return false;
    }
    let objects = server.repository.objects(commit.format());
    let reader = objects.reader();
    let find = |commit| Subdirectory::find(&reader, reader.commit(commit).ok()?.tree, folder).ok();
    find(live.commit).zip(find(commit)).is_some_and(|(old, new)| old.has_same_files(&new))
}
