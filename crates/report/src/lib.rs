//! Printing to the pusher, which never fails and never blocks for long.
//!
//! After a client has died, `git receive-pack` keeps the hook's pipe open but no longer reads it. A plain `write` would
//! block forever once the pipe is full (64 KiB), and every later push would wait for the lock. All writes together
//! therefore wait for a slow reader only for a limited time. After that, lines are dropped.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use anstyle::{AnsiColor, Style};
use bluegreen_text::explain::{Explain, IoError};
use bluegreen_text::{escape_controls, timestamp, truncated};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

/// The time for which a report waits for a slow reader, all lines together, before it drops lines.
const SLOW_READER_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum size of one write: if `poll` reports a pipe as writable, Linux guarantees space for this many.
const PIPE_BUF: usize = 4096;

/// The maximum length of a printed line, in characters. Some texts have shorter limits.
const MAX_LINE_CHARS: usize = 8000;

/// The form of printed lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// A JSON object for each line, with `time`, `level`, and `message`. Progress is not printed.
    Json,
}

/// The output streams to the pusher or operator. Under git both are one pipe.
#[derive(Debug)]
pub struct Report {
    out: OwnedFd,
    err: OwnedFd,
    /// The time for which lines may still wait for a slow reader.
    time_left: Cell<Duration>,
    /// The time for the output of steps, which must not use up the time for the result.
    output_time_left: Cell<Duration>,
    started: Instant,
    is_verbose: Cell<bool>,
    is_colored: bool,
    format: Format,
    /// The progress line that is shown now. It must end before another line begins.
    progress: RefCell<String>,
}

impl Report {
    /// Creates a report that prints results on `out`, problems and progress on `err`.
    #[must_use]
    pub fn new(out: OwnedFd, err: OwnedFd) -> Self {
        Self {
            out,
            err,
            time_left: Cell::new(SLOW_READER_TIMEOUT),
            output_time_left: Cell::new(SLOW_READER_TIMEOUT),
            started: Instant::now(),
            is_verbose: Cell::new(false),
            is_colored: false,
            format: Format::Text,
            progress: RefCell::default(),
        }
    }

    /// Colors the labels of problems.
    #[must_use]
    pub fn colored(self, is_colored: bool) -> Self {
        Self { is_colored, ..self }
    }

    /// Sets the form of the lines.
    #[must_use]
    pub fn formatted(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// Creates a report that prints nothing, for output that consists of JSON alone.
    pub fn quiet() -> Result<Self, IoError> {
        let open = || File::options().write(true).open("/dev/null").map(OwnedFd::from);
        let opened = open().and_then(|out| Ok(Self::new(out, open()?)));
        opened.map_err(IoError::on("open", "/dev/null"))
    }

    /// Creates a report that prints everything on standard error, while JSON is printed on standard output.
    pub fn beside_json(&self) -> Result<Self, IoError> {
        let copy = || self.err.try_clone();
        let copied = copy()
            .and_then(|out| Ok(Self::new(out, copy()?).colored(self.is_colored).formatted(self.format)));
        copied.map_err(IoError::on("open", "standard error"))
    }

    /// Returns whether standard error is a terminal, where a progress line can be replaced.
    #[must_use]
    pub fn is_at_terminal(&self) -> bool {
        self.err.is_terminal()
    }

    /// Prints a line.
    pub fn line(&self, line: impl Display) {
        self.put(&self.time_left, self.out.as_fd(), ["info", ""], &line.to_string());
    }

    /// Turns on [`Report::detail`].
    pub fn be_verbose(&self) {
        self.is_verbose.set(true);
    }

    /// Prints a line with the elapsed time, if the push option `verbose` requests it.
    pub fn detail(&self, line: impl Display) {
        if self.is_verbose.get() {
            self.line(format_args!("[{:.3} s] {line}", self.started.elapsed().as_secs_f64()));
        }
    }

    /// Prints a line of a step's output; returns false if it was dropped.
    pub fn output(&self, line: impl Display) -> bool {
        self.put(&self.output_time_left, self.out.as_fd(), ["output", ""], &line.to_string())
    }

    /// Prints an error and its hint.
    pub fn error(&self, error: &impl Explain) {
        self.problem("error", error);
        if let Some(hint) = error.hint() {
            self.hint(hint);
        }
    }

    /// Prints a problem that does not stop the work.
    pub fn warning(&self, warning: impl Display) {
        self.problem("warning", warning);
    }

    /// Prints something that the reader can do.
    pub fn hint(&self, hint: impl Display) {
        self.problem("hint", hint);
    }

    fn problem(&self, level: &str, text: impl Display) {
        let style = match level {
            _ if !self.is_colored => Style::new(),
            "error" => AnsiColor::Red.on_default().bold(),
            "warning" => AnsiColor::Yellow.on_default().bold(),
            _ => AnsiColor::Cyan.on_default().bold(),
        };
        let label = format!("{style}{level}:{style:#} ");
        self.put(&self.time_left, self.err.as_fd(), [level, &label], &text.to_string());
    }

    /// Prints a line with its label, or as JSON with its level. Returns false if it was dropped.
    fn put(
        &self,
        time_left: &Cell<Duration>,
        to: BorrowedFd<'_>,
        [level, label]: [&str; 2],
        line: &str,
    ) -> bool {
        self.end_progress();
        if self.format == Format::Text {
            return send(time_left, to, [label, line, "\n"]);
        }
        let (time, message) = (timestamp(SystemTime::now()), truncated(line, MAX_LINE_CHARS));
        let object = serde_json::json!({ "time": time, "level": level, "message": message });
        write(time_left, to, &format!("{object}\n"))
    }

    /// Shows progress as git does: the line ends with `\r`, and the next one overwrites it.
    pub fn progress(&self, line: impl Display) {
        let line = line.to_string();
        if self.format == Format::Json || *self.progress.borrow() == line {
            return;
        }
        self.send(self.err.as_fd(), &line, "\r");
        self.progress.replace(line);
    }

    /// Ends the progress line, if there is one, so that the next line does not overwrite it.
    pub fn end_progress(&self) {
        let line = self.progress.take();
        if !line.is_empty() {
            self.send(self.err.as_fd(), &line, "\n");
        }
    }

    fn send(&self, to: BorrowedFd<'_>, line: &str, end: &str) {
        send(&self.time_left, to, ["", line, end]);
    }
}

/// Writes a label, a line with control characters escaped, and an end; returns false if the reader did not take all
/// of it.
fn send(time_left: &Cell<Duration>, to: BorrowedFd<'_>, [label, line, end]: [&str; 3]) -> bool {
    let line = truncated(line, MAX_LINE_CHARS);
    write(time_left, to, &[label, &escape_controls(&line), end].concat())
}

/// Writes a text in pieces for which a pipe has room; returns false if the reader did not take all of it.
fn write(time_left: &Cell<Duration>, to: BorrowedFd<'_>, text: &str) -> bool {
    for piece in text.as_bytes().chunks(PIPE_BUF) {
        if !wait_for_room(time_left, to) {
            log::info!("the reader is too slow, dropped:  {text}");
            return false;
        }
        if let Err(error) = rustix::io::write(to, piece) {
            log::info!("cannot print ({error}): {text}");
            return false;
        }
    }
    true
}

/// Waits until a pipe has room, and subtracts the time from `time_left`.
fn wait_for_room(time_left: &Cell<Duration>, to: BorrowedFd<'_>) -> bool {
    let left = time_left.get();
    let start = Instant::now();
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    let mut descriptors = [PollFd::new(&to, PollFlags::OUT)];
    let ready = retry_on_intr(|| poll(&mut descriptors, Some(&timeout))).unwrap_or(0) > 0;
    time_left.set(left.saturating_sub(start.elapsed()));
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
    fn labels_are_colored_on_request_and_lines_have_a_maximum() {
        let (mut reader, report) = pipe();
        let report = report.colored(true);
        report.warning("\x1b[31mx");
        report.warning("x".repeat(100_000));
        drop(report);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let (first, second) = text.split_once('\n').unwrap();
        assert_eq!(first, "\x1b[1m\x1b[33mwarning:\x1b[0m \\u{1b}[31mx");
        assert!(second.ends_with("xxx...\n") && second.len() < 2 * MAX_LINE_CHARS);
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
    fn json_has_one_object_for_each_line_and_no_progress() {
        let (mut reader, report) = pipe();
        let report = report.colored(true).formatted(Format::Json);
        report.progress("Writing files:  45%");
        report.line("two\nlines \x1b[2J");
        report.warning("careful");
        report.output("from a step");
        report.beside_json().unwrap().hint("do it");
        drop(report);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found: Vec<_> = objects
            .iter()
            .map(|object| ["level", "message"].map(|key| object[key].as_str().unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                ["info", "two\nlines \x1b[2J"],
                ["warning", "careful"],
                ["output", "from a step"],
                ["hint", "do it"]
            ]
        );
        assert!(objects.iter().all(|object| object["time"].as_str().unwrap().ends_with('Z')), "{text}");
    }

    #[test]
    fn a_reader_that_does_not_read_costs_the_timeout_once() {
        let (reader, report) = pipe();
        let start = Instant::now();
        for _ in 0..200 {
            report.line("x".repeat(1000));
        }
        assert!(start.elapsed() >= SLOW_READER_TIMEOUT, "64 KiB of pipe cannot hold 200 KB");
        assert!(start.elapsed() < SLOW_READER_TIMEOUT * 3);
        drop(reader);
        report.line("a closed pipe is no error either");
    }
}
