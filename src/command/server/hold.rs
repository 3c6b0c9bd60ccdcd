//! `hold`: the server's end of a promotion. It holds the site's lock while a client sends requests, one per line, and
//! responds to each with a line of JSON.
//!
//! The lock is released at the end of the client's input, or after 20 seconds without a line. A client that sends an endless
//! line, or does not read the replies, also loses the lock.
//!
//! In standby, it reports the state of the server first, and takes the lock on request, so that a promotion needs only one
//! connection.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};

use super::invocation::{self, Invocation};
use super::status;
use crate::error as command_error;
use bluegreen_process::signals::{self, Stop};
use bluegreen_protocol::hold::{MAX_REQUEST, PROTOCOL, Reply, Request};
use bluegreen_report::Report;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::deploy::role;
use bluegreen_server::error::{Error, Result};
use bluegreen_server::site::history::{Actor, Entry};
use bluegreen_server::site::{LockedSite, Site};
use bluegreen_text::timestamp;

/// The time without a line after which the client is considered lost.
const LEASE: Duration = Duration::from_secs(20);

/// The maximum size of one write: if `poll` reports a pipe as writable, Linux guarantees room for this many bytes.
const PIPE_BUF: usize = 4096;

/// Holds the lock until the client releases it, disconnects, or times out.
pub fn run(
    invocation: &Invocation,
    protocol: u32,
    is_standby: bool,
    report: &Report,
) -> command_error::Result<()> {
    // The client reads JSON on standard output.
    let beside = report.beside_json()?;
    let mut server = invocation.open(&beside)?;
    server.catch_signals();
    let mut input = Received::default();
    if is_standby {
        let client = Client { stop: server.stop(), input };
        if !stand_by(&server, &client)? {
            return Ok(());
        }
        input = client.input;
        invocation::reread(&mut server)?;
    }
    Ok(hold(&server, protocol, &Client { stop: server.stop(), input })?)
}

/// Reports the state, until the client requests the lock. Returns false if it disconnects instead.
fn stand_by(server: &DeployContext, client: &Client) -> Result<bool> {
    client.reply(&Reply::Status(Box::new(status::read(server)?.0)))?;
    loop {
        let Some(line) = client.receive_request()? else { return Ok(false) };
        let reply = match line.parse() {
            Ok(Request::Lock) => return Ok(true),
            Ok(Request::Beat) => Reply::Beat(true),
            Ok(Request::Status) => Reply::Status(Box::new(status::read(server)?.0)),
            Ok(_) => Reply::Error(Error::Request("the site is not locked yet".into()).to_string()),
            Err(problem) => Reply::Error(Error::Request(problem).to_string()),
        };
        client.reply(&reply)?;
    }
}

fn hold(server: &DeployContext, protocol: u32, client: &Client) -> Result<()> {
    refuse_old_client(server, protocol)?;
    let announce = |holder: &str| {
        let _ = client.reply(&Reply::Waiting(holder.to_owned()));
    };
    let go_on = || loop {
        match client.receive(Instant::now())? {
            Input::Line(_) => client.reply(&Reply::Beat(true))?,
            Input::Nothing => return Ok(()),
            Input::End => return Err(Error::HoldLost),
        }
    };
    let site = server.hold(announce, go_on)?;
    client.reply(&Reply::Held(Box::new(status::read(server)?.0)))?;
    if serve(server, &site, client)? {
        drop(site);
        // The client may disconnect now: the commands of `[notify]` have timeouts of their own.
        signals::outlive_the_client();
        client.reply(&Reply::Notified(server.notify()))?;
    }
    Ok(())
}

/// Fails if the client is too old for what this server needs of a promotion. Otherwise it would promote a locked side, or
/// leave the jobs on the side that is no longer public.
fn refuse_old_client(server: &DeployContext, protocol: u32) -> Result<()> {
    if protocol >= PROTOCOL {
        return Ok(());
    }
    let site = Site::open(&server.config.site)?;
    let needs = match site.freeze()? {
        Some(freeze) => format!("{} is {freeze}", server.name),
        None if role::read(server, &site).is_some() => {
            format!("{} has steps in `[public]`, or a worker", server.name)
        }
        None => return Ok(()),
    };
    Err(Error::OldClient(needs))
}

/// Responds to requests until the client disconnects. Returns whether it requests `[notify]`.
fn serve(server: &DeployContext, site: &LockedSite, client: &Client) -> Result<bool> {
    loop {
        let Some(line) = client.receive_request()? else { return Ok(false) };
        let reply = match line.parse() {
            Ok(Request::Notify) => return Ok(true),
            Ok(request) => execute(server, site, request),
            Err(problem) => Err(Error::Request(problem)),
        };
        // A request may take longer than the lease, and the client waits for its reply.
        client.input.last_line.set(Instant::now());
        client.reply(&reply.unwrap_or_else(|error| Reply::Error(error.to_string())))?;
    }
}

fn execute(server: &DeployContext, site: &LockedSite, request: Request) -> Result<Reply> {
    match request {
        Request::Beat | Request::Notify => Ok(Reply::Beat(true)),
        Request::Lock => Err(Error::Request("the site is locked already".into())),
        Request::Status => Ok(Reply::Status(Box::new(status::read(server)?.0))),
        Request::Role(public) => {
            role::change(server, site, public)?;
            site.phase("promote");
            Ok(Reply::Role(public))
        }
        Request::Public(public) => {
            if role::read(server, site).is_none() {
                site.forget_role()?;
            }
            site.mark_public(public, &timestamp(SystemTime::now()))?;
            Ok(Reply::Marked(if public { "yes" } else { "no" }.into()))
        }
        Request::Record(entry) => {
            // The server identifies the actor itself, whatever the client claims.
            let entry = Entry { by: Actor::clone(&server.caller.actor), ..*entry };
            server.record(site, entry)?;
            Ok(Reply::Recorded(true))
        }
    }
}

/// The input of the client.
enum Input {
    Line(String),
    /// No complete line yet.
    Nothing,
    End,
}

/// The client at the other end of standard input and output.
struct Client<'a> {
    stop: &'a Stop,
    input: Received,
}

/// The input from the client, and the time of its last line.
struct Received {
    last_line: Cell<Instant>,
    bytes: RefCell<Vec<u8>>,
    has_ended: Cell<bool>,
}

impl Default for Received {
    fn default() -> Self {
        let last_line = Cell::new(Instant::now());
        Self { last_line, bytes: RefCell::default(), has_ended: Cell::new(false) }
    }
}

impl Client<'_> {
    fn lease_end(&self) -> Instant {
        self.input.last_line.get() + LEASE
    }

    /// Fails if a signal requested a stop, or if the client timed out.
    fn check(&self) -> Result<()> {
        self.stop.check()?;
        if Instant::now() >= self.lease_end() { Err(Error::HoldLost) } else { Ok(()) }
    }

    /// Receives the next request; `None` if the client disconnects. Fails at the end of the lease.
    fn receive_request(&self) -> Result<Option<String>> {
        loop {
            match self.receive(self.lease_end())? {
                Input::Line(line) => return Ok(Some(line)),
                Input::Nothing => {}
                Input::End => return Ok(None),
            }
        }
    }

    /// Receives the next line, or nothing if none arrives before a deadline.
    fn receive(&self, until: Instant) -> Result<Input> {
        loop {
            if let Some(line) = self.next_line()? {
                self.input.last_line.set(Instant::now());
                return Ok(Input::Line(line));
            }
            if self.input.has_ended.get() {
                return Ok(Input::End);
            }
            self.check()?;
            if self.wait(std::io::stdin().as_fd(), PollFlags::IN, until)? {
                self.read()?;
            } else if Instant::now() >= until {
                return Ok(Input::Nothing);
            }
        }
    }

    fn next_line(&self) -> Result<Option<String>> {
        let mut received = self.input.bytes.borrow_mut();
        match received.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                let line: Vec<u8> = received.drain(..=end).collect();
                Ok(Some(String::from_utf8_lossy(&line).into_owned()))
            }
            None if received.len() > MAX_REQUEST => {
                Err(Error::Request(format!("a request of more than {MAX_REQUEST} bytes")))
            }
            None => Ok(None),
        }
    }

    fn read(&self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let length = retry_on_intr(|| rustix::io::read(std::io::stdin(), &mut buffer))
            .map_err(|error| Error::io("read", "standard input")(error.into()))?;
        self.input.has_ended.set(length == 0);
        self.input.bytes.borrow_mut().extend_from_slice(&buffer[..length]);
        Ok(())
    }

    /// Sends a reply. A client that does not read it loses the lock at the end of its lease.
    fn reply(&self, reply: &Reply) -> Result<()> {
        let failed = Error::io("write", "standard output");
        let mut text = match serde_json::to_vec(reply) {
            Ok(text) => text,
            Err(error) => return Err(failed(error.into())),
        };
        text.push(b'\n');
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            if self.wait(std::io::stdout().as_fd(), PollFlags::OUT, self.lease_end())? {
                let piece = &rest[..rest.len().min(PIPE_BUF)];
                match retry_on_intr(|| rustix::io::write(std::io::stdout(), piece)) {
                    Ok(length) => rest = &rest[length..],
                    Err(error) => return Err(failed(error.into())),
                }
            } else {
                self.check()?;
            }
        }
        Ok(())
    }

    /// Waits until a descriptor is ready, a signal arrives, or a deadline passes. Returns whether the descriptor is ready.
    fn wait(&self, descriptor: BorrowedFd<'_>, flags: PollFlags, until: Instant) -> Result<bool> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut wanted = vec![PollFd::from_borrowed_fd(descriptor, flags)];
        wanted.extend(self.stop.wanted());
        match poll(&mut wanted, Some(&timeout)) {
            Ok(_) => Ok(!wanted[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(Error::io("wait for", "the client")(error.into())),
        }
    }
}
