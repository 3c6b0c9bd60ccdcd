//! `log [RELEASE]`: what the steps of a release printed.

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

/// The pause between two looks at a log that is followed.
const LOOK: Duration = Duration::from_millis(200);

/// Prints the log of a release, or else the newest one; `follow` goes on while anything runs.
pub fn run(server: &Server, release: Option<&str>, follow: bool) -> Result<()> {
    let site = Site::open(&server.config.site)?;
    let release: Option<ReleaseName> = release.map(str::parse).transpose()?;
    let (mut shown, mut open) = (None, None);
    loop {
        // This comes first, so that nothing is missed that is printed before the end.
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
        thread::sleep(LOOK);
    }
}

/// Prints the rest of a file; returns whether anybody reads it.
fn print_rest(file: &mut File, path: &Path) -> Result<bool> {
    let mut out = stdout().lock();
    let is_terminal = out.is_terminal();
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = file.read(&mut buffer).map_err(Error::io("read", path))?;
        let bytes = &buffer[..length];
        let written = if is_terminal { out.write_all(&harmless(bytes)) } else { out.write_all(bytes) };
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            written => written.map_err(Error::io("write", "standard output"))?,
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Control characters as `less` shows them: `^[`.
fn harmless(bytes: &[u8]) -> Vec<u8> {
    let mut safe = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_control() && byte != b'\n' && byte != b'\t' {
            safe.extend([b'^', byte ^ 0x40]);
        } else {
            safe.push(byte);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(super::harmless(b"a\tb\x1b[2J\r\x7f\n"), b"a\tb^[[2J^M^?\n");
    }
}
