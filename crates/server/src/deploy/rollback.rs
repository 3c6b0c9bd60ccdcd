//! Rollback: makes an older release live again, by one rename.

use std::cell::Cell;

use crate::deploy::app::App;
use crate::deploy::context::DeployContext;
use crate::deploy::freeze::Refused;
use crate::deploy::publish::Publication;
use crate::deploy::session::Attempt;
use crate::error::{Error, Result};
use crate::pusher::message::Message;
use crate::release::{ReleaseName, previous};
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
    if !release.is_good() {
        return Err(Error::UnfitRelease { name: name.to_string(), state: release.state() });
    }
    if !site.is_original(&release)? {
        let replaced = Error::ReplacedSince(name.to_string());
        // An operator who names the release may have restored it from a backup: this is only a warning.
        if to.is_none() {
            return Err(replaced);
        }
        server.report.warning(replaced);
    }
    if let Some(path) = first_unlinked(site, &server.config.shared, name) {
        let unshared = Error::NotShared { release: name.to_string(), path, commit: name.commit().into() };
        // An operator who names the release accepts that.
        if to.is_none() {
            return Err(unshared);
        }
        server.report.warning(unshared);
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
