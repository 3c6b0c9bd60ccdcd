//! The signals that reach the program, and the wish to stop that some of them carry.
//!
//! Signals are handled, not blocked or ignored: the programs that we start would inherit that, and a
//! step could not be ended any more.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::unistd::setsid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};

use crate::error::{Error, Result};

/// Lets a hook outlive the client that it answers: once the ref has moved, a lost connection or an
/// impatient Ctrl-C must not stop the deployment half-way. git (from 2.54 on) passes on to its hooks
/// what it is sent itself. SIGPIPE is ignored by every Rust program.
pub fn outlive_the_client() {
    // Fails where the program leads its process group already, which then is its own.
    let _ = setsid();
    for signal in [SIGHUP, SIGINT, SIGQUIT] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))) {
            log::warn!("cannot handle signal {signal}: {error}");
        }
    }
}

/// The wish to stop. The program looks at it where it can stop cleanly; nothing else is interrupted.
#[derive(Debug)]
pub struct Stop {
    signals: Option<UnixStream>,
    asked: Cell<bool>,
}

impl Stop {
    /// Catches signals: from now on TERM only asks; INT and HUP too, unless they are a client's.
    #[must_use]
    pub fn catch(for_client: bool) -> Self {
        let signals: &[i32] = if for_client { &[SIGTERM] } else { &[SIGTERM, SIGINT, SIGHUP] };
        let register = || -> io::Result<UnixStream> {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            // A write beyond the limit of file sizes fails then, instead of killing the program.
            signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
            for &signal in signals {
                signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
            }
            Ok(reader)
        };
        let registered = register().inspect_err(|error| log::warn!("cannot handle signals: {error}"));
        Self { signals: registered.ok(), asked: Cell::new(false) }
    }

    /// Fails with [`Error::Cancelled`] from the first signal on.
    pub fn check(&self) -> Result<()> {
        if let Some(mut signals) = self.signals.as_ref()
            && matches!(signals.read(&mut [0]), Ok(1..))
        {
            self.asked.set(true);
        }
        if self.asked.get() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// A descriptor that becomes readable when a signal comes.
    #[must_use]
    pub fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.signals.as_ref().map(AsFd::as_fd)
    }
}
