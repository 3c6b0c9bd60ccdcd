//! Runs a child process to its end, with a time limit. Background processes that the child leaves behind
//! cannot block the caller.
//!
//! The child leads a process group. At its timeout, the group gets TERM, and after a grace period KILL. Once
//! the child itself has ended, the rest of the group has a moment to print its last lines. All output comes
//! through a pipe of our own, so that a background process cannot keep the pusher's connection open.
//!
//! The child has no controlling terminal, because a server command has left it (`command/session.rs`).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::run::signals::Stop;

/// The time between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);

/// The time in which background processes may still print after the child has ended.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// The limits of a child process.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// The time that it may take.
    pub timeout: Duration,
    /// The request to stop, by a signal.
    pub stop: Option<&'a Stop>,
}

/// The way in which a child process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited by itself.
    Exited(ExitStatus),
    /// It took too long and was killed.
    TimedOut,
    /// A signal asked this program to stop, and the child was killed.
    Cancelled,
}

/// Prepares a program to run in a process group of its own.
#[expect(clippy::disallowed_methods, reason = "the other modules get their commands here")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.process_group(0);
    command
}

/// Runs a program with an empty standard input. `output` gets everything that it prints.
pub fn run(
    command: &mut Command,
    timeout: Duration,
    stop: Option<&Stop>,
    output: impl FnMut(&[u8]),
) -> io::Result<End> {
    read(command, Stdio::null(), Limits { timeout, stop }, output)
}

/// Runs a program with a text on its standard input, which nobody waits for it to read. `output` gets all
/// that it prints.
pub fn tell(
    command: &mut Command,
    text: &[u8],
    timeout: Duration,
    output: impl FnMut(&[u8]),
) -> io::Result<End> {
    let mut input = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    input.write_all(text)?;
    input.rewind()?;
    read(command, input.into(), Limits { timeout, stop: None }, output)
}

fn read(command: &mut Command, input: Stdio, limits: Limits, output: impl FnMut(&[u8])) -> io::Result<End> {
    let (reader, writer) = io::pipe()?;
    command.stdin(input).stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn()?;
    // The command keeps its own ends of the pipe open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    supervise(child, reader, limits, true, output)
}

/// Runs a program with `input` on its standard input; also returns its standard output. `complaints` gets its
/// standard error. Background processes that it leaves go on running, unless the program was killed.
pub fn ask(
    command: &mut Command,
    input: &[u8],
    limits: Limits,
    complaints: impl FnMut(&[u8]),
) -> io::Result<(End, Vec<u8>)> {
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(writer);
    let mut child = command.spawn()?;
    // The command keeps its own end of the pipe open.
    command.stderr(Stdio::null());
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    // The program may write before it has read everything: reading and writing must go on at once.
    thread::scope(|scope| {
        // A write error only means that the program ended early, and then it has printed why.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        let answer = scope.spawn(move || {
            let mut answer = Vec::new();
            stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut answer)).map(|_| answer)
        });
        let end = supervise(child, reader, limits, false, complaints)?;
        let answer = answer.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        Ok((end, answer))
    })
}

/// Waits for a program's end; `is_alone` also kills the background processes that it leaves.
fn supervise(
    child: Child,
    reader: PipeReader,
    limits: Limits,
    is_alone: bool,
    output: impl FnMut(&[u8]),
) -> io::Result<End> {
    let group = Pid::from_child(&child);
    let running = pidfd_open(group, PidfdFlags::empty()).map(|ended| Running {
        child,
        group,
        ended,
        pipe: Some(reader),
        output,
    });
    let mut running = running.inspect_err(|_| kill(group, Signal::KILL))?;
    let end = running.wait(Instant::now() + limits.timeout, limits.stop);
    running.listen(Instant::now() + LAST_WORDS);
    if is_alone || end.is_some() {
        // The child has not been reaped yet, so its process group id cannot have been reused.
        kill(group, Signal::KILL);
    }
    let status = running.child.wait()?;
    Ok(end.unwrap_or(End::Exited(status)))
}

/// Signals a process group whose leader has not been reaped yet. A group that no longer exists is no error.
fn kill(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

struct Running<F> {
    child: Child,
    group: Pid,
    /// A descriptor that becomes readable when the program ends.
    ended: OwnedFd,
    pipe: Option<PipeReader>,
    output: F,
}

impl<F: FnMut(&[u8])> Running<F> {
    /// Waits for the program's end; returns the reason if it had to be killed.
    fn wait(&mut self, deadline: Instant, stop: Option<&Stop>) -> Option<End> {
        let mut forced = None;
        let mut next = deadline;
        loop {
            let wake = stop.filter(|_| forced.is_none());
            if self.poll(next, wake) {
                return forced;
            }
            let is_asked = wake.is_some_and(|stop| stop.check().is_err());
            if forced.is_none() && (is_asked || Instant::now() >= next) {
                forced = Some(if is_asked { End::Cancelled } else { End::TimedOut });
                next = Instant::now() + GRACE;
                kill(self.group, Signal::TERM);
            } else if Instant::now() >= next {
                next = Instant::now() + GRACE;
                kill(self.group, Signal::KILL);
            }
        }
    }

    /// Waits until the program prints, ends or `until` comes; passes output on, and returns whether the
    /// program has ended.
    fn poll(&mut self, until: Instant, stop: Option<&Stop>) -> bool {
        let mut wanted = vec![PollFd::new(&self.ended, PollFlags::IN)];
        let signals = stop.and_then(Stop::readable);
        wanted.extend(self.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        wanted.extend(signals.map(|signals| PollFd::from_borrowed_fd(signals, PollFlags::IN)));
        wait(&mut wanted, until);
        let has_ended = !wanted[0].revents().is_empty();
        let has_output = self.pipe.is_some() && !wanted[1].revents().is_empty();
        if has_output {
            self.read();
        }
        has_ended
    }

    /// Passes output on until the pipe is closed or `until` comes.
    fn listen(&mut self, until: Instant) {
        while let Some(pipe) = &self.pipe
            && wait(&mut [PollFd::new(pipe, PollFlags::IN)], until)
            && Instant::now() < until
        {
            self.read();
        }
    }

    /// Reads once from a pipe that is ready or closed.
    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        match self.pipe.as_mut().map_or(Ok(0), |pipe| pipe.read(&mut buffer)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => self.pipe = None,
            Ok(length) => (self.output)(&buffer[..length]),
        }
    }
}

/// Polls until a deadline; returns whether a descriptor is ready.
fn wait(wanted: &mut [PollFd], until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    retry_on_intr(|| poll(wanted, Some(&timeout))).unwrap_or(0) > 0
}
