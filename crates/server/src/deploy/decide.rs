//! Decides which commit to deploy, if any. The functions are pure, so that every case has a unit test.

use bluegreen_object_store::ObjectId;

use crate::deploy::freeze::Refused;
use crate::error::Result;
use bluegreen_git as git;
use bluegreen_git::push::RefUpdate;

/// The commit to deploy.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The tip of the branch, read under the lock. A push has just moved the branch to this commit.
    Tip(ObjectId),
    /// This commit, even if it is already live.
    Commit(ObjectId),
    /// The new commit of a push through the gate, which has not moved the branch yet.
    Gate(&'a RefUpdate),
}

/// The result of [`Target::decide`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Make a release of this commit.
    Deploy(ObjectId),
    /// This commit is already live, and good.
    AlreadyLive(ObjectId),
    /// The branch no longer exists.
    NoBranch,
}

impl<'a> Target<'a> {
    /// Returns the ref update that is part of the deployment.
    #[must_use]
    pub fn push(self) -> Option<&'a RefUpdate> {
        if let Self::Gate(push) = self { Some(push) } else { None }
    }

    /// Returns what a lock refuses, which decides the wording of its hint.
    #[must_use]
    pub fn refused(self) -> Refused {
        match self {
            Self::Tip(_) => Refused::Push,
            Self::Commit(_) => Refused::Command,
            Self::Gate(_) => Refused::GatedPush,
        }
    }

    /// Decides from the tip of the branch and the live commit (`None` if the live release is bad). The lock is not a queue:
    /// each holder deploys the tip, so a later holder may find its commit already live.
    pub fn decide(self, branch: Option<ObjectId>, live: Option<ObjectId>) -> Result<Decision> {
        let unless_live = |commit| {
            if live == Some(commit) { Decision::AlreadyLive(commit) } else { Decision::Deploy(commit) }
        };
        match self {
            Self::Commit(commit) => Ok(Decision::Deploy(commit)),
            Self::Tip(_) => Ok(branch.map_or(Decision::NoBranch, unless_live)),
            // The push would fail when the branch moves. Checking it here avoids a useless build.
            Self::Gate(push) if branch != Some(push.old).filter(|old| !old.is_null()) => {
                Err(git::Error::RefMoved(push.name.clone()).into())
            }
            Self::Gate(push) => Ok(unless_live(push.new)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> ObjectId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn push(old: ObjectId, new: ObjectId) -> RefUpdate {
        RefUpdate { old, new, name: b"refs/heads/master".to_vec() }
    }

    #[test]
    fn a_commit_that_is_named_is_deployed_even_if_it_is_live() {
        let decision = Target::Commit(id('1')).decide(None, Some(id('1'))).unwrap();
        assert_eq!(decision, Decision::Deploy(id('1')));
    }

    #[test]
    fn the_tip_counts_and_not_the_commit_that_was_pushed() {
        let decide = |tip, live| Target::Tip(id('1')).decide(tip, live).unwrap();
        assert_eq!(decide(Some(id('1')), None), Decision::Deploy(id('1')));
        assert_eq!(decide(Some(id('2')), Some(id('1'))), Decision::Deploy(id('2')));
        assert_eq!(decide(Some(id('2')), Some(id('2'))), Decision::AlreadyLive(id('2')));
        assert_eq!(decide(None, Some(id('1'))), Decision::NoBranch);
    }

    #[test]
    fn the_gate_refuses_a_push_whose_branch_has_moved() {
        let decide = |old, branch, live| Target::Gate(&push(old, id('2'))).decide(branch, live);
        assert_eq!(decide(id('1'), Some(id('1')), None).unwrap(), Decision::Deploy(id('2')));
        assert_eq!(decide(ObjectId::NULL, None, None).unwrap(), Decision::Deploy(id('2')));
        assert_eq!(decide(id('1'), Some(id('1')), Some(id('2'))).unwrap(), Decision::AlreadyLive(id('2')));
        assert!(decide(id('1'), Some(id('3')), None).is_err());
        assert!(decide(id('1'), None, None).is_err());
        assert!(decide(ObjectId::NULL, Some(id('1')), None).is_err());
    }
}
