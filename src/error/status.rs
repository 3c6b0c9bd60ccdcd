//! The exit status of each error.

use crate::error::Error;

impl Error {
    /// The exit status for this error: 1, 2 or 3, as docs/howto/operate.md lists them.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::NoRepository
            | Self::NoShell(_)
            | Self::NotOverSsh { .. }
            | Self::SeveralRepositories(_)
            | Self::UnknownRepository { .. }
            | Self::NotARepository(_)
            | Self::NameRepository(_)
            | Self::ClosedRepository(_)
            | Self::NotOwner { .. }
            | Self::ForeignPath(..)
            | Self::Config { .. }
            | Self::PromoteConfig { .. }
            | Self::ConfigUnsafe { .. } => 2,
            Self::AfterFlip(_) => 3,
            Self::Reported(error) => error.exit_status(),
            _ => 1,
        }
    }
}
