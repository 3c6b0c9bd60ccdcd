//! Signal handling: TERM, and for commands INT and HUP, ask the program to stop at the next safe point.
//!
//! Signals are handled, not blocked or ignored: child processes would inherit that, and a step could not
//! be ended any more.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::setsid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};

use crate::error::{Error, Result};

/// Lets a hook outlive its client: once the ref has moved, a lost connection or a Ctrl-C must not stop the
/// deployment half-way. From 2.54 on git passes the signals that it gets on to its hooks. Every Rust
/// program ignores SIGPIPE.
pub fn outlive_the_client() {
    // setsid(2) fails if the program leads a process group already, which is enough.
    let _ = setsid();
    for signal in [SIGHUP, SIGINT, SIGQUIT] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))) {
            log::warn!("cannot handle signal {signal}: {error}");
        }
    }
}

/// A request to stop. The program checks it where it can stop cleanly; a signal interrupts nothing else.
#[derive(Debug)]
pub struct Stop {
    signals: Option<UnixStream>,
    asked: AtomicBool,
}

impl Stop {
    /// Catches TERM, and INT and HUP unless the program serves a client of git: from now on these signals
    /// only request a stop.
    #[must_use]
    pub fn catch(for_client: bool) -> Self {
        let signals: &[i32] = if for_client { &[SIGTERM] } else { &[SIGTERM, SIGINT, SIGHUP] };
        let register = || -> io::Result<UnixStream> {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            // With a handler, a write beyond RLIMIT_FSIZE fails instead of killing the program.
            signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
            for &signal in signals {
                signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
            }
            Ok(reader)
        };
        let registered = register().inspect_err(|error| log::warn!("cannot handle signals: {error}"));
        Self { signals: registered.ok(), asked: AtomicBool::new(false) }
    }

    /// Fails with [`Error::Cancelled`] from the first signal on.
    pub fn check(&self) -> Result<()> {
        if let Some(mut signals) = self.signals.as_ref()
            && matches!(signals.read(&mut [0]), Ok(1..))
        {
            self.asked.store(true, Ordering::Relaxed);
        }
        if self.asked.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// A descriptor that becomes readable when a signal comes.
    #[must_use]
    pub fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.signals.as_ref().map(AsFd::as_fd)
    }
}
