//! The wording of messages about recovery after a crash.

use std::fmt::{self, Display};
use std::path::Path;

use bluegreen_text::printable;

use crate::release::ReleaseName;
use bluegreen_protocol::freeze::Freeze;

/// The state that a crash left, or its recovery.
#[derive(Debug)]
pub enum Leftover<'a> {
    /// A previous run was interrupted during an activation.
    CompletingActivation {
        release: &'a ReleaseName,
        /// True if the release was already live.
        is_live: bool,
    },
    /// A tip that no deployment has examined is being deployed.
    DeployingTip { branch: &'a str, tip: &'a str, server: &'a str },
    /// A tip that no deployment has examined is not deployed, because the server is locked.
    SkippingTip {
        branch: &'a str,
        tip: &'a str,
        server: &'a str,
        /// The lock.
        freeze: &'a Freeze,
    },
    /// A tip whose deployment was interrupted too often.
    TipGivenUp {
        tip: &'a str,
        /// The number of attempts.
        attempts: u8,
    },
    /// A change of the side's role was interrupted, and is undone.
    UndoingRole,
    /// A change of the side's role was interrupted too often.
    RoleGivenUp {
        /// The number of times that it was begun.
        attempts: u8,
    },
    /// A change of the side's role was interrupted.
    RoleInterrupted,
    /// The role does not match the last promotion.
    RoleUnrecorded,
    /// An activation was interrupted.
    ActivationInterrupted(&'a ReleaseName),
    /// A tip that no deployment has examined.
    TipUndeployed { branch: &'a str, tip: &'a str },
    /// `current` is missing, although there are releases.
    NoCurrent,
    /// A stale lock file of git from before the last boot.
    StaleLock(&'a Path),
    /// A stale lock file of git was removed.
    StaleLockRemoved(&'a Path),
}

impl Display for Leftover<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CompletingActivation { release, is_live: true } => {
                write!(
                    to,
                    "a previous deployment was interrupted after release {release} became live: verifying it now"
                )
            }
            Self::CompletingActivation { release, is_live: false } => {
                write!(
                    to,
                    "a previous deployment was interrupted before release {release} became live: undoing it"
                )
            }
            Self::DeployingTip { branch, tip, server } => {
                write!(to, "{branch} is at {tip}, which was never deployed: deploying it to {server}...")
            }
            Self::SkippingTip { branch, tip, server, freeze } => {
                write!(
                    to,
                    "{branch} is at {tip}, which was never deployed, and stays so: {server} is {freeze}"
                )
            }
            Self::TipGivenUp { tip, attempts } => {
                write!(to, "the deployment of {tip} was interrupted {attempts} times and is not retried")
            }
            Self::UndoingRole => {
                write!(to, "a change of the side's role was interrupted: running `leave` of `[public]`")
            }
            Self::RoleGivenUp { attempts } => {
                write!(to, "`leave` of `[public]` was interrupted {attempts} times and is not retried")
            }
            Self::RoleInterrupted => {
                write!(to, "`enter` or `leave` of `[public]` failed or was interrupted")
            }
            Self::RoleUnrecorded => {
                write!(
                    to,
                    "a promotion was interrupted before it recorded which side is public and runs the jobs"
                )
            }
            Self::ActivationInterrupted(release) => {
                write!(to, "the activation of release {release} was interrupted")
            }
            Self::TipUndeployed { branch, tip } => {
                write!(to, "{branch} is at {tip}, which was never deployed")
            }
            Self::NoCurrent => write!(to, "`current` is missing, so nothing is served"),
            Self::StaleLock(path) => {
                write!(
                    to,
                    "stale git lock `{}` from before the last boot: git rejects pushes until it is removed",
                    printable(*path)
                )
            }
            Self::StaleLockRemoved(path) => {
                write!(to, "Removed the stale git lock `{}`", printable(*path))
            }
        }
    }
}
