//! `log [RELEASE]`: prints the output of a release's steps.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, Write, stdout};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::deploy::server::Server;
use crate::error::{Error, Result};
use crate::release::ReleaseName;
use crate::site::Site;
use crate::site::logs;

/// The pause between two reads of a log that is followed.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Prints the log of a release, by default the newest one; `follow` keeps printing while a deployment runs.
pub fn run(server: &Server, release: Option<&str>, follow: bool) -> Result<()> {
    let site = Site::open(&server.config.site)?;
    let release: Option<ReleaseName> = release.map(str::parse).transpose()?;
    let (mut shown, mut open) = (None, None);
    loop {
        // The lock is read before the log, so that the last lines of a deployment are not missed.
        let running = site.holder().filter(|_| follow);
        let begun = running.as_ref().and_then(|holder| humantime::parse_rfc3339(&holder.since).ok());
        let newest = || logs::newest(&site, begun).map_err(Error::io("read", site.logs_path()));
        let wanted = release.clone().map_or_else(newest, |name| Ok(Some(name)))?;
        if let Some(name) = wanted.filter(|name| shown.as_ref() != Some(name)) {
            open = logs::read(&site, &name).map_err(Error::io("read", site.log_path(&name)))?;
            shown = open.is_some().then_some(name);
        }
        if let (Some(file), Some(name)) = (&mut open, &shown)
            && !print_rest(file, &site.log_path(name))?
        {
            return Ok(());
        }
        if running.is_none() {
            let missing = || Error::NoLog(release.as_ref().map(ToString::to_string));
            return shown.map(|_| ()).ok_or_else(missing);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Prints the rest of a file; returns false once nobody reads the output.
fn print_rest(file: &mut File, path: &Path) -> Result<bool> {
    let mut out = stdout().lock();
    let is_terminal = out.is_terminal();
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = file.read(&mut buffer).map_err(Error::io("read", path))?;
        let bytes = &buffer[..length];
        let written = if is_terminal { out.write_all(&escaped(bytes)) } else { out.write_all(bytes) };
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            written => written.map_err(Error::io("write", "standard output"))?,
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Escapes control characters as `less` does: `^[`, `<U+009B>`. Some terminals obey C1 controls too, so
/// these are escaped both as UTF-8 and as single bytes.
fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut safe = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' | '\t' => safe.push(character as u8),
                _ if character.is_ascii_control() => safe.extend([b'^', character as u8 ^ 0x40]),
                _ if character.is_control() => {
                    safe.extend(format!("<U+{:04X}>", u32::from(character)).into_bytes());
                }
                _ => safe.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for &byte in chunk.invalid() {
            match byte {
                0x80..=0x9f => safe.extend(format!("<{byte:02X}>").into_bytes()),
                _ => safe.push(byte),
            }
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_terminal_gets_no_control_characters() {
        let escaped = super::escaped;
        assert_eq!(escaped(b"a\tb\x1b[2J\r\x7f\n"), b"a\tb^[[2J^M^?\n");
        assert_eq!(escaped("caf\u{e9} \u{9b}2J".as_bytes()), "caf\u{e9} <U+009B>2J".as_bytes());
        assert_eq!(escaped(b"\x9b2J \xe9 \xc2"), b"<9B>2J \xe9 \xc2");
        assert_eq!(escaped(b"\x9b2J"), b"<9B>2J", "the second half of a character that was cut in two");
    }
}
