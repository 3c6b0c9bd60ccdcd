//! Recovery after a crash: completes an interrupted activation, and deploys a tip that no deployment has examined.
//!
//! If a crash comes between git's ref update and the deployment, or during the deployment, git reports the commit as "up to
//! date" from then on, so pushing it again does not deploy it. A tip with an outcome is not retried: it is live, failed, was
//! cancelled, skipped, or refused, or an operator rolled back from it.

use crate::deploy::app::App;
use crate::deploy::context::DeployContext;
use crate::deploy::{Target, run};
use crate::error::{Error, Result};
use crate::pusher::leftover::Leftover;
use crate::site::history::Action;
use crate::site::tip_status::{MAX_ATTEMPTS, TipStatus};

/// Completes whatever a crash interrupted. Prints nothing if there is nothing to do.
pub fn resume(server: &DeployContext) -> Result<()> {
    let DeployContext { repository, config, report, .. } = server;
    // Taking the lock completes an interrupted activation, which may have to move the branch.
    for lock in repository.remove_stale_locks() {
        match lock {
            Ok(lock) => report.line(Leftover::StaleLockRemoved(&lock)),
            // The rest of the recovery may not need that directory.
            Err(error) => report.warning(Error::from(error)),
        }
    }
    server.change_site(Action::Deploy, |site, attempt| {
        if let Some((app, live)) = App::of(server, site).zip(attempt.live.release()) {
            // After a boot, the worker is not running either.
            app.declare_live(live);
        }
        let Some(tip) = repository.tip(&config.branch)? else { return Ok(()) };
        match site.tip_status(&config.branch, tip)? {
            TipStatus::Live | TipStatus::Examined(_) => Ok(()),
            TipStatus::GivenUp => {
                report.warning(Leftover::TipGivenUp { tip: &tip.short(), attempts: MAX_ATTEMPTS });
                Ok(())
            }
            TipStatus::Unseen => {
                if let Some(freeze) = site.freeze()? {
                    let (branch, tip_short) = (&config.branch, &tip.short());
                    report.warning(Leftover::SkippingTip {
                        branch,
                        tip: tip_short,
                        server: &server.name,
                        freeze: &freeze,
                    });
                    return site.set_aside(tip, &freeze.why_skipped());
                }
                report.line(Leftover::DeployingTip {
                    branch: &config.branch,
                    tip: &tip.short(),
                    server: &server.name,
                });
                site.begin_attempt(tip)?;
                run(server, site, Target::Tip(tip), attempt)
            }
        }
    })
}
