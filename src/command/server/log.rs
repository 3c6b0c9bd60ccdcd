//! `log [RELEASE]`: prints the output of a release's steps.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read, Write, stdout};
use std::path::Path;
use std::thread;
use std::time::Duration;

use bluegreen_text::{escape_controls, without_colors};

use crate::error::{Error, Result};
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::release::ReleaseName;
use bluegreen_server::site::{Holder, Site, history, logs};

/// The interval between reads of a followed log.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Prints a release's log, by default the newest one. With `follow`, keeps printing while a deployment runs.
pub fn run(server: &DeployContext, release: Option<&str>, follow: bool) -> Result<()> {
    let site = Site::open(&server.config.site)?;
    let release: Option<ReleaseName> = release.map(str::parse).transpose()?;
    let (mut shown, mut open) = (None, None);
    let mut printer = Printer::default();
    loop {
        // Read the lock before the log, so that the last lines of a deployment are not missed.
        let running = site.holder();
        let wanted =
            release.clone().map_or_else(|| chosen(&site, running.as_ref(), follow), |name| Ok(Some(name)))?;
        if let Some(name) = wanted.filter(|name| shown.as_ref() != Some(name)) {
            open = logs::read(&site, &name).map_err(Error::io("read", site.log_path(&name)))?;
            shown = open.is_some().then_some(name);
        }
        if let (Some(file), Some(name)) = (&mut open, &shown)
            && !printer.print_rest(file, &site.log_path(name))?
        {
            return Ok(());
        }
        if running.is_none() || !follow {
            printer.finish()?;
            let missing = || Error::NoLog(release.as_ref().map(ToString::to_string));
            return shown.map(|_| ()).ok_or_else(missing);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Chooses the default log: that of the running deployment, or else that of the last attempt to activate a release. After a
/// failed verification, the latter is not the most recently written log, because the previous release's services are
/// restarted.
fn chosen(site: &Site, running: Option<&Holder>, follow: bool) -> Result<Option<ReleaseName>> {
    let begun = running.and_then(|holder| humantime::parse_rfc3339(&holder.since).ok());
    let newest = |begun| logs::newest(site, begun).map_err(Error::io("read", site.logs_path()));
    let written = begun.map_or(Ok(None), |begun| newest(Some(begun)))?;
    if written.is_none() && !(follow && begun.is_some()) {
        let has_log = |name: &ReleaseName| matches!(logs::read(site, name), Ok(Some(_)));
        let last = history::read(site)?.into_iter().rev().find_map(|entry| entry.release);
        if let Some(name) = last.and_then(|name| name.parse().ok()).filter(has_log) {
            return Ok(Some(name));
        }
        return newest(None);
    }
    Ok(written)
}

/// A log that is copied to standard output piece by piece.
#[derive(Default)]
struct Printer {
    /// The end of the last piece, if it may belong to the next one.
    held: Vec<u8>,
}

impl Printer {
    /// Prints the rest of a file. Returns false if the reader has closed the output.
    fn print_rest(&mut self, file: &mut File, path: &Path) -> Result<bool> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let length = file.read(&mut buffer).map_err(Error::io("read", path))?;
            self.held.extend_from_slice(&buffer[..length]);
            let end = self.held.len() - unfinished(&self.held);
            let piece: Vec<u8> = self.held.drain(..end).collect();
            if !print(&piece)? {
                return Ok(false);
            }
            if length == 0 {
                return Ok(true);
            }
        }
    }

    /// Prints the buffered end of the last piece.
    fn finish(self) -> Result<()> {
        print(&self.held).map(drop)
    }
}

pub(super) fn print(bytes: &[u8]) -> Result<bool> {
    let mut out = stdout().lock();
    match out.write_all(escaped(bytes).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).map_err(Error::io("write", "standard output")),
    }
}

/// Returns how many bytes at the end may be the start of a character, a color, or a line end.
fn unfinished(bytes: &[u8]) -> usize {
    const LONGEST_COLOR: usize = 32;
    let tail = &bytes[bytes.len().saturating_sub(LONGEST_COLOR)..];
    let is_unfinished = |at: &usize| match &tail[*at..] {
        [b'\r' | 0x1b] => true,
        [0x1b, b'[', parameters @ ..] => {
            parameters.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'))
        }
        [0xc0..=0xff, ..] => {
            std::str::from_utf8(&tail[*at..]).is_err_and(|error| error.error_len().is_none())
        }
        _ => false,
    };
    (0..tail.len()).find(is_unfinished).map_or(0, |at| tail.len() - at)
}

/// Formats a piece of a log: removes colors, and escapes all other control characters. Some terminals interpret the bytes
/// from 0x80 to 0x9f as controls, so bytes that are not UTF-8 are escaped as well.
fn escaped(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in without_colors(bytes).utf8_chunks() {
        let lines: Vec<String> = chunk
            .valid()
            .split('\n')
            .map(|line| escape_controls(line.strip_suffix('\r').unwrap_or(line)))
            .collect();
        safe.push_str(&lines.join("\n"));
        for byte in chunk.invalid() {
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_has_no_control_characters() {
        assert_eq!(escaped(b"a\tb\x1b[2J\r\x7f\r\n"), "a\tb\\u{1b}[2J\\r\\u{7f}\n");
        assert_eq!(escaped(b"\x1b[31mred\x1b[0m \x1b]0;title\x07"), "red \\u{1b}]0;title\\u{7}");
        assert_eq!(escaped("caf\u{e9} \u{9b}2J \u{202e}abc".as_bytes()), "caf\u{e9} \\u{9b}2J \\u{202e}abc");
        assert_eq!(escaped(b"\x9b2J \xe9 \xc2"), "\\x9b2J \\xe9 \\xc2");
    }

    #[test]
    fn a_piece_may_end_anywhere() {
        let text = "a\r\n\x1b[1;31mred\x1b[0m caf\u{e9} \u{1f600}\u{9b} \x1b[2J\r\n".as_bytes();
        for cut in 0..=text.len() {
            let (mut held, mut printed) = (Vec::new(), String::new());
            for piece in [&text[..cut], &text[cut..]] {
                held.extend_from_slice(piece);
                let end = held.len() - unfinished(&held);
                printed += &escaped(&held.drain(..end).collect::<Vec<_>>());
            }
            assert_eq!(printed + &escaped(&held), escaped(text), "{cut}");
        }
        assert_eq!(unfinished(&[b"\x1b[".to_vec(), vec![b'1'; 100]].concat()), 0, "too long for a color");
    }
}
