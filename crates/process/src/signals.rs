//! Signal handling: TERM, and for commands also INT and HUP, request a stop at the next safe point.
//!
//! Signals are handled, not blocked or ignored: child processes would inherit that, and steps could no longer be stopped.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::unistd::setsid;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::retry_on_intr;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};

/// Lets a hook outlive its client: once the ref has moved, a lost connection or Ctrl-C must not stop the deployment halfway.
/// git 2.54 and later forwards signals to its hooks. Rust programs ignore SIGPIPE by default.
pub fn outlive_the_client() {
    // setsid(2) fails if the program already leads a process group, which is sufficient.
    let _ = setsid();
    for signal in [SIGHUP, SIGINT, SIGQUIT] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))) {
            log::warn!("cannot handle signal {signal}: {error}");
        }
    }
}

/// A signal requested a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// A stop request. The program checks it where it can stop cleanly; a signal interrupts nothing else.
#[derive(Debug)]
pub struct Stop {
    /// A descriptor that becomes readable with the first signal.
    signals: Option<OwnedFd>,
    /// The ends of a connection for [`Stop::request`].
    own: Option<(UnixStream, UnixStream)>,
}

impl Stop {
    /// Creates a request that no signal sets.
    #[must_use]
    pub const fn never() -> Self {
        Self { signals: None, own: None }
    }

    /// Catches TERM, and INT and HUP unless the program serves a git client. From then on, these signals only request a stop.
    #[must_use]
    pub fn catch(for_client: bool) -> Self {
        let signals: &[i32] = if for_client { &[SIGTERM] } else { &[SIGTERM, SIGINT, SIGHUP] };
        let register = || -> io::Result<UnixStream> {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            // With a handler, a write beyond RLIMIT_FSIZE fails instead of killing the process.
            signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
            for &signal in signals {
                signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
            }
            Ok(reader)
        };
        let registered = register().inspect_err(|error| log::warn!("cannot handle signals: {error}"));
        Self { signals: registered.ok().map(OwnedFd::from), own: None }
    }

    /// Returns a request for a part of the work, which is set by the same signals and by [`Stop::request`].
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

    /// Requests a stop, if this request is for a part of the work.
    pub fn request(&self) {
        if let Some((_, writer)) = &self.own {
            // Ignore errors: that part then runs until its timeout.
            let _ = (&mut &*writer).write_all(b"stop");
        }
    }

    /// Fails once a signal has arrived.
    pub fn check(&self) -> Result<(), Cancelled> {
        let Some(signals) = &self.signals else { return Ok(()) };
        // Do not read the byte, so that other threads see it, too.
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
