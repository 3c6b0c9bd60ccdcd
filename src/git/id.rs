//! Commit ids: one type for the lines that git writes, the records on the disk and the messages.

use std::fmt::{self, Display};
use std::str::FromStr;

use git2::{ObjectFormat, Oid};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};

/// The number of digits that a release's name and all messages show.
pub const SHORT: usize = 12;

/// A full commit id in hexadecimal: 40 digits, or 64 in a SHA-256 repository. Unlike an [`Oid`] it does not
/// initialise libgit2, which a push that deploys nothing does not need.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CommitId {
    digits: [u8; 64],
    len: u8,
}

impl CommitId {
    /// The all-zero id: a ref that does not exist, or a release that was not made from a commit.
    pub const NONE: Self = Self { digits: [b'0'; 64], len: 40 };

    /// Parses the digits.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if !matches!(text.len(), 40 | 64) || !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut digits = [b'0'; 64];
        digits[..text.len()].copy_from_slice(&text.to_ascii_lowercase());
        Some(Self { digits, len: text.len() as u8 })
    }

    /// Returns whether all digits are zero.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.digits == Self::NONE.digits
    }

    /// Its hash function.
    #[must_use]
    pub fn format(&self) -> ObjectFormat {
        if self.len == 40 { ObjectFormat::Sha1 } else { ObjectFormat::Sha256 }
    }

    /// Converts it into libgit2's type.
    pub fn oid(&self) -> Result<Oid> {
        Oid::from_str_ext(self.as_str(), self.format())
            .map_err(|_| Error::UnknownRevision(self.as_str().to_owned()))
    }

    /// All its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Digits are ASCII.
        std::str::from_utf8(&self.digits[..self.len.into()]).unwrap_or_default()
    }

    /// Its first digits, as messages show them.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.as_str()[..SHORT]
    }
}

impl Display for CommitId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, formatter)
    }
}

impl FromStr for CommitId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text.as_bytes()).ok_or_else(|| Error::UnknownRevision(text.to_owned()))
    }
}

impl Serialize for CommitId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CommitId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_40_or_64_digits_and_are_written_in_lower_case() {
        let id = CommitId::parse(&b"1A".repeat(20)).unwrap();
        assert_eq!(id.to_string(), "1a".repeat(20));
        assert_eq!(id.short(), "1a1a1a1a1a1a");
        assert_eq!(id.oid().unwrap().to_string(), id.to_string());
        let long = CommitId::parse(&b"b".repeat(64)).unwrap();
        assert_eq!(long.oid().unwrap().to_string(), long.to_string());
        for other in ["", "1a2b", &"g".repeat(40), &"1".repeat(41)] {
            assert!(other.parse::<CommitId>().is_err(), "{other}");
        }
    }

    #[test]
    fn zeros_stand_for_no_object_in_both_formats() {
        assert!(CommitId::NONE.is_none());
        assert!(CommitId::parse(&b"0".repeat(64)).unwrap().is_none());
        assert!(!CommitId::parse(&b"1".repeat(40)).unwrap().is_none());
    }

    #[test]
    fn records_hold_an_id_as_text_and_nothing_else() {
        let id = CommitId::parse(&b"2".repeat(40)).unwrap();
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<CommitId>(&text).unwrap(), id);
        assert!(serde_json::from_str::<CommitId>("\"ssh-ed25519 AAAA\"").is_err());
    }
}
