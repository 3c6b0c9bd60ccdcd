//! The role of an ssh key: what its connections may do on a server.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// The environment variable in which the login shell passes the role to git's hooks.
pub const VARIABLE: &str = "BLUEGREEN_ROLE";

/// The role of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads everything and changes nothing.
    Read,
    /// Pushes, but not to a protected public side.
    Push,
    /// Promotes, and changes which release is live.
    Promote,
    /// Does all of this. A key without a role has it.
    All,
    /// A role that this version does not recognize. It includes nothing.
    #[serde(other)]
    Unknown,
}

/// The right that a command requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Read,
    Push,
    Promote,
}

impl Role {
    /// Parses the name of a role.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Read, Self::Push, Self::Promote, Self::All].into_iter().find(|role| role.name() == name)
    }

    /// Returns the name of the role.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Push => "push",
            Self::Promote => "promote",
            Self::All => "all",
            Self::Unknown => "unknown",
        }
    }

    /// Returns whether the role includes a right.
    #[must_use]
    pub fn includes(self, right: Right) -> bool {
        match self {
            Self::Read => right == Right::Read,
            Self::Push => right != Right::Promote,
            Self::Promote => right != Right::Push,
            Self::All => true,
            Self::Unknown => false,
        }
    }
}

impl Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_role_includes_nothing() {
        for name in ["", "READ", "read ", "admin", "unknown"] {
            assert_eq!(Role::parse(name), None, "{name}");
        }
        let role: Role = serde_json::from_str("\"later\"").unwrap_or(Role::All);
        assert_eq!(role, Role::Unknown);
        assert!([Right::Read, Right::Push, Right::Promote].iter().all(|&right| !role.includes(right)));
    }

    #[test]
    fn each_role_can_read() {
        for role in [Role::Read, Role::Push, Role::Promote, Role::All] {
            assert_eq!(Role::parse(role.name()), Some(role));
            assert!(role.includes(Right::Read));
        }
        assert!(!Role::Read.includes(Right::Push) && !Role::Read.includes(Right::Promote));
        assert!(!Role::Push.includes(Right::Promote) && !Role::Promote.includes(Right::Push));
    }
}
