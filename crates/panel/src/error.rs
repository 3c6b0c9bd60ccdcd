//! The errors with which the panel does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use bluegreen_text::explain::Explain;
use bluegreen_text::{printable, reason};

/// The reason why the panel does not start.
#[derive(Debug, thiserror::Error)]
pub enum PanelError {
    /// Other machines could reach the panel, and nothing would keep them out.
    #[error("cannot listen on {0} without a token: other machines could promote")]
    Unprotected(SocketAddr),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {}", reason(.source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The token cannot be read.
    #[error("cannot read the token file `{}`: {}", printable(.path), reason(.source))]
    ReadToken {
        /// The token file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users can read the token.
    #[error("the token file `{}` is readable by other users", printable(.0))]
    SharedToken(PathBuf),
    /// The token can be guessed, or contains characters that a form does not send as they are.
    #[error("invalid token in `{}`: it must have 32 to 512 printable characters without spaces", printable(.0))]
    WeakToken(PathBuf),
    /// The system provides no random numbers, or no event queue.
    #[error("cannot start the panel: {}", reason(.0))]
    Start(io::Error),
}

impl Explain for PanelError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unprotected(_) => {
                "add `--token-file FILE`, or listen on 127.0.0.1 and reach the panel with `ssh -L`".into()
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "choose another port with `--listen 127.0.0.1:PORT`".into()
            }
            Self::SharedToken(path) => {
                format!("make `{}` readable for its owner only (mode 600)", printable(path))
            }
            Self::WeakToken(path) | Self::ReadToken { path, .. } => {
                format!("create one: `(umask 077; openssl rand -hex 32 >{})`", printable(path))
            }
            Self::Listen { .. } | Self::Start(_) => return None,
        };
        Some(hint)
    }

    fn exit_status(&self) -> u8 {
        if matches!(self, Self::Listen { .. } | Self::Start(_)) { 1 } else { 2 }
    }
}
