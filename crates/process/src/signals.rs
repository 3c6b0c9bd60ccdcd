//! Signal handling: TERM, and for commands INT and HUP, ask the program to stop at the next safe point.
//!
//! Signals are handled, not blocked or ignored: child processes would inherit that, and a step could not
//! be ended any more.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::unistd::setsid;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::retry_on_intr;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};

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

/// The operator or the system asked the program to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// A request to stop. The program checks it where it can stop cleanly; a signal interrupts nothing else.
#[derive(Debug)]
pub struct Stop {
    /// A descriptor that becomes readable with the first signal.
    signals: Option<OwnedFd>,
    /// The ends of a connection for [`Stop::request`].
    own: Option<(UnixStream, UnixStream)>,
}

impl Stop {
    /// Creates a request that no signal makes.
    #[must_use]
    pub const fn never() -> Self {
        Self { signals: None, own: None }
    }

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
        Self { signals: registered.ok().map(OwnedFd::from), own: None }
    }

    /// Returns a request to stop a part of the work. The same signals make it, and [`Stop::request`].
    #[must_use]
    pub fn part(&self) -> Self {
        let create = || -> io::Result<Self> {
            let (reader, writer) = UnixStream::pair()?;
            let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            for readable in [Some(reader.as_fd()), self.readable()].into_iter().flatten() {
                epoll::add(&both, readable, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
            }
            Ok(Self { signals: Some(both), own: Some((reader, writer)) })
        };
        create().unwrap_or_else(|error| {
            log::warn!("cannot stop a part of the work by itself: {error}");
            let signals = self.signals.as_ref().and_then(|signals| signals.try_clone().ok());
            Self { signals, own: None }
        })
    }

    /// Requests a stop, if this is one for a part of the work.
    pub fn request(&self) {
        if let Some((_, writer)) = &self.own {
            // An error is ignored: the part then takes until its timeout.
            let _ = (&mut &*writer).write_all(b"stop");
        }
    }

    /// Fails from the first signal on.
    pub fn check(&self) -> Result<(), Cancelled> {
        let Some(signals) = &self.signals else { return Ok(()) };
        // What came is not read, so that other threads which wait for it see it too.
        let now = Some(&Timespec { tv_sec: 0, tv_nsec: 0 });
        match retry_on_intr(|| poll(&mut [PollFd::new(signals, PollFlags::IN)], now)) {
            Ok(1..) => Err(Cancelled),
            _ => Ok(()),
        }
    }

    /// A descriptor that becomes readable when a signal comes.
    #[must_use]
    pub fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.signals.as_ref().map(AsFd::as_fd)
    }
}
