//! The minimum git version, and the recommended settings of a repository. The installer sets them, and `check` reports
//! missing ones.

/// The minimum version of git: 2.29 introduced `proc-receive`, which the gate uses.
pub const OLDEST_GIT: (u32, u32) = (2, 29);

/// A git setting, and the consequence if it is not set.
#[derive(Debug, Clone, Copy)]
pub struct Recommended {
    /// "receive.fsckObjects".
    pub key: &'static str,
    /// "true".
    pub value: &'static str,
    /// The consequence if it is not set.
    pub loss: &'static str,
}

/// The recommended settings. The installer keeps values that an administrator has set.
pub const RECOMMENDED: [Recommended; 5] = [
    Recommended {
        key: "receive.fsckObjects",
        value: "true",
        loss: "damaged or hostile objects are accepted and only refused at deployment",
    },
    Recommended {
        key: "receive.advertisePushOptions",
        value: "true",
        loss: "git refuses `git push -o skip` and all other options of a push",
    },
    Recommended {
        key: "transfer.hideRefs",
        value: "refs/bluegreen",
        loss: "clients see the refs that keep the objects of a running deployment",
    },
    Recommended {
        key: "receive.unpackLimit",
        value: "1",
        loss: "a small push is written as loose objects, which a power cut may lose",
    },
    Recommended {
        key: "core.fsync",
        value: "committed,reference",
        loss: "a push may be lost in a power cut after it was acknowledged",
    },
];
