//! The programs that the client runs, `ssh`, `curl`, `git`, and the switch, and how their failures are worded.

use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use bluegreen_process::signals::Stop;
use bluegreen_process::{self as process, Captured, End, Limits, Task};
use bluegreen_text::truncated;

/// The maximum length of a program's standard output, in bytes.
pub const MAX_OUTPUT: usize = 1024 * 1024;

/// The maximum length of a program's line in a message, in characters.
const MAX_LINE_CHARS: usize = 300;

/// The output and the end of a program.
#[derive(Debug)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// The end of its standard error.
    pub stderr: String,
    /// The exit status, unless a signal or the timeout ended it.
    pub status: Option<i32>,
    /// The timeout, if it was exceeded.
    timeout: Option<Duration>,
}

impl Output {
    /// Converts the result of a task.
    pub fn new((end, captured): (End, Captured), timeout: Duration) -> Result<Self> {
        let (status, timeout) = match end {
            End::Exited(status) => (status.code(), None),
            End::TimedOut => (None, Some(timeout)),
            End::Cancelled => return Err(Error::Cancelled),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Self { stdout: text(&captured.stdout), stderr: text(&captured.stderr), status, timeout })
    }

    /// Returns whether it exited with status 0.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == Some(0)
    }

    /// Describes the end, with the last line of standard error.
    #[must_use]
    pub fn words(&self) -> String {
        self.words_with(1)
    }

    /// Describes the end, with the last lines of standard error.
    #[must_use]
    pub fn words_with(&self, lines: usize) -> String {
        let status = match (self.status, self.timeout) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(timeout)) => format!("timed out after {}", humantime::format_duration(timeout)),
            (None, None) => "was killed by a signal".into(),
        };
        std::iter::once(status).chain(last_lines(&self.stderr, lines)).collect::<Vec<_>>().join(": ")
    }
}

/// Returns the last lines of standard error that give a reason: neither empty nor a hint.
#[must_use]
pub fn last_lines(stderr: &str, lines: usize) -> Vec<String> {
    let is_reason = |line: &&str| !line.starts_with("hint:") && !line.trim().is_empty();
    let reasons: Vec<&str> = stderr.lines().filter(is_reason).collect();
    let last = reasons[reasons.len().saturating_sub(lines)..].iter();
    last.map(|line| shorten(line.trim().trim_start_matches("error: "))).collect()
}

/// Truncates a line of another program.
#[must_use]
pub fn shorten(line: &str) -> String {
    truncated(line.trim_end(), MAX_LINE_CHARS).into_owned()
}

/// Runs a program until it exits, times out, or this program must stop.
pub fn run(command: &mut Command, timeout: Duration, stop: Option<&Stop>) -> Result<Output> {
    let task = Task::start(command, timeout, MAX_OUTPUT).map_err(|error| cannot_run(command, error))?;
    let done = task.finish(stop).map_err(|error| cannot_run(command, error))?;
    Output::new(done, timeout)
}

/// Like [`run`], with a text on the program's standard input, which the program need not read.
pub fn run_with_input(
    command: &mut Command,
    input: &[u8],
    timeout: Duration,
    stop: Option<&Stop>,
) -> Result<Output> {
    let mut stderr = Vec::new();
    let complaints = |bytes: &[u8]| process::keep_end(&mut stderr, bytes);
    let limits = Limits { timeout, stop };
    let done = process::output(command, input, limits, MAX_OUTPUT, complaints);
    let (end, stdout) = done.map_err(|error| cannot_run(command, error))?;
    Output::new((end, Captured { stdout, stderr }), timeout)
}

/// The error for a program that cannot be run.
#[must_use]
pub fn cannot_run(command: &Command, source: std::io::Error) -> Error {
    Error::Run { program: command.get_program().to_string_lossy().into_owned(), source }
}
