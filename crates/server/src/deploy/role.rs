//! The role of a side: `enter` and `leave` of `[public]`, and the application's worker, which runs on the public side only.
//! `promote` requests each change under its hold, the leaving side first.

use std::process::Command;
use std::time::Duration;

use crate::config::Step;
use crate::deploy::app::{self, App};
use crate::deploy::context::DeployContext;
use crate::deploy::steps::{run_line, shell};
use crate::error::{Error, Result};
use crate::pusher::leftover::Leftover;
use crate::site::role::Role;
use crate::site::tip_status::MAX_ATTEMPTS;
use crate::site::{Live, LockedSite, Site, logs};
use bluegreen_protocol::status;

/// Returns the role for `status`; `None` if nothing on the server depends on it.
pub fn read(server: &DeployContext, site: &Site) -> Option<status::Role> {
    if !server.config.public.has_steps() && !app::has_worker(server) {
        return None;
    }
    let worker = if app::has_worker(server) { app::STOP_TIMEOUT } else { Duration::ZERO };
    let within = (server.config.public.within() + worker).as_secs();
    let role = site.role().unwrap_or_else(|error| {
        server.report.warning(error);
        None
    });
    let complete = role.as_ref().is_none_or(|role| role.complete);
    Some(status::Role { public: role.map(|role| role.public), complete, within })
}

/// Gives the server the role, unless it has it already.
pub fn change(server: &DeployContext, site: &LockedSite, public: bool) -> Result<()> {
    // A damaged role is replaced.
    let before = site.role().ok().flatten();
    if before.as_ref().is_some_and(|role| role.public == public && role.complete) {
        return Ok(());
    }
    site.write_role(&Role { public, complete: false, attempts: 0 })?;
    if !public {
        site.begin_settling()?;
    }
    run(server, site, public)?;
    site.write_role(&Role { public, complete: true, attempts: 0 })
}

/// Leaves the role if a change was interrupted. A failure is a warning, because the next holder of the lock retries.
pub fn recover(server: &DeployContext, site: &LockedSite) -> Result<()> {
    let role = match site.role() {
        Ok(role) => role,
        Err(error) => {
            server.report.warning(error);
            Some(Role { public: true, complete: false, attempts: 0 })
        }
    };
    let Some(role) = role.filter(|role| !role.complete) else { return Ok(()) };
    if role.attempts >= MAX_ATTEMPTS {
        server.report.warning(Leftover::RoleGivenUp { attempts: MAX_ATTEMPTS });
        return Ok(());
    }
    server.report.warning(Leftover::UndoingRole);
    site.write_role(&Role { public: false, complete: false, attempts: role.attempts + 1 })?;
    if let Err(error) = run(server, site, false) {
        // It was not interrupted.
        site.write_role(&Role { public: false, complete: false, attempts: 0 })?;
        server.report.warning(error);
        return Ok(());
    }
    site.write_role(&Role { public: false, complete: true, attempts: 0 })
}

/// Runs the steps. The worker starts after `enter`, and stops before `leave`.
fn run(server: &DeployContext, site: &LockedSite, public: bool) -> Result<()> {
    let config = &server.config.public;
    let live = site.live()?;
    let app = App::of(server, site).zip(live.release()).filter(|_| app::has_worker(server));
    let move_worker = || app.map_or(Ok(()), |(app, live)| app.move_worker(live, public));
    if public {
        config.enter.iter().try_for_each(|step| run_step(server, site, &live, "enter", step))?;
        move_worker()
    } else {
        move_worker()?;
        config.leave.iter().try_for_each(|step| run_step(server, site, &live, "leave", step))
    }
}

fn run_step(server: &DeployContext, site: &LockedSite, live: &Live, name: &str, step: &Step) -> Result<()> {
    let log = live.release().and_then(|live| logs::open(site, live).ok());
    let hint = format!("fix `{name}` in `[public]` of bluegreen.toml on {}, then promote again", server.name);
    // Leaving cannot be cancelled, because the other side waits for it.
    let stop = (name == "enter").then(|| server.stop());
    let failed = |how| Error::Step { name: step.name.clone(), how, hint: hint.clone() };
    run_line(
        server,
        site,
        (name, step),
        &mut command(server, site, live, name, step),
        stop,
        log.as_ref(),
        failed,
    )
}

/// Prepares a step in the live release, or in the site if none is live.
fn command(server: &DeployContext, site: &Site, live: &Live, name: &str, step: &Step) -> Command {
    let mut command = shell(server, step);
    if let Some(live) = live.release() {
        let commit = site.release(live).ok().and_then(|release| release.record);
        command
            .current_dir(site.release_path(live))
            .env("BLUEGREEN_RELEASE", live.to_string())
            .env("BLUEGREEN_COMMIT", commit.map_or_else(String::new, |record| record.commit.to_string()))
            .env("BLUEGREEN_SOCKET", site.socket(live).ok().flatten().unwrap_or_default());
    }
    command.env("BLUEGREEN_PUBLIC", if name == "enter" { "yes" } else { "no" });
    command
}
