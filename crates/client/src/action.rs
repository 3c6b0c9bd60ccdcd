//! Runs `rollback`, `deploy`, and `cancel` on every server of a side, and follows the log of a server.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::program::{self, Output};
use crate::remote::Remote;
use bluegreen_process::dialog::{Dialog, Received};
use bluegreen_process::signals::Stop;
use bluegreen_process::{self as process, Captured};
use bluegreen_sys::concurrent;
use bluegreen_text::without_colors;

/// The timeout of a command: steps have timeouts of their own.
const TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The interval at which following a log checks for a stop request.
const STOP_INTERVAL: Duration = Duration::from_millis(500);

/// The maximum length of a line, in bytes. The rest of a longer line is dropped.
const MAX_LINE: usize = 4096;

/// A command that changes a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Goes back to an older release.
    Rollback,
    /// Deploys the tip of the branch again.
    Deploy,
    /// Stops the running deployment.
    Cancel,
}

impl Action {
    /// Returns the command's name.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Deploy => "deploy",
            Self::Cancel => "cancel",
        }
    }

    /// Runs the command on all servers in parallel. `print` receives each line of output with the index of its server.
    #[must_use]
    pub fn run(
        self,
        servers: &[Remote],
        stop: &Stop,
        print: &(dyn Fn(usize, &str) + Sync),
    ) -> Vec<Result<()>> {
        let all = servers.iter().enumerate();
        concurrent::map(all, |(at, server)| self.run_on(server, stop, &|line| print(at, line)))
    }

    fn run_on(self, server: &Remote, stop: &Stop, print: &dyn Fn(&str)) -> Result<()> {
        let mut command = server.command(&[self.command()])?;
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        let ran = process::run(&mut command, TIMEOUT, Some(stop), |bytes| {
            process::keep_end(&mut said, bytes);
            lines.take(bytes, print);
        });
        lines.end(print);
        let end = ran.map_err(|error| program::cannot_run(&command, error))?;
        let output = Output::new((end, Captured { stdout: Vec::new(), stderr: said }), TIMEOUT)?;
        if output.is_ok() { Ok(()) } else { Err(server.failed(self.command(), &output)) }
    }
}

/// Follows the log of the deployment that runs on a server, until it ends or a stop is requested.
pub fn follow(server: &Remote, stop: &Stop, print: &dyn Fn(&str)) -> Result<()> {
    let mut command = server.command(&["log", "--follow"])?;
    let mut dialog = Dialog::start(&mut command).map_err(|error| program::cannot_run(&command, error))?;
    while stop.check().is_ok() {
        match dialog.receive(Instant::now() + STOP_INTERVAL, Some(stop)) {
            Ok(Received::Line(line)) => print(&shown(&line)),
            Ok(Received::Nothing) => {}
            Ok(Received::End) => break,
            Err(error) => return Err(server.invalid_response(&error)),
        }
    }
    Ok(())
}

/// Returns the visible part of a line: without colors, and only the text after the last carriage return.
fn shown(line: &[u8]) -> String {
    let line = &line[..line.len().min(MAX_LINE)];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last = line.rsplit(|&byte| byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(&without_colors(last)).into_owned()
}

/// Splits output into lines of limited length.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Adds a piece of output, and prints each complete line.
    pub fn take(&mut self, bytes: &[u8], print: &dyn Fn(&str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            let part = text.unwrap_or(piece);
            let space = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(space)]);
            if text.is_some() {
                print(&shown(&std::mem::take(&mut self.line)));
            }
        }
    }

    /// Prints the last line if it is not terminated.
    pub fn end(&mut self, print: &dyn Fn(&str)) {
        if !self.line.is_empty() {
            print(&shown(&std::mem::take(&mut self.line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn lines_are_complete_bounded_and_plain() {
        let printed = RefCell::new(Vec::new());
        let print = |line: &str| printed.borrow_mut().push(line.to_owned());
        let mut lines = Lines::default();
        for bytes in [&b"\x1b[31mred\x1b[0m\r\n50%\r10"[..], b"0%\nlast"] {
            lines.take(bytes, &print);
        }
        lines.end(&print);
        lines.take(&vec![b'x'; 100_000], &print);
        lines.end(&print);
        let printed = printed.into_inner();
        assert_eq!(printed[..3], ["red", "100%", "last"]);
        assert_eq!(printed[3].len(), MAX_LINE);
    }
}
