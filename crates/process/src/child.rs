//! The engine for child processes: deadlines, cancellation, and bounded output, without threads.
//!
//! Each child leads its own process group. At its deadline, or at a stop request, the group receives TERM, and after a grace
//! period KILL. A child that still runs after that, such as `sudo`, which runs as root, is abandoned, and a line in its output
//! reports that.
//!
//! Once the child has exited, all of its output is in the pipes, and is read to the end. Its background processes may keep a
//! pipe open as long as they run, so their output is only read for a moment longer. Because the pipes are our own, they
//! cannot keep the pusher's connection open either.

use std::ffi::OsStr;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::ioctl_fionbio;
use rustix::process::Signal;

use super::group::{KILL_TIMEOUT, ProcessGroup, wait};
use crate::signals::Stop;
use bluegreen_text as text;

/// The time between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);

/// The time for which the output of background processes is read after the child has exited.
const LINGER: Duration = Duration::from_millis(250);

/// The number of bytes at the end of standard error that [`Task`] keeps. They contain the reason for a failure.
const MAX_STDERR: usize = 64 * 1024;

/// The maximum size of one read. No unprivileged pipe contains more, so one call of [`Running::read`] empties the pipe of a
/// program that has exited.
const PIPE_SIZE: usize = 1024 * 1024;

/// The limits of a child process.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// The timeout.
    pub timeout: Duration,
    /// The stop request.
    pub stop: Option<&'a Stop>,
}

/// How a child process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited by itself.
    Exited(ExitStatus),
    /// It timed out and was killed, or abandoned if that was impossible.
    TimedOut,
    /// A stop was requested, and it was killed, or abandoned if that was impossible.
    Cancelled,
}

/// The two output streams of a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// Prepares a program with an empty standard input. It will lead its own process group, and have no controlling terminal if
/// the command has left its own (`src/command/session.rs`).
#[expect(clippy::disallowed_methods, reason = "the other modules get their commands here")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs a program with an empty standard input. `output` receives its output. Its background processes are killed.
pub fn run(
    command: &mut Command,
    timeout: Duration,
    stop: Option<&Stop>,
    output: impl FnMut(&[u8]),
) -> io::Result<End> {
    stream(command, None, Limits { timeout, stop }, output)
}

/// Runs a program with text on its standard input, which it may leave unread. `output` receives its output. Its background
/// processes are killed.
pub fn run_with_stdin(
    command: &mut Command,
    text: &[u8],
    timeout: Duration,
    output: impl FnMut(&[u8]),
) -> io::Result<End> {
    stream(command, Some(text), Limits { timeout, stop: None }, output)
}

fn stream(
    command: &mut Command,
    input: Option<&[u8]>,
    limits: Limits,
    mut output: impl FnMut(&[u8]),
) -> io::Result<End> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut running = Running::start(command, input, [Some(reader), None], limits.timeout)?;
    running.owns_group = true;
    complete(&mut running, limits.stop, &mut |_, bytes: &[u8]| {
        output(bytes);
        Ok(())
    })
}

/// Runs a program with `input` on its standard input, and returns its standard output of up to `max` bytes. `complaints`
/// receives its standard error. Its background processes keep running unless the program was killed.
pub fn output(
    command: &mut Command,
    input: &[u8],
    limits: Limits,
    max: usize,
    mut complaints: impl FnMut(&[u8]),
) -> io::Result<(End, Vec<u8>)> {
    let mut running = start_with_pipes(command, Some(input), limits.timeout)?;
    let mut stdout = Vec::new();
    let end = complete(&mut running, limits.stop, &mut |stream, bytes: &[u8]| match stream {
        Stream::Stdout => append(&mut stdout, bytes, max),
        Stream::Stderr => {
            complaints(bytes);
            Ok(())
        }
    })?;
    Ok((end, stdout))
}

/// A running program whose output is captured, for callers that wait for several programs at the same time.
#[derive(Debug)]
pub struct Task {
    running: Running<'static>,
    captured: Captured,
    max: usize,
}

/// The output of a program.
#[derive(Debug, Default)]
pub struct Captured {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, of which only the end is kept.
    pub stderr: Vec<u8>,
}

impl Task {
    /// Starts a program with an empty standard input. Its standard output may have up to `max` bytes.
    pub fn start(command: &mut Command, timeout: Duration, max: usize) -> io::Result<Self> {
        let running = start_with_pipes(command, None, timeout)?;
        Ok(Self { running, captured: Captured::default(), max })
    }

    /// Reads the available output without waiting. Returns the result once the program has ended.
    pub fn advance(&mut self, stop: Option<&Stop>) -> io::Result<Option<(End, Captured)>> {
        let Self { running, captured, max } = self;
        let end = running.advance(stop, &mut |stream, bytes: &[u8]| match stream {
            Stream::Stdout => append(&mut captured.stdout, bytes, *max),
            Stream::Stderr => {
                keep_end(&mut captured.stderr, bytes);
                Ok(())
            }
        })?;
        Ok(end.map(|end| (end, std::mem::take(captured))))
    }

    /// Waits for the program to end.
    pub fn finish(mut self, stop: Option<&Stop>) -> io::Result<(End, Captured)> {
        loop {
            if let Some(done) = self.advance(stop)? {
                return Ok(done);
            }
            self.running.wait(stop);
        }
    }
}

/// Waits until one of the programs prints something or ends, or until a deadline.
pub fn wait_any<'a>(tasks: impl Iterator<Item = &'a Task>, until: Instant, stop: Option<&Stop>) {
    let (mut wanted, mut next) = (Vec::new(), until);
    for task in tasks {
        task.running.interest(&mut wanted);
        next = next.min(task.running.wake_at());
    }
    wanted.extend(stop.into_iter().flat_map(Stop::wanted));
    wait(&mut wanted, next);
}

/// Appends to a text of which only the end is needed.
pub fn keep_end(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.extend_from_slice(bytes);
    if kept.len() > 2 * MAX_STDERR {
        kept.drain(..kept.len() - MAX_STDERR);
    }
}

fn append(kept: &mut Vec<u8>, bytes: &[u8], max: usize) -> io::Result<()> {
    if kept.len() + bytes.len() > max {
        return Err(io::Error::other(format!("it printed more than {}", text::bytes(max as u64))));
    }
    kept.extend_from_slice(bytes);
    Ok(())
}

fn start_with_pipes<'a>(
    command: &mut Command,
    input: Option<&'a [u8]>,
    timeout: Duration,
) -> io::Result<Running<'a>> {
    let ((stdout, out), (stderr, err)) = (io::pipe()?, io::pipe()?);
    command.stdout(out).stderr(err);
    Running::start(command, input, [Some(stdout), Some(stderr)], timeout)
}

fn complete(
    running: &mut Running,
    stop: Option<&Stop>,
    sink: &mut impl FnMut(Stream, &[u8]) -> io::Result<()>,
) -> io::Result<End> {
    loop {
        if let Some(end) = running.advance(stop, sink)? {
            return Ok(end);
        }
        running.wait(stop);
    }
}

/// A program from its start until it is reaped. Dropping it earlier kills its group.
#[derive(Debug)]
struct Running<'a> {
    group: ProcessGroup,
    stdin: Option<(ChildStdin, &'a [u8])>,
    outputs: [Option<PipeReader>; 2],
    /// When the next signal is due, or after the program has exited, when its pipes are closed.
    next: Instant,
    forced: Option<End>,
    /// The result of sending KILL, or of TERM if that failed.
    killed: Option<io::Result<()>>,
    has_exited: bool,
    /// True if background processes are killed.
    owns_group: bool,
}

impl<'a> Running<'a> {
    fn start(
        command: &mut Command,
        input: Option<&'a [u8]>,
        outputs: [Option<PipeReader>; 2],
        timeout: Duration,
    ) -> io::Result<Self> {
        command.stdin(input.map_or_else(Stdio::null, |_| Stdio::piped()));
        let spawned = ProcessGroup::spawn(command);
        // The command would otherwise keep its ends of the pipes open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut group = spawned?;
        let stdin = group.take_stdin().zip(input);
        for pipe in outputs.iter().flatten() {
            ioctl_fionbio(pipe, true)?;
        }
        if let Some((stdin, _)) = &stdin {
            ioctl_fionbio(stdin, true)?;
        }
        let next = Instant::now() + timeout;
        Ok(Self {
            group,
            stdin,
            outputs,
            next,
            forced: None,
            killed: None,
            has_exited: false,
            owns_group: false,
        })
    }

    /// Returns the descriptors to wait for.
    fn interest<'f>(&'f self, wanted: &mut Vec<PollFd<'f>>) {
        if !self.has_exited {
            wanted.push(PollFd::from_borrowed_fd(self.group.exited(), PollFlags::IN));
            wanted.extend(
                self.stdin.as_ref().map(|(stdin, _)| PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::OUT)),
            );
        }
        wanted.extend(self.outputs.iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    }

    fn wake_at(&self) -> Instant {
        self.next
    }

    fn wait(&self, stop: Option<&Stop>) {
        let mut wanted = Vec::with_capacity(5);
        self.interest(&mut wanted);
        let stop = stop.filter(|_| self.forced.is_none() && !self.has_exited);
        wanted.extend(stop.into_iter().flat_map(Stop::wanted));
        wait(&mut wanted, self.next);
    }

    /// Makes progress without waiting. Returns how the program ended, if it has.
    fn advance(
        &mut self,
        stop: Option<&Stop>,
        sink: &mut impl FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> io::Result<Option<End>> {
        if !self.has_exited {
            self.write();
            self.has_exited = self.group.has_exited();
            if self.has_exited {
                self.stdin = None;
                self.next = Instant::now() + LINGER;
            }
        }
        // All output of the exited program is in the pipes now.
        self.read(PIPE_SIZE, sink)?;
        let is_late = Instant::now() >= self.next;
        if self.has_exited {
            let is_done = is_late || self.outputs.iter().all(Option::is_none);
            return if is_done { self.reap().map(Some) } else { Ok(None) };
        }
        let is_requested = self.forced.is_none() && stop.is_some_and(|stop| stop.check().is_err());
        if is_requested || is_late {
            if let Some(killed) = self.killed.take() {
                let problem = self.group.abandon(killed);
                sink(Stream::Stderr, format!("{problem}\n").as_bytes())?;
                return Ok(self.forced);
            }
            if self.forced.is_some() {
                self.next = Instant::now() + KILL_TIMEOUT;
                self.killed = Some(self.group.signal(Signal::KILL));
            } else {
                self.forced = Some(if is_requested { End::Cancelled } else { End::TimedOut });
                // A group that may not be signaled may have just exited.
                let refused = self.group.signal(Signal::TERM).err();
                self.next = Instant::now() + if refused.is_none() { GRACE } else { LINGER };
                self.killed = refused.map(Err);
            }
        }
        Ok(None)
    }

    /// Reads up to `max` bytes from each pipe.
    fn read(&mut self, max: usize, sink: &mut impl FnMut(Stream, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        for (stream, pipe) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&mut self.outputs) {
            let mut left = max;
            while let Some(reader) = pipe
                && left > 0
            {
                match reader.read(&mut buffer) {
                    Ok(0) => *pipe = None,
                    Ok(length) => {
                        sink(stream, &buffer[..length])?;
                        left = left.saturating_sub(length);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => *pipe = None,
                }
            }
        }
        Ok(())
    }

    /// Writes as much of the input as the pipe accepts. It is not an error if the program does not read it.
    fn write(&mut self) {
        while let Some((stdin, rest)) = &mut self.stdin {
            match stdin.write(rest) {
                Ok(length) if length < rest.len() => *rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => self.stdin = None,
            }
        }
    }

    fn reap(&mut self) -> io::Result<End> {
        if self.owns_group || self.forced.is_some() {
            // Processes that cannot be killed do not hold up the caller.
            let _ = self.group.signal(Signal::KILL);
        }
        let status = self.group.reap()?;
        Ok(self.forced.unwrap_or(End::Exited(status)))
    }
}

#[cfg(test)]
#[path = "child/tests.rs"]
mod tests;
