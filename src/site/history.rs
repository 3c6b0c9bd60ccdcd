//! `history.jsonl`: one line for each change of the site, with the person who asked for it.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{ErrorKind, Read, Write};

use bluegreen_object_store::ObjectId;
use bluegreen_text::{MAX_MESSAGE_CHARS, MAX_NAME_CHARS, escape_controls, printable, truncated};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::site::paths::STATE;
use crate::site::{LockedSite, Site};

const HISTORY: &[u8] = b"history.jsonl";

/// An ssh key, and the name of its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The key's comment, or the id of its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `SHA256:` and 43 characters, as ssh-keygen and sshd's log write it.
    pub fingerprint: String,
}

/// The person who asked for a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The login name that the program runs under.
    pub user: String,
    /// The login name of whoever called `sudo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<String>,
    /// True if nobody asked: the boot runs `resume`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub boot: bool,
    /// The address that an ssh connection comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
    /// The key that an ssh connection came in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
}

impl Display for Key {
    /// The name, and enough of the fingerprint to distinguish two people of one name.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.fingerprint.chars().take(15).collect();
        match &self.name {
            Some(name) => write!(formatter, "{} ({short})", printable(name)),
            None => write!(formatter, "{short}"),
        }
    }
}

impl Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.boot {
            return formatter.write_str("the boot");
        }
        match (&self.sudo, &self.key) {
            (None, Some(key)) => write!(formatter, "{key}")?,
            (sudo, _) => formatter.write_str(sudo.as_ref().unwrap_or(&self.user))?,
        }
        match &self.ssh {
            Some(address) => write!(formatter, " from {address}"),
            None => Ok(()),
        }
    }
}

/// The kinds of changes to a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A commit becomes a release.
    Deploy,
    /// An older release becomes live again.
    Rollback,
    /// The files that a site held before become a release.
    Adopt,
    /// Visitors get the other side.
    Promote,
}

impl Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Deploy => "deployment",
            Self::Rollback => "rollback",
            Self::Adopt => "adoption",
            Self::Promote => "promotion",
        })
    }
}

/// The outcome of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The release is live.
    Live,
    /// Another release, or none, is live.
    Failed,
}

/// One line of the history. The field names are the documented schema of `history --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// The time at which it began, RFC 3339, UTC.
    pub time: String,
    /// The kind of change.
    pub action: Action,
    /// The person who asked for it.
    pub by: Actor,
    /// The release that was to become live, where it got a name.
    pub release: Option<String>,
    /// The commit that was live before.
    pub old: Option<ObjectId>,
    /// The commit that was to become live.
    pub new: Option<ObjectId>,
    /// The time that it took in seconds, waiting included.
    pub seconds: f64,
    /// Its outcome.
    pub outcome: Outcome,
    /// The error message, if something failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The sides of a promotion, and its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
}

/// A promotion, as both sides record it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// The side that was public before, if one was.
    pub from: Option<String>,
    /// The side that was to become public.
    pub to: String,
    /// The requests to the public address while it was watched.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

impl Entry {
    /// Truncates all texts. They come from other programs, from the client of a promotion, and from a file that
    /// the repository's owner can write, and end up in tables and in the environment of `[notify]`.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let bound = |text: &mut String, max| {
            if let Cow::Owned(shorter) = truncated(text, max) {
                *text = shorter;
            }
        };
        let Actor { user, sudo, ssh, key, .. } = &mut self.by;
        let names = [sudo.as_mut(), ssh.as_mut(), self.release.as_mut()].into_iter().flatten();
        let key = key
            .iter_mut()
            .flat_map(|Key { name, fingerprint }| [Some(fingerprint), name.as_mut()].into_iter().flatten());
        let promotion = self
            .promotion
            .iter_mut()
            .flat_map(|Promotion { from, to, .. }| [Some(to), from.as_mut()].into_iter().flatten());
        let all = names.chain(key).chain(promotion).chain([user, &mut self.time]);
        all.for_each(|name| bound(name, MAX_NAME_CHARS));
        if let Some(error) = &mut self.error {
            bound(error, MAX_MESSAGE_CHARS);
        }
        self
    }

    /// Formats the outcome: "live", "failed: cancelled".
    #[must_use]
    pub fn ending(&self) -> String {
        match (&self.outcome, &self.error) {
            (Outcome::Live, None) => "live".into(),
            (Outcome::Live, Some(error)) => format!("live, but {error}"),
            (Outcome::Failed, error) => format!("failed: {}", error.as_deref().unwrap_or("unknown")),
        }
    }

    /// Formats the entry as a sentence: who did what on a server, and how it ended.
    #[must_use]
    pub fn sentence(&self, server: &str) -> String {
        let side = self.promotion.as_ref().map(|promotion| promotion.to.as_str());
        let commit = self.new.as_ref().map(ObjectId::short);
        let what: Vec<&str> = [side, commit.as_deref()].into_iter().flatten().collect();
        let of = if what.is_empty() { String::new() } else { format!(" of {}", what.join(" ")) };
        let Self { action, by, seconds, .. } = self;
        escape_controls(&format!("{server}: {action}{of} by {by}: {} ({seconds:.2} s)", self.ending()))
    }
}

/// Appends a line by one `write` with `O_APPEND`.
pub fn append(site: &LockedSite, entry: &Entry) -> Result<()> {
    let failed = |error| Error::io("write", site.history_path())(error);
    let mut line = serde_json::to_string(entry).map_err(|error| failed(error.into()))?;
    line.push('\n');
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
    let file = site.state().open_regular(HISTORY, flags);
    file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(failed)
}

/// Reads all lines, oldest first. Lines that cannot be parsed are skipped: a crash or a full disk may have
/// cut one off.
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
        };
        assert_eq!(by.to_string(), "alice from 192.0.2.7");
        let key = Key { name: Some("carol@laptop".into()), fingerprint: "SHA256:0123456789abcdef".into() };
        let carol = Actor { sudo: None, key: Some(key.clone()), ..by.clone() };
        assert_eq!(carol.to_string(), "carol@laptop (SHA256:01234567) from 192.0.2.7");
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
        let spoilt = [&std::fs::read(&file).unwrap()[..], b"{\"time\":\n", b"\xff\xfe\n\0\n"].concat();
        std::fs::write(&file, spoilt).unwrap();
        append(&locked, &entry).unwrap();
        let entries = read(&site()).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].time, "1970-01-01T00:00:00Z");

        // Whoever can write the directory cannot redirect the file by a symlink, nor block a reader by a FIFO.
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
