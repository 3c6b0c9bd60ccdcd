//! Complaints of a git, read without waiting for whoever else holds its standard error.

use std::io::Read;
use std::process::ChildStderr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The time in which a process that a git left in the background may still print: as much as a step has.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// The standard error of a git, read while it runs.
pub(super) struct Said {
    chunks: Receiver<Vec<u8>>,
}

impl Said {
    /// Begins to read, so that git never waits for a reader.
    pub(super) fn by(stderr: Option<ChildStderr>) -> Self {
        let (sender, chunks) = channel();
        // Not waited for: a daemon that a filter or ssh started may hold the pipe for as long as it lives.
        thread::spawn(move || {
            let Some(mut stderr) = stderr else { return };
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { chunks }
    }

    /// Returns all complaints, once git itself has ended.
    pub(super) fn until_end(self) -> Vec<u8> {
        let end = Instant::now() + LAST_WORDS;
        let mut text = Vec::new();
        loop {
            match self.chunks.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(chunk) => text.extend(chunk),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return text,
            }
        }
    }
}
