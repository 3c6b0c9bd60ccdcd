//! Runs the commands of `[notify]` for each new entry of the history, after the lock is released.
//!
//! A command that fails or times out causes a warning and changes nothing else.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Instant, SystemTime};

use bluegreen_text::{printable, reason, seconds, timestamp};

use crate::config::Step;
use crate::deploy::context::DeployContext;
use crate::deploy::journald;
use crate::deploy::steps::{how, note, shell};
use crate::error::Result;
use crate::pusher::message::Message;
use crate::site::history::{self, Entry};
use crate::site::{LockedSite, Site, logs};
use bluegreen_process as process;

/// The number of bytes at the end of a command's output that are searched for the reason of a failure.
const TAIL: usize = 1000;

impl DeployContext<'_> {
    /// Appends an entry to the history, and keeps it for [`DeployContext::notify`], even if appending fails.
    pub fn record(&self, site: &LockedSite, entry: Entry) -> Result<()> {
        let entry = entry.bounded();
        let result = history::append(site, &entry);
        journald::send(Path::new(journald::SOCKET), &entry, &self.name, site.root());
        self.unreported.borrow_mut().push(entry);
        result
    }

    /// Runs `[notify]` for all entries passed to [`DeployContext::record`], and returns warnings. The caller must have
    /// released the lock, so that no deployment waits for these commands.
    pub fn notify(&self) -> Vec<String> {
        let entries = self.unreported.take();
        // A command that changes the site would trigger itself endlessly.
        if self.caller.is_notice || entries.is_empty() || self.config.notify.iter().next().is_none() {
            return Vec::new();
        }
        let log = Site::open(&self.config.site).and_then(|site| logs::open_notices(&site));
        let broken = log.as_ref().err().map(ToString::to_string);
        let tell = |entry: &Entry| {
            let lines = self.config.notify.iter();
            lines.filter_map(|line| self.run_notice(line, entry, log.as_ref().ok())).collect::<Vec<_>>()
        };
        broken.into_iter().chain(entries.iter().flat_map(tell)).collect()
    }

    /// Runs one command, and returns the reason if it fails.
    fn run_notice(&self, line: &Step, entry: &Entry, log: Option<&File>) -> Option<String> {
        self.report.detail(Message::Phase(&format!("notify: {}", line.name)));
        note(log, format_args!("--- {} notify: {}", timestamp(SystemTime::now()), line.line()));
        let (started, mut tail) = (Instant::now(), Vec::new());
        let end = self.command(line, entry).and_then(|(mut command, text)| {
            process::run_with_stdin(&mut command, &text, line.timeout, |bytes| {
                log.map_or(Ok(()), |mut log| log.write_all(bytes)).unwrap_or_default();
                tail.extend_from_slice(bytes);
                tail.drain(..tail.len().saturating_sub(TAIL));
            })
        });
        let how =
            end.map_or_else(|error| Some(format!("cannot run: {}", reason(&error))), |end| how(end, line));
        note(log, format_args!("--- {}, {}", how.as_deref().unwrap_or("done"), seconds(started.elapsed())));
        how.map(|how| {
            let said = String::from_utf8_lossy(&tail);
            let last = said.lines().rfind(|line| !line.trim().is_empty());
            let last = last.map(|last| format!(": {}", last.trim())).unwrap_or_default();
            format!("notice `{}` {how}{last}", printable(&line.name))
        })
    }

    /// Prepares a command and its standard input.
    fn command(&self, line: &Step, entry: &Entry) -> std::io::Result<(std::process::Command, Vec<u8>)> {
        let value = serde_json::to_value(entry)?;
        let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let mut command = shell(self, line);
        command
            .env("BLUEGREEN_NOTICE", entry.sentence(&self.name))
            .env("BLUEGREEN_ACTION", word("action"))
            .env("BLUEGREEN_OUTCOME", word("outcome"));
        let mut text = serde_json::to_vec(entry)?;
        text.push(b'\n');
        Ok((command, text))
    }
}
