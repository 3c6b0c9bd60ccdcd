//! A child process with which this program exchanges lines.
//!
//! All reads and writes have a deadline, and the length of the child's lines is bounded.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::ioctl_fionbio;

use super::group::{ProcessGroup, wait};
use crate::signals::Stop;
use bluegreen_text as text;

/// The maximum length of a line, in bytes.
const MAX_LINE: usize = 1024 * 1024;

/// The number of bytes at the end of standard error that are kept.
const MAX_STDERR: usize = 16 * 1024;

/// The time in which the program must exit after its input was closed.
const GRACE: Duration = Duration::from_secs(2);

/// A program with open pipes to all its standard streams. Dropping it closes its input, waits for a moment, and then
/// kills its process group.
#[derive(Debug)]
pub struct Dialog {
    group: ProcessGroup,
    stdin: Option<ChildStdin>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    received: Vec<u8>,
    /// The bytes of `received` that contain no line end.
    searched: usize,
    errors: Vec<u8>,
}

/// The result of waiting for a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A line, without its end.
    Line(Vec<u8>),
    /// The deadline has passed, or a signal has arrived.
    Nothing,
    /// The program has closed its output or has exited.
    End,
}

impl Dialog {
    /// Starts a program.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let ((stdout, out), (stderr, err)) = (io::pipe()?, io::pipe()?);
        command.stdin(Stdio::piped()).stdout(out).stderr(err);
        let spawned = ProcessGroup::spawn(command);
        // The command would keep its own ends of the pipes open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut group = spawned?;
        let stdin = group.take_stdin();
        for pipe in [&stdout, &stderr] {
            ioctl_fionbio(pipe, true)?;
        }
        if let Some(stdin) = &stdin {
            ioctl_fionbio(stdin, true)?;
        }
        let (received, errors) = (Vec::new(), Vec::new());
        Ok(Self { group, stdin, stdout: Some(stdout), stderr: Some(stderr), received, searched: 0, errors })
    }

    /// Sends a line.
    pub fn send(&mut self, line: &str, until: Instant) -> io::Result<()> {
        let bytes = [line.as_bytes(), b"\n"].concat();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
            match stdin.write(rest) {
                Ok(length) => rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wanted = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::OUT)];
                    if !wait(&mut wanted, until) {
                        // Half a line was sent, so the program would misread the next one.
                        self.stdin = None;
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => {
                    self.stdin = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Receives the next line.
    pub fn receive(&mut self, until: Instant, stop: Option<&Stop>) -> io::Result<Received> {
        loop {
            if let Some(line) = self.next_line()? {
                return Ok(Received::Line(line));
            }
            if self.stdout.is_none() {
                return Ok(Received::End);
            }
            // After the exit, everything that the program wrote is in its pipes.
            let has_exited = self.group.has_exited();
            if self.read() {
                continue;
            }
            if has_exited {
                self.stdout = None;
                continue;
            }
            if Instant::now() >= until || stop.is_some_and(|stop| stop.check().is_err()) {
                return Ok(Received::Nothing);
            }
            self.wait(until, stop);
        }
    }

    /// Discards the lines that have arrived. It reads once, because a program may print faster than this can discard.
    pub fn discard(&mut self) {
        self.read();
        if let Some(end) = self.received.iter().rposition(|&byte| byte == b'\n') {
            self.received.drain(..=end);
            self.searched = 0;
        }
    }

    /// Returns the end of the program's standard error.
    #[must_use]
    pub fn errors(&mut self) -> String {
        self.read();
        String::from_utf8_lossy(&self.errors).into_owned()
    }

    /// Closes the program's input, and returns its exit status if it exits within a moment.
    pub fn end(&mut self) -> Option<ExitStatus> {
        self.close();
        if self.group.has_exited() { self.group.reap().ok() } else { None }
    }

    /// Closes the program's input, and waits for a moment until it exits.
    pub fn close(&mut self) {
        self.stdin = None;
        let until = Instant::now() + GRACE;
        // A program that can still print does not block on a full pipe.
        while !self.group.has_exited() && Instant::now() < until {
            self.received.clear();
            self.searched = 0;
            let has_read = self.read();
            if self.stdout.is_none() || !has_read {
                self.wait(until, None);
            }
        }
        if self.group.has_exited() {
            let _ = self.group.reap();
        }
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.received[self.searched..].iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                let rest = self.received.split_off(self.searched + end + 1);
                let mut line = std::mem::replace(&mut self.received, rest);
                line.pop();
                self.searched = 0;
                Ok(Some(line))
            }
            None if self.received.len() > MAX_LINE => {
                let max = text::bytes(MAX_LINE as u64);
                Err(io::Error::other(format!("it sent a line of more than {max}")))
            }
            None => {
                self.searched = self.received.len();
                Ok(None)
            }
        }
    }

    /// Reads the available output; returns whether there was any on standard output.
    fn read(&mut self) -> bool {
        // A program may print faster than this can read.
        const MAX_READS: usize = 16;
        let mut buffer = [0; 16 * 1024];
        for _ in 0..MAX_READS {
            let Some(length) = read(&mut self.stderr, &mut buffer) else { break };
            self.errors.extend_from_slice(&buffer[..length]);
            if self.errors.len() > 2 * MAX_STDERR {
                self.errors.drain(..self.errors.len() - MAX_STDERR);
            }
            if length < buffer.len() {
                break;
            }
        }
        let Some(length) = read(&mut self.stdout, &mut buffer) else { return self.stdout.is_none() };
        self.received.extend_from_slice(&buffer[..length]);
        true
    }

    fn wait(&self, until: Instant, stop: Option<&Stop>) {
        let mut wanted = vec![PollFd::from_borrowed_fd(self.group.exited(), PollFlags::IN)];
        let pipes = [&self.stdout, &self.stderr].into_iter().flatten();
        wanted.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        wanted.extend(stop.into_iter().flat_map(Stop::wanted));
        wait(&mut wanted, until);
    }
}

/// Reads once from a pipe, without waiting; closes it at its end.
fn read(pipe: &mut Option<PipeReader>, buffer: &mut [u8]) -> Option<usize> {
    match pipe.as_mut()?.read(buffer) {
        Ok(length) if length > 0 => Some(length),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
        _ => {
            *pipe = None;
            None
        }
    }
}

impl Drop for Dialog {
    fn drop(&mut self) {
        self.close();
    }
}
