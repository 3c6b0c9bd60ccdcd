//! Sends each entry of the history to systemd's journal, with fields that `journalctl` can filter by.
//!
//! The format of a datagram: `NAME=value` and a newline, or for a value with newlines the name, a newline, the length as
//! 64 bits in little endian, the value, and a newline (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::site::history::{Entry, Outcome};

/// The socket of the journal. It does not exist without systemd.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Sends an entry without waiting for the journal. An entry that cannot be sent is dropped, because the history has it.
pub fn send(socket: &Path, entry: &Entry, server: &str, site: &Path) {
    let sent = UnixDatagram::unbound().and_then(|from| {
        from.set_nonblocking(true)?;
        from.send_to(&datagram(entry, server, site), socket)
    });
    if let Err(error) = sent {
        log::debug!("cannot write to the journal: {error}");
    }
}

fn datagram(entry: &Entry, server: &str, site: &Path) -> Vec<u8> {
    // syslog's `err` and `info`.
    let priority = if entry.outcome == Outcome::Failed { "3" } else { "6" };
    let value = serde_json::to_value(entry).unwrap_or_default();
    let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let fields = [
        ("MESSAGE", entry.sentence(server)),
        ("PRIORITY", priority.into()),
        ("SYSLOG_IDENTIFIER", "bluegreen".into()),
        ("BLUEGREEN_ACTION", word("action")),
        ("BLUEGREEN_OUTCOME", word("outcome")),
        ("BLUEGREEN_SERVER", server.into()),
        ("BLUEGREEN_SITE", site.to_string_lossy().into_owned()),
        ("BLUEGREEN_RELEASE", word("release")),
        ("BLUEGREEN_COMMIT", word("new")),
        ("BLUEGREEN_BY", entry.by.to_string()),
        ("BLUEGREEN_SECONDS", format!("{:.3}", entry.seconds)),
        ("BLUEGREEN_ERROR", word("error")),
    ];
    let mut bytes = Vec::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use bluegreen_protocol::history::{Action, Actor};

    #[test]
    fn a_value_with_newlines_cannot_add_fields() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let journal = UnixDatagram::bind(&socket).unwrap();
        let by = Actor { user: "deploy".into(), sudo: None, boot: false, ssh: None, key: None, role: None };
        let entry = Entry {
            time: "2026-11-22T20:15:00Z".into(),
            action: Action::Deploy,
            by,
            release: None,
            old: None,
            new: None,
            seconds: 1.5,
            outcome: Outcome::Failed,
            error: Some("one\nPRIORITY=0".into()),
            promotion: None,
            lock: None,
        };
        send(&socket, &entry, "blue", Path::new("/var/www/html"));
        let mut buffer = [0; 4096];
        let length = journal.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(
            text.contains("\nPRIORITY=3\nSYSLOG_IDENTIFIER=bluegreen\nBLUEGREEN_ACTION=deploy\n"),
            "{text}"
        );
        assert!(
            text.contains("\nBLUEGREEN_SECONDS=1.500\nBLUEGREEN_ERROR\n\u{e}\0\0\0\0\0\0\0one\nPRIORITY=0\n"),
            "{text}"
        );
        assert!(!text.contains("BLUEGREEN_RELEASE"), "{text}");
        // Without a journal, nothing happens.
        send(&folder.path().join("missing"), &entry, "blue", Path::new("/var/www/html"));
    }
}
