//! The programs that a promotion runs: `ssh`, `curl`, `git` and the switch. Each has a process group of its
//! own, so that Ctrl-C at the terminal is for `promote` alone, and a time limit.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use bluegreen_text::{escape_controls, reason};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Result};
use crate::run::signals::Stop;

const TICK: Duration = Duration::from_millis(5);

/// The output and the end of a program.
#[derive(Debug)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, without the last line end.
    pub stderr: String,
    /// The status that it exited with; `None` if its time was up or a signal ended it.
    pub status: Option<i32>,
    /// The time that it had, where that was up.
    too_late: Option<Duration>,
}

impl Output {
    /// Returns whether it ended with status 0.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == Some(0)
    }

    /// The end in words, with the last line that it printed as an error.
    #[must_use]
    pub fn words(&self) -> String {
        self.words_with(1)
    }

    /// The same, with so many lines.
    #[must_use]
    pub fn words_with(&self, lines: usize) -> String {
        let status = match (self.status, self.too_late) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(limit)) => format!("did not end within {}", humantime::format_duration(limit)),
            (None, None) => "was ended by a signal".into(),
        };
        let is_said = |line: &&str| !line.starts_with("hint:") && !line.trim().is_empty();
        let said: Vec<&str> = self.stderr.lines().filter(is_said).collect();
        let said = said[said.len().saturating_sub(lines)..].iter();
        let said = said.map(|line| escape_controls(line.trim_start_matches("error: ")));
        std::iter::once(status).chain(said).collect::<Vec<_>>().join(": ")
    }
}

/// A command that is yet to run.
#[must_use]
pub fn command(program: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let mut command = Command::new(program);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a program to its end, or to its limit, or until we are asked to stop.
pub fn run(command: &mut Command, limit: Duration, stop: Option<&Stop>) -> Result<Output> {
    let started = Instant::now();
    let mut child = command.spawn().map_err(|error| missing(command, &error))?;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let (status, too_late) = loop {
        match child.try_wait().map_err(|error| missing(command, &error))? {
            Some(status) => break (status.code(), None),
            None if started.elapsed() >= limit => {
                end(&mut child);
                break (None, Some(limit));
            }
            None => {}
        }
        if let Some(Err(error)) = stop.map(Stop::check) {
            end(&mut child);
            return Err(error);
        }
        thread::sleep(TICK);
    };
    // A process that it left in the background may hold the pipe open for ever.
    let text = |receiver: Receiver<Vec<u8>>| {
        let bytes = receiver.recv_timeout(Duration::from_millis(500)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Output { stdout: text(stdout), stderr: text(stderr).trim_end().to_owned(), status, too_late })
}

/// Ends a program and all that it started.
pub fn end(child: &mut Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

/// The error for a program that cannot be started.
#[must_use]
pub fn missing(command: &Command, error: &io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    let hint = if program.contains('/') {
        format!("it must be there and executable: `ls -l {program}`")
    } else {
        format!(
            "install it: `apt-get install {}`",
            if program == "ssh" { "openssh-client" } else { &program }
        )
    };
    Error::Promotion { problem: format!("cannot run `{program}`: {}", reason(error)), hint }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}
