//! The commands of `[check] run` and `[watch] run`: the user's own shell commands, whose exit status decides.

use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use crate::error::Result;
use crate::program::{self, Output};
use bluegreen_process::signals::Stop;
use bluegreen_process::{self as process, Task};

/// The maximum number of bytes read from standard output. The command should write to standard error instead.
const MAX_OUTPUT: usize = 64 * 1024;

/// A shell command, and what it is run with.
#[derive(Debug, Clone)]
pub struct UserCommand<'a> {
    pub line: &'a str,
    /// The directory of the config.
    pub folder: &'a Path,
    /// Its variables, besides those of the environment.
    pub variables: &'a [(&'static str, String)],
    pub timeout: Duration,
}

impl UserCommand<'_> {
    /// Starts it. Everything that it prints is captured as standard error, of which the last line is the reason of a
    /// failure.
    pub fn start(&self) -> Result<Task> {
        let mut shell = process::command("sh");
        shell.arg("-c").arg(format!("exec >&2\n{}", self.line));
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if !self.folder.as_os_str().is_empty() {
            shell.current_dir(self.folder);
        }
        Task::start(&mut shell, self.timeout, MAX_OUTPUT).map_err(|error| program::cannot_run(&shell, error))
    }

    /// Returns the reason if a task has ended with a failure.
    pub fn poll(&self, task: &mut Task, stop: Option<&Stop>) -> Result<Poll<Option<String>>> {
        let failed = |error| program::cannot_run(&process::command("sh"), error);
        let done = task.advance(stop).map_err(failed)?;
        let Some(done) = done else { return Ok(Poll::Pending) };
        let output = Output::new(done, self.timeout)?;
        Ok(Poll::Ready((!output.is_ok()).then(|| output.words())))
    }

    /// Runs it, and returns the reason if it fails.
    pub fn run(&self, stop: &Stop) -> Result<Option<String>> {
        let failed = |error| program::cannot_run(&process::command("sh"), error);
        let done = self.start()?.finish(Some(stop)).map_err(failed)?;
        let output = Output::new(done, self.timeout)?;
        Ok((!output.is_ok()).then(|| output.words()))
    }
}

/// Returns the files that a command names: a change of one of them must be trusted again.
#[must_use]
pub fn named_files(line: &str, folder: &Path) -> Vec<PathBuf> {
    let words = line.split(|char: char| char.is_whitespace() || "'\"`;&|<>()".contains(char));
    words
        .filter(|word| !word.is_empty())
        .map(|word| folder.join(word))
        .filter(|path| path.is_file())
        .collect()
}
