//! `history.jsonl`: one line for each change to the site, with the person who requested it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::site::paths::STATE;
use crate::site::{LockedSite, Site};
pub use bluegreen_protocol::history::{Action, Actor, Entry, Key, Lock, Outcome, Promotion};

const HISTORY: &[u8] = b"history.jsonl";

/// Appends a line with one `write` and `O_APPEND`. If a crash or a full disk has truncated the last line, terminates that
/// line first.
pub fn append(site: &LockedSite, entry: &Entry) -> Result<()> {
    let failed = |error| Error::io("write", site.history_path())(error);
    let line = serde_json::to_string(entry).map_err(|error| failed(error.into()))?;
    let append = || {
        let mut file = site.state().open_regular(HISTORY, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE)?;
        let begin = if is_truncated(&file)? { "\n" } else { "" };
        file.write_all(format!("{begin}{line}\n").as_bytes())
    };
    append().map_err(failed)
}

/// Returns whether the last line of a file is not terminated.
fn is_truncated(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// Reads all entries, oldest first. Lines that cannot be parsed are skipped, because a crash or a full disk may have
/// truncated one.
pub fn read(site: &Site) -> Result<Vec<Entry>> {
    let mut text = Vec::new();
    let open = || site.dir.open_dir(STATE)?.open_regular(HISTORY, OFlags::RDONLY);
    match open().and_then(|mut file| file.read_to_end(&mut text)) {
        Ok(_) => Ok(parse(&text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("read", site.history_path())(error)),
    }
}

fn parse(text: &[u8]) -> Vec<Entry> {
    let entries = text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    entries.map(Entry::bounded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SiteConfig;
    use crate::site::Holder;
    use bluegreen_object_store::ObjectId;
    use bluegreen_protocol::role::Role;
    use bluegreen_text::timestamp;
    use std::time::SystemTime;

    #[test]
    fn appended_lines_are_read_back_and_half_lines_are_skipped() {
        let temp = tempfile::tempdir().unwrap();
        let config = SiteConfig { root: temp.path().into(), ..SiteConfig::default() };
        let site = || Site::open(&config).unwrap();
        assert!(read(&site()).unwrap().is_empty());
        let by = Actor {
            user: "deploy".into(),
            sudo: Some("alice".into()),
            boot: false,
            ssh: Some("192.0.2.7".into()),
            key: None,
            role: None,
        };
        assert_eq!(by.to_string(), "alice from 192.0.2.7");
        let key = Key { name: Some("carol@laptop".into()), fingerprint: "SHA256:0123456789abcdef".into() };
        let carol = Actor { sudo: None, key: Some(key.clone()), ..by.clone() };
        assert_eq!(carol.to_string(), "carol@laptop (SHA256:01234567) from 192.0.2.7");
        let restricted = Actor { role: Some(Role::Push), ..carol.clone() };
        let expected = "carol@laptop (SHA256:01234567) with the role push from 192.0.2.7";
        assert_eq!(restricted.to_string(), expected);
        let nameless = Actor { key: Some(Key { name: None, ..key }), ..carol };
        assert_eq!(nameless.to_string(), "SHA256:01234567 from 192.0.2.7");
        let entry = Entry {
            time: timestamp(SystemTime::UNIX_EPOCH),
            action: Action::Deploy,
            by,
            release: None,
            old: None,
            new: ObjectId::parse(&b"1".repeat(40)),
            seconds: 0.5,
            outcome: Outcome::Failed,
            error: Some("cancelled".into()),
            promotion: None,
            lock: None,
        };
        let holder = Holder {
            pid: 0,
            action: entry.action,
            by: entry.by.clone(),
            since: entry.time.clone(),
            phase: String::new(),
        };
        let locked = site().lock(holder, std::time::Duration::ZERO, |_| (), || Ok(())).unwrap();
        append(&locked, &entry).unwrap();
        let file = locked.history_path();
        let spoilt =
            [&std::fs::read(&file).unwrap()[..], b"{\"time\":\n", b"\xff\xfe\n\0\n{\"time\":\"2026"].concat();
        std::fs::write(&file, spoilt).unwrap();
        append(&locked, &entry).unwrap();
        let entries = read(&site()).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].time, "1970-01-01T00:00:00Z");

        // A symlink must not redirect the file, and a FIFO must not block a reader.
        locked.state().remove(HISTORY).unwrap();
        std::os::unix::fs::symlink(temp.path().join("elsewhere"), &file).unwrap();
        assert!(append(&locked, &entry).is_err() && read(&site()).is_err());
        assert!(!temp.path().join("elsewhere").exists());
        locked.state().remove(HISTORY).unwrap();
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &file, fifo, mode, 0).unwrap();
        assert!(append(&locked, &entry).is_err() && read(&site()).is_err());
    }
}
