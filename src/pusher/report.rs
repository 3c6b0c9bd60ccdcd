//! The streams to the pusher, on which printing never fails and never blocks.
//!
//! The deployment goes on whether anybody listens or not. When a client dies, `git receive-pack` keeps the
//! hook's pipe open but no longer reads it, so a plain `write` would hang for good once 64 KiB have piled up,
//! and with it every later push. Therefore a write waits for room only as long as patience lasts, and later
//! lines are dropped.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use crate::checkout::monitor::Notice;
use crate::error::Error;
use crate::pusher::message::Message;
use crate::text::escape_controls;

/// The time that a report waits for its reader, all lines together, before it drops lines.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most that one write may pass on so that `poll`'s answer holds: Linux promises a pipe that is
/// ready room for `PIPE_BUF` bytes.
const PIPE_BUF: usize = 4096;

/// The streams to the person who waits for the result; under git both are one pipe.
#[derive(Debug)]
pub struct Report {
    out: OwnedFd,
    err: OwnedFd,
    patience: Cell<Duration>,
    /// The same for the output of children, which must not use up what the result needs.
    output_patience: Cell<Duration>,
    started: Instant,
    is_verbose: Cell<bool>,
    /// The text of the progress line, which is ended before another line begins.
    progress: RefCell<String>,
}

impl Report {
    /// Prints results on `out`, problems and progress on `err`.
    #[must_use]
    pub fn new(out: OwnedFd, err: OwnedFd) -> Self {
        Self {
            out,
            err,
            patience: Cell::new(PATIENCE),
            output_patience: Cell::new(PATIENCE),
            started: Instant::now(),
            is_verbose: Cell::new(false),
            progress: RefCell::default(),
        }
    }

    /// Prints a line.
    pub fn line(&self, line: impl Display) {
        self.end_progress();
        self.send(self.out.as_fd(), &line.to_string(), "\n");
    }

    /// Prints details too from now on.
    pub fn be_verbose(&self) {
        self.is_verbose.set(true);
    }

    /// Prints a line with its time where the pusher asked for details.
    pub fn detail(&self, line: impl Display) {
        if self.is_verbose.get() {
            self.line(format_args!("[{:.3} s] {line}", self.started.elapsed().as_secs_f64()));
        }
    }

    /// Prints a line of a child; returns whether it was passed on.
    pub fn output(&self, line: impl Display) -> bool {
        self.end_progress();
        send(&self.output_patience, self.out.as_fd(), &line.to_string(), "\n")
    }

    /// Prints an error and its hint.
    pub fn error(&self, error: &Error) {
        self.problem("error", error);
        if let Some(hint) = error.hint() {
            self.hint(hint);
        }
    }

    /// Prints something that does not stop the work.
    pub fn warning(&self, warning: impl Display) {
        self.problem("warning", warning);
    }

    /// Prints something that the reader can do.
    pub fn hint(&self, hint: impl Display) {
        self.problem("hint", hint);
    }

    fn problem(&self, label: &str, text: impl Display) {
        self.end_progress();
        self.send(self.err.as_fd(), &format!("{label}: {text}"), "\n");
    }

    /// Prints a notice of a checkout.
    pub fn notice(&self, notice: &Notice) {
        match *notice {
            Notice::Progress { done, total } => self.progress(Message::Writing { done, total }),
            Notice::End => self.end_progress(),
            Notice::Complaint(text) => self.warning(text),
            Notice::Pointers(paths) => self.warning(Message::Pointers(paths)),
        }
    }

    /// Shows progress in place, as git does: the line ends with `\r` and the next one covers it.
    pub fn progress(&self, line: impl Display) {
        let line = line.to_string();
        if *self.progress.borrow() == line {
            return;
        }
        self.send(self.err.as_fd(), &line, "\r");
        self.progress.replace(line);
    }

    /// Ends the progress line, where one is shown, so that it stays.
    pub fn end_progress(&self) {
        let line = self.progress.take();
        if !line.is_empty() {
            self.send(self.err.as_fd(), &line, "\n");
        }
    }

    fn send(&self, to: BorrowedFd<'_>, line: &str, end: &str) {
        send(&self.patience, to, line, end);
    }
}

/// Writes one line with its control characters escaped, as far as the reader takes it.
fn send(patience: &Cell<Duration>, to: BorrowedFd<'_>, line: &str, end: &str) -> bool {
    let mut bytes = escape_controls(line);
    bytes.push_str(end);
    for piece in bytes.as_bytes().chunks(PIPE_BUF) {
        if !wait_for_room(patience, to) {
            log::info!("nobody reads, dropped: {line}");
            return false;
        }
        if let Err(error) = rustix::io::write(to, piece) {
            log::info!("cannot print ({error}): {line}");
            return false;
        }
    }
    true
}

/// Waits until a pipe has room, as long as patience lasts.
fn wait_for_room(patience: &Cell<Duration>, to: BorrowedFd<'_>) -> bool {
    let left = patience.get();
    let start = Instant::now();
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    let mut descriptors = [PollFd::new(&to, PollFlags::OUT)];
    let ready = retry_on_intr(|| poll(&mut descriptors, Some(&timeout))).unwrap_or(0) > 0;
    patience.set(left.saturating_sub(start.elapsed()));
    ready && !descriptors[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pipe() -> (std::io::PipeReader, Report) {
        let (reader, writer) = std::io::pipe().unwrap();
        let report = Report::new(writer.try_clone().unwrap().into(), writer.into());
        (reader, report)
    }

    #[test]
    fn a_line_cannot_move_the_cursor_of_a_terminal() {
        let (mut reader, report) = pipe();
        report.line("tab\tstays, \x1b[2J goes\r");
        drop(report);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "tab\tstays, \\u{1b}[2J goes\\r\n");
    }

    #[test]
    fn progress_ends_before_the_next_line() {
        let (mut reader, report) = pipe();
        report.progress("Writing files:  45% (2250/5000)");
        report.progress("Writing files:  45% (2250/5000)");
        report.line("next");
        drop(report);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "Writing files:  45% (2250/5000)\rWriting files:  45% (2250/5000)\nnext\n");
    }

    #[test]
    fn a_reader_that_does_not_read_costs_patience_once() {
        let (reader, report) = pipe();
        let start = Instant::now();
        for _ in 0..200 {
            report.line("x".repeat(1000));
        }
        assert!(start.elapsed() >= PATIENCE, "64 KiB of pipe cannot hold 200 KB");
        assert!(start.elapsed() < PATIENCE * 3);
        drop(reader);
        report.line("a closed pipe is no error either");
    }
}
