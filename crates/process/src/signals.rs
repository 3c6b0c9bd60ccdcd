//! Signal handling: TERM, and for commands also INT and HUP, request a stop at the next safe point.
//!
//! Signals are handled, not blocked or ignored: child processes would inherit that, and steps could no longer be stopped.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::setsid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
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

/// A descriptor, and the events that request a stop. Errors and hang-ups always do.
type Source = (Arc<OwnedFd>, PollFlags);

/// A stop request. The program checks it where it can stop cleanly; a signal interrupts nothing else.
#[derive(Debug)]
pub struct Stop {
    /// Of these descriptors, one becomes ready with the first signal or request.
    sources: Vec<Source>,
    /// The requests for the parts that this one belongs to. Unlike the descriptors, they cannot run out.
    requested: Vec<Arc<AtomicBool>>,
    /// The other end of the last descriptor, for [`Stop::request`].
    own: Option<UnixStream>,
}

impl Stop {
    /// Creates a request that no signal sets.
    #[must_use]
    pub const fn never() -> Self {
        Self { sources: Vec::new(), requested: Vec::new(), own: None }
    }

    /// Catches TERM, and INT and HUP unless the program serves a git client. From then on, these signals only request a stop.
    #[must_use]
    pub fn catch(is_hook: bool) -> Self {
        let signals: &[i32] = if is_hook { &[SIGTERM] } else { &[SIGTERM, SIGINT, SIGHUP] };
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
        let source = |reader: UnixStream| (Arc::new(reader.into()), PollFlags::IN);
        Self { sources: registered.ok().map(source).into_iter().collect(), ..Self::never() }
    }

    /// Returns a request for a part of the work, which is set by the same signals and by [`Stop::request`].
    #[must_use]
    pub fn part(&self) -> Self {
        let (mut sources, mut requested) = (self.sources.clone(), self.requested.clone());
        requested.push(Arc::default());
        let own = match UnixStream::pair() {
            Ok((reader, writer)) => {
                sources.push((Arc::new(reader.into()), PollFlags::IN));
                Some(writer)
            }
            Err(error) => {
                log::warn!("a part of the work will notice late that it must stop: {error}");
                None
            }
        };
        Self { sources, requested, own }
    }

    /// Returns a request that is set by the same signals, and once the reader of this output has gone.
    #[must_use]
    pub fn or_unread(&self, output: impl AsFd) -> Self {
        let (mut sources, mut requested) = (self.sources.clone(), self.requested.clone());
        requested.push(Arc::default());
        match output.as_fd().try_clone_to_owned() {
            Ok(output) => sources.push((Arc::new(output), PollFlags::empty())),
            Err(error) => log::warn!("cannot watch the output: {error}"),
        }
        Self { sources, requested, own: None }
    }

    /// Requests a stop, if this request is for a part of the work.
    pub fn request(&self) {
        if let Some(requested) = self.requested.last() {
            requested.store(true, Ordering::Relaxed);
        }
        if let Some(mut writer) = self.own.as_ref() {
            // Ignore errors: that part then notices it when it checks.
            let _ = writer.write_all(b"stop");
        }
    }

    /// Fails once a signal has arrived.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.requested.iter().any(|requested| requested.load(Ordering::Relaxed)) {
            return Err(Cancelled);
        }
        if self.sources.is_empty() {
            return Ok(());
        }
        // Do not read the byte, so that other threads see it, too.
        let now = Some(&Timespec { tv_sec: 0, tv_nsec: 0 });
        let mut wanted: Vec<PollFd> = self.wanted().collect();
        match retry_on_intr(|| poll(&mut wanted, now)) {
            Ok(1..) => Err(Cancelled),
            _ => Ok(()),
        }
    }

    /// Returns descriptors to poll, of which one becomes ready when a signal comes.
    pub fn wanted(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.sources.iter().map(|(source, events)| PollFd::new(source, *events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_stopped_with_the_whole_and_without_descriptors() {
        let whole = Stop::never().part();
        let without = Stop { sources: Vec::new(), own: None, ..whole.part() };
        let part = without.part();
        without.request();
        assert_eq!((whole.check(), without.check(), part.check()), (Ok(()), Err(Cancelled), Err(Cancelled)));
        let other = whole.part();
        whole.request();
        assert_eq!((whole.check(), other.check()), (Err(Cancelled), Err(Cancelled)));
    }
}
