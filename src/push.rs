//! What git tells a receive hook on standard input: `<old> <new> <ref>` lines. Pure.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::os::unix::ffi::OsStrExt;

use git2::{ObjectFormat, Oid};

use crate::error::{Error, Result};
use crate::text::printable;

/// One ref that a push moved, created or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// Where it was; zero for a new ref.
    pub old: Id,
    /// Where it is now; zero for a deleted ref.
    pub new: Id,
    /// The full name, bytes that need not be UTF-8: `refs/heads/master`.
    pub name: Vec<u8>,
}

impl RefUpdate {
    /// Parses one line without its line end. Ids have 40 digits, or 64 in a SHA-256 repository.
    pub fn parse(line: &[u8]) -> Result<Self> {
        let mut words = line.splitn(3, |&byte| byte == b' ');
        let mut id = || words.next().and_then(Id::parse);
        let (old, new) = (id(), id());
        match (old, new, words.next()) {
            (Some(old), Some(new), Some(name)) if old.len == new.len && is_ref_name(name) => {
                Ok(Self { old, new, name: name.to_vec() })
            }
            _ => Err(Error::Usage(format!(
                "expected `<old> <new> <ref>` on standard input, got `{}`",
                printable(OsStr::from_bytes(&line[..line.len().min(200)]))
            ))),
        }
    }

    /// Parses all that a hook reads. The last line needs no line end.
    pub fn parse_all(input: &[u8]) -> Result<Vec<Self>> {
        let lines = input.strip_suffix(b"\n").unwrap_or(input);
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        lines.split(|&byte| byte == b'\n').map(Self::parse).collect()
    }

    /// Whether this is exactly the branch: `refs/heads/<branch>`, not a tag and not `x/<branch>`.
    #[must_use]
    pub fn is_branch(&self, branch: &str) -> bool {
        self.name.strip_prefix(b"refs/heads/") == Some(branch.as_bytes())
    }

    /// Whether the push deleted the ref.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.new.is_zero()
    }
}

/// A full object id as git spells it, 40 or 64 digits. Unlike an [`Oid`] it does not start the object
/// reader, which a push of a ref that deploys nothing has no use for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Id {
    digits: [u8; 64],
    len: u8,
}

impl Id {
    /// Parses the digits.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if !matches!(text.len(), 40 | 64) || !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut digits = [0; 64];
        digits[..text.len()].copy_from_slice(&text.to_ascii_lowercase());
        Some(Self { digits, len: text.len() as u8 })
    }

    /// Whether it stands for no object.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.as_str().bytes().all(|digit| digit == b'0')
    }

    /// The id as the object reader takes it.
    #[must_use]
    pub fn oid(&self) -> Oid {
        let format = if self.len == 40 { ObjectFormat::Sha1 } else { ObjectFormat::Sha256 };
        // The digits were checked when they were parsed.
        Oid::from_str_ext(self.as_str(), format).unwrap_or(Oid::ZERO_SHA1)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[..self.len.into()]).unwrap_or_default()
    }
}

impl Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, formatter)
    }
}

/// Parses a full object id for the object reader.
#[must_use]
pub fn parse_id(text: &[u8]) -> Option<Oid> {
    Id::parse(text).map(|id| id.oid())
}

fn is_ref_name(name: &[u8]) -> bool {
    name.starts_with(b"refs/") && !name.iter().any(|&byte| byte <= b' ' || byte == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";

    #[test]
    fn lines_become_updates() {
        let zero = "0".repeat(40);
        let input = format!("{OLD} {NEW} refs/heads/master\n{OLD} {zero} refs/tags/v1\n");
        let updates = RefUpdate::parse_all(input.as_bytes()).unwrap();
        assert_eq!(updates.len(), 2);
        assert!(updates[0].is_branch("master") && !updates[0].is_deletion());
        assert!(updates[1].is_deletion());
        assert_eq!(RefUpdate::parse_all(b"").unwrap(), []);
        assert_eq!(RefUpdate::parse_all(input.trim_end().as_bytes()).unwrap(), updates);
    }

    #[test]
    fn only_the_exact_branch_deploys() {
        for other in ["refs/tags/master", "refs/heads/x/master", "refs/heads/master2", "refs/master"] {
            let update = RefUpdate::parse(format!("{OLD} {NEW} {other}").as_bytes()).unwrap();
            assert!(!update.is_branch("master"), "{other}");
        }
    }

    #[test]
    fn sha256_ids_and_names_that_are_not_utf8_are_fine() {
        let id = "a".repeat(64);
        let line = [format!("{id} {id} refs/heads/").as_bytes(), b"caf\xe9"].concat();
        assert_eq!(RefUpdate::parse(&line).unwrap().name, b"refs/heads/caf\xe9");
    }

    #[test]
    fn anything_else_is_refused() {
        let id64 = "a".repeat(64);
        for line in [
            "garbage".to_string(),
            format!("{OLD} {NEW}"),
            format!("{OLD} {NEW} "),
            format!("{OLD}  {NEW} refs/heads/master"),
            format!("{OLD} {NEW} master"),
            format!("{OLD} {id64} refs/heads/master"),
            format!("{} {NEW} refs/heads/master", &OLD[1..]),
            format!("{} {NEW} refs/heads/master", OLD.replace('1', "g")),
            format!("{OLD} {NEW} refs/heads/mas\x1bter"),
        ] {
            let error = RefUpdate::parse(line.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("expected `<old> <new> <ref>`"), "{line}: {error}");
        }
        assert!(RefUpdate::parse_all(format!("{OLD} {NEW} refs/heads/a\n\n").as_bytes()).is_err());
    }
}
