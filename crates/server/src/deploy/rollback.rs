//! Rollback: makes an older release live again, by one rename.

use std::cell::Cell;

use crate::deploy::app::App;
use crate::deploy::context::DeployContext;
use crate::deploy::freeze::Refused;
use crate::deploy::publish::Publication;
use crate::deploy::session::Attempt;
use crate::error::{Error, Result};
use crate::pusher::message::Message;
use crate::release::{Release, ReleaseName, previous};
use crate::shared::first_unlinked;
use crate::site::LockedSite;
use crate::site::history::Action;

/// Makes a release live again: the one named, or the newest good one that is older than the live one.
pub fn roll_back(server: &DeployContext, to: Option<&ReleaseName>) -> Result<()> {
    server.change_site(Action::Rollback, |site, attempt| run(server, site, to, attempt))
}

fn run(
    server: &DeployContext,
    site: &mut LockedSite,
    to: Option<&ReleaseName>,
    attempt: &mut Attempt,
) -> Result<()> {
    let live = attempt.live.clone();
    let release = if let Some(name) = to {
        site.release(name)?
    } else {
        previous(&site.releases()?, live.release()).cloned().ok_or(Error::NoOlderRelease)?
    };
    let name = &release.name;
    if live.release() == Some(name) {
        server.report.line(Message::AlreadyLive { commit: name.commit(), release: name });
        return Ok(());
    }
    server.refuse_frozen(site, Refused::Command)?;
    for problem in problems(server, site, &release)? {
        // An operator who names the release accepts that, or has restored it from a backup.
        if to.is_none() {
            return Err(problem);
        }
        server.report.warning(problem);
    }
    let started = App::of(server, site).map(|app| app.start(name)).transpose()?;
    super::pool_assets(server, site, name);
    attempt.new = release.commit();
    attempt.release = Some(name.clone());
    server.set_tip_aside(site, attempt.new, "rolled back");
    Publication {
        server,
        site,
        release: name,
        previous: &live,
        is_new: false,
        push: None,
        is_stuck: Cell::default(),
    }
    .publish(None, started)?;
    server.report.line(Message::RolledBack { release: name, from: &live, took: attempt.took() });
    Ok(())
}

/// Lists what speaks against activating a release again. A release that is not good is refused.
fn problems(server: &DeployContext, site: &LockedSite, release: &Release) -> Result<Vec<Error>> {
    let name = &release.name;
    if !release.is_good() {
        return Err(Error::InvalidRelease { name: name.to_string(), state: release.state() });
    }
    let replaced = (!site.is_original(release)?).then(|| Error::ReplacedSince(name.to_string()));
    let unshared = first_unlinked(site, &server.config.shared, name).map(|path| Error::NotShared {
        release: name.to_string(),
        path,
        commit: name.commit().into(),
    });
    Ok(replaced.into_iter().chain(unshared).collect())
}
