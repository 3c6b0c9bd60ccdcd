//! Resuming: what a crash cut off is ended, and a tip of the branch that no deployment has looked at is deployed.
//!
//! The crash came between git's move of the branch and the deployment, or in the middle of that. For git such a
//! commit is "up to date" from then on, so that no push of it helps. A tip that has its outcome is not tried
//! again: one that is live, failed, was cancelled, skipped or refused, or from which somebody rolled back.

use crate::deploy::app::App;
use crate::deploy::context::DeployContext;
use crate::deploy::{Target, run};
use crate::error::Result;
use crate::pusher::leftover::Leftover;
use crate::site::history::Action;
use crate::site::seen::{ATTEMPTS, Look};

/// Ends what a crash cut off. It is silent where there is nothing to do.
pub fn resume(server: &DeployContext) -> Result<()> {
    let DeployContext { repository, config, report, .. } = server;
    // Whoever takes the lock ends a publication, and that may move the branch.
    for lock in repository.remove_stale_locks()? {
        report.line(Leftover::Removed(&lock));
    }
    server.change_site(Action::Deploy, |site, attempt| {
        if let Some((app, live)) = App::of(server, site).zip(attempt.live.release()) {
            // After a boot the worker does not run either.
            app.settle(live);
        }
        let Some(tip) = repository.tip(&config.branch)? else { return Ok(()) };
        match site.look_up(&config.branch, tip)? {
            Look::Live | Look::Settled(_) => Ok(()),
            Look::GivenUp => {
                report.warning(Leftover::GivenUp { tip: &tip.short(), attempts: ATTEMPTS });
                Ok(())
            }
            Look::Unseen => {
                if let Some(freeze) = site.freeze()? {
                    let (branch, tip_short) = (&config.branch, &tip.short());
                    report.warning(Leftover::Frozen {
                        branch,
                        tip: tip_short,
                        server: &server.name,
                        freeze: &freeze,
                    });
                    return site.set_aside(tip, &freeze.why_skipped());
                }
                report.line(Leftover::Unseen {
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
