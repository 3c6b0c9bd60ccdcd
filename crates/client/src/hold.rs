//! The client's end of a hold: `bluegreen hold` on a server blocks deployments for as long as this client sends a line
//! every few seconds. The client is sure of it for as long as the server replies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::program::{self, last_lines};
use crate::remote::Remote;
use bluegreen_process::dialog::{Dialog, Received};
use bluegreen_process::signals::Stop;
use bluegreen_protocol::history::Entry;
use bluegreen_protocol::hold::{PROTOCOL, Reply, Request};
use bluegreen_protocol::status::Status;
use bluegreen_sys::parallel;
use bluegreen_text::message;

/// The time between two beats.
const BEAT: Duration = Duration::from_secs(3);

/// The time in which a reply must arrive. The server's own lease is longer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum time for which a promotion waits for `[notify]`. Its commands continue afterward.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum time for which a promotion waits for a lock.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum time for which a promotion waits for `enter` and `leave`.
const MAX_ROLE_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The maximum number of warnings of `[notify]` that are printed.
const MAX_WARNINGS: usize = 20;

/// The maximum number of holders of a lock that are announced for one server.
const MAX_HOLDERS: usize = 20;

/// The lock of one server, for as long as this lives.
#[derive(Debug)]
pub struct Hold {
    /// The state of the server. While the lock is held, no other process changes it.
    pub status: Status,
    pub(crate) connection: Connection,
}

/// A `bluegreen hold` that runs on a server.
#[derive(Debug)]
pub(crate) struct Connection {
    pub remote: Remote,
    pub dialog: Arc<Mutex<Dialog>>,
}

/// The dialogs of all holds that still exist.
type Dialogs = Mutex<Vec<Weak<Mutex<Dialog>>>>;

/// Sends the beats of all holds, from one thread.
#[derive(Debug)]
pub struct Heartbeat {
    dialogs: Arc<Dialogs>,
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Starts the thread. It fails before anything is held if the system has no thread left.
    pub fn start() -> Result<Self> {
        let (dialogs, has_ended) = (Arc::<Dialogs>::default(), Arc::<AtomicBool>::default());
        let (all, end) = (Arc::clone(&dialogs), Arc::clone(&has_ended));
        let beat = move || {
            while !end.load(Ordering::Relaxed) {
                let all = lock(&all).clone();
                all.iter().filter_map(Weak::upgrade).for_each(|dialog| beat(&dialog));
                thread::park_timeout(BEAT);
            }
        };
        let thread = parallel::spawn_alone(beat).map_err(Error::io("start", "a thread"))?;
        Ok(Self { dialogs, has_ended, thread: Some(thread) })
    }

    /// Keeps the lease of a connection.
    pub(crate) fn add(&self, connection: &Connection) {
        lock(&self.dialogs).push(Arc::downgrade(&connection.dialog));
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Sends a beat and discards the replies to earlier ones. A dialog that is in use sends lines of its own.
fn beat(dialog: &Mutex<Dialog>) {
    let Ok(mut dialog) = dialog.try_lock() else { return };
    dialog.discard();
    let _ = dialog.send(&Request::Beat.to_string(), Instant::now());
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hold {
    /// Takes the lock of a server that speaks this version of the protocol. `announce` receives the holder that it waits
    /// for.
    pub fn take(
        remote: &Remote,
        protocol: u32,
        heartbeat: &Heartbeat,
        stop: &Stop,
        announce: impl Fn(&str),
    ) -> Result<Self> {
        let version = protocol.min(PROTOCOL).to_string();
        let words = ["hold", "--protocol", &version];
        // A server of the first version knows no option.
        let connection = Connection::open(remote, &words[..if protocol > 1 { 3 } else { 1 }])?;
        let status = connection.wait_for_lock(&mut lock(&connection.dialog), stop, LOCK_TIMEOUT, announce)?;
        heartbeat.add(&connection);
        Ok(Self { status, connection })
    }

    /// Returns the server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.connection.remote.url
    }

    /// Checks that the server still holds the lock. Only a reply that arrives now is proof: the clock of a laptop stands
    /// still while it is suspended.
    pub fn confirm(&self) -> Result<Status> {
        self.connection.request(&Request::Status, REPLY_TIMEOUT, |reply| match reply {
            Reply::Status(status) => Some(*status),
            _ => None,
        })
    }

    /// Takes the lock again after the connection was lost.
    pub fn take_again(&mut self, heartbeat: &Heartbeat) -> Result<()> {
        static NEVER: Stop = Stop::never();
        lock(&self.connection.dialog).close();
        *self = Self::take(&self.connection.remote, self.status.protocol, heartbeat, &NEVER, |_| ())?;
        Ok(())
    }

    /// Returns whether the server has the role already.
    #[must_use]
    pub fn has_role(&self, public: bool) -> bool {
        self.status.role.as_ref().is_some_and(|role| role.complete && role.public == Some(public))
    }

    /// Has the server run `enter` of `[public]`, or `leave`. The server limits the time.
    pub fn change_role(&self, public: bool) -> Result<()> {
        let within = self.status.role.as_ref().map_or(0, |role| role.within);
        let timeout = Duration::from_secs(within).min(MAX_ROLE_TIMEOUT) + REPLY_TIMEOUT;
        let reply = self.connection.exchange(&Request::Role(public), timeout, |reply| match reply {
            Reply::Role(done) if done == public => Some(Ok(())),
            Reply::Error(problem) => Some(Err(problem)),
            _ => None,
        })?;
        reply.map_err(|how| Error::Role {
            url: self.url().to_owned(),
            command: if public { "enter" } else { "leave" },
            how,
            try_it: self.connection.remote.line("log"),
        })
    }

    /// Writes the mark.
    pub fn mark(&self, public: bool) -> Result<()> {
        self.connection.request(&Request::Public(public), REPLY_TIMEOUT, |reply| {
            matches!(reply, Reply::Marked(_)).then_some(())
        })
    }

    /// Writes the mark, and adds an entry to the history.
    pub fn mark_and_record(&self, public: bool, entry: &Entry) -> Result<()> {
        self.mark(public)?;
        let request = Request::Record(Box::new(entry.clone()));
        self.connection
            .request(&request, REPLY_TIMEOUT, |reply| matches!(reply, Reply::Recorded(_)).then_some(()))
    }

    /// Releases the lock, and has the server run its `[notify]` for what it recorded; returns the warnings.
    #[must_use]
    pub fn notify(self) -> Vec<String> {
        let said = self.connection.request(&Request::Notify, NOTIFY_TIMEOUT, |reply| match reply {
            Reply::Notified(warnings) => Some(warnings),
            _ => None,
        });
        match said {
            Ok(warnings) => warnings.iter().take(MAX_WARNINGS).map(message).collect(),
            Err(_) => vec![format!("`{}` did not report the result of its `[notify]`", self.url())],
        }
    }
}

impl Connection {
    /// Starts `hold` on a server.
    pub fn open(remote: &Remote, words: &[&str]) -> Result<Self> {
        let mut command = remote.command(words)?;
        let dialog = Dialog::start(&mut command).map_err(|error| program::cannot_run(&command, error))?;
        Ok(Self { remote: remote.clone(), dialog: Arc::new(Mutex::new(dialog)) })
    }

    /// Waits until the server has taken the lock, and returns its state. The dialog stays locked, so that no beat discards
    /// the reply.
    pub fn wait_for_lock(
        &self,
        dialog: &mut Dialog,
        stop: &Stop,
        timeout: Duration,
        announce: impl Fn(&str),
    ) -> Result<Status> {
        let deadline = Instant::now() + timeout;
        let (mut holder, mut holders) = (String::new(), 0);
        loop {
            stop.check()?;
            let next = (Instant::now() + BEAT).min(deadline);
            match self.receive(dialog, next, Some(stop), "cannot be locked")? {
                Some(Reply::Held(status)) => return Ok(*status),
                Some(Reply::Waiting(other)) => {
                    if holders < MAX_HOLDERS {
                        announce(&other);
                    }
                    holders += 1;
                    holder = format!(": {other}");
                }
                Some(_) => {}
                None if Instant::now() >= deadline => return Err(self.not_locked(holder, timeout)),
                None => {
                    // A line keeps the lease. One that cannot be sent is noticed at the next reply.
                    let _ = dialog.send(&Request::Beat.to_string(), Instant::now());
                }
            }
        }
    }

    /// Returns the error for a server that did not take the lock in time. `holder` is empty if the server has not named one.
    fn not_locked(&self, holder: String, waited: Duration) -> Error {
        if holder.is_empty() {
            return self.remote.timed_out("hold", waited);
        }
        Error::StillBusy { url: self.remote.url.clone(), holder, waited }
    }

    /// Receives a reply; `None` if none arrives in time, also from a server that never stops sending. `problem` describes
    /// the end of the connection.
    pub fn receive(
        &self,
        dialog: &mut Dialog,
        until: Instant,
        stop: Option<&Stop>,
        problem: &str,
    ) -> Result<Option<Reply>> {
        if Instant::now() >= until {
            return Ok(None);
        }
        match dialog.receive(until, stop) {
            Ok(Received::Line(line)) => {
                Reply::parse(&line).map(Some).map_err(|error| self.remote.invalid_response(&error))
            }
            Ok(Received::Nothing) => Ok(None),
            Ok(Received::End) => Err(self.lost(dialog, problem)),
            Err(error) => Err(self.remote.invalid_response(&error)),
        }
    }

    /// Sends a request, and returns the reply that it waits for; an error that the server reports is returned, too.
    fn request<R>(
        &self,
        request: &Request,
        timeout: Duration,
        wanted: impl Fn(Reply) -> Option<R>,
    ) -> Result<R> {
        let wanted = |reply| match reply {
            Reply::Error(problem) => Some(Err(problem)),
            reply => wanted(reply).map(Ok),
        };
        self.exchange(request, timeout, wanted)?.map_err(|problem| Error::Hold {
            url: self.remote.url.clone(),
            how: format!("reports: {problem}"),
        })
    }

    /// Sends a request, and returns the reply that it waits for. The dialog stays locked until then, so that no beat
    /// discards the reply.
    fn exchange<R>(
        &self,
        request: &Request,
        timeout: Duration,
        wanted: impl Fn(Reply) -> Option<R>,
    ) -> Result<R> {
        const LOST: &str = "is no longer locked";
        let (mut dialog, deadline) = (lock(&self.dialog), Instant::now() + timeout);
        if dialog.send(&request.to_string(), deadline).is_err() {
            return Err(self.lost(&mut dialog, LOST));
        }
        while let Some(reply) = self.receive(&mut dialog, deadline, None, LOST)? {
            if let Some(result) = wanted(reply) {
                return Ok(result);
            }
        }
        Err(self.lost(&mut dialog, LOST))
    }

    fn lost(&self, dialog: &mut Dialog, how: &str) -> Error {
        let stderr = dialog.errors();
        if let Some(error) = self.remote.explain(&stderr) {
            return error;
        }
        let how =
            std::iter::once(how.to_owned()).chain(last_lines(&stderr, 1)).collect::<Vec<_>>().join(": ");
        Error::Hold { url: self.remote.url.clone(), how }
    }
}

impl Drop for Connection {
    /// Releases the lock now, even if a beat is about to be sent.
    fn drop(&mut self) {
        lock(&self.dialog).close();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::config::ServerSpec;
    use crate::ssh::Client;
    use bluegreen_text::explain::Explain;

    const SOON: Duration = Duration::from_millis(200);

    /// Connects to a server. The shell runs the command in place of ssh.
    fn connect(command: &str) -> Connection {
        let client = Client::find(Some(format!("{command} #")), None);
        let remote = Remote::to_push_to(&ServerSpec::Url("deploy@b7:app".into()), &client).unwrap();
        Connection::open(&remote, &["hold"]).unwrap()
    }

    #[test]
    fn a_server_that_never_stops_sending_has_no_more_time_than_others() {
        let connection = connect(r#"yes '{"waiting":"a push"}'"#);
        let announced = Cell::new(0);
        let announce = |_: &str| announced.set(announced.get() + 1);
        let wait = |stop: &Stop| {
            let mut dialog = lock(&connection.dialog);
            connection.wait_for_lock(&mut dialog, stop, SOON, announce).unwrap_err()
        };
        assert!(matches!(wait(&Stop::never()), Error::StillBusy { .. }));
        assert_eq!(announced.get(), MAX_HOLDERS);
        beat(&connection.dialog);
        let error = connection.exchange(&Request::Beat, SOON, |_| None::<()>).unwrap_err();
        assert_eq!(error.to_string(), "`deploy@b7:app` is no longer locked");
    }

    #[test]
    fn a_server_that_hangs_before_it_is_locked_is_named() {
        let connection = connect("sleep 60");
        let mut dialog = lock(&connection.dialog);
        let error = connection.wait_for_lock(&mut dialog, &Stop::never(), SOON, |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "`bluegreen hold` failed on `deploy@b7:app`: timed out after 200ms");
        assert_eq!(error.hint().unwrap(), "run `ssh deploy@b7 status -C app`");
    }
}
