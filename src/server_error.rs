//! The errors of deployments, and the impls that only they need. A build without the server has one of its own.

#[cfg(target_os = "linux")]
pub use self::server::{ServerError, is_reported};

#[cfg(not(target_os = "linux"))]
pub use self::missing::{ServerError, is_reported};

#[cfg(target_os = "linux")]
mod server {
    pub use bluegreen_server::error::Error as ServerError;

    /// Returns whether the error was already printed.
    pub fn is_reported(error: &ServerError) -> bool {
        matches!(error, ServerError::Reported(_))
    }
}

#[cfg(any(test, not(target_os = "linux")))]
pub mod missing {
    use bluegreen_process::signals::Cancelled;
    use bluegreen_text::explain::{Explain, IoError};

    /// The errors of a build that contains only the client.
    #[derive(Debug, thiserror::Error)]
    pub enum ServerError {
        /// A command that only servers run.
        #[error("`{0}` runs on a server, and this program contains only the client")]
        OnServer(String),
        /// A system call on a path failed.
        #[error(transparent)]
        Io(#[from] IoError),
        /// A signal requested a stop.
        #[error("cancelled")]
        Cancelled,
    }

    impl From<Cancelled> for ServerError {
        fn from(Cancelled: Cancelled) -> Self {
            Self::Cancelled
        }
    }

    impl Explain for ServerError {
        fn hint(&self) -> Option<String> {
            match self {
                Self::OnServer(command) if ["lock", "unlock"].contains(&&command[..]) => {
                    Some("name the side whose servers it changes with `--side`".into())
                }
                Self::OnServer(_) => Some("run it there, as in `ssh deploy@blue status`".into()),
                Self::Io(error) => error.hint(),
                Self::Cancelled => None,
            }
        }

        fn exit_status(&self) -> u8 {
            if matches!(self, Self::OnServer(_)) { 2 } else { 1 }
        }
    }

    /// Returns whether the error was already printed.
    #[cfg_attr(target_os = "linux", expect(dead_code, reason = "the tests do not need it"))]
    pub fn is_reported(_: &ServerError) -> bool {
        false
    }
}
