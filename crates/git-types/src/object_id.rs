//! Object ids, their formats, and the types of objects.

use std::fmt::{self, Debug, Display};
use std::str::FromStr;

/// The hash function of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectFormat {
    Sha1,
    Sha256,
}

impl ObjectFormat {
    /// Returns the length of an object id, in bytes.
    #[must_use]
    pub const fn id_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Returns git's name, as in `extensions.objectFormat`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    const fn of_len(len: usize) -> Option<Self> {
        match len {
            20 => Some(Self::Sha1),
            32 => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// The type of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    Commit,
    Tree,
    Blob,
    Tag,
}

impl ObjectKind {
    /// Returns git's name: `commit`, `tree`, `blob`, or `tag`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }

    /// Parses git's name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Commit, Self::Tree, Self::Blob, Self::Tag].into_iter().find(|kind| kind.name() == name)
    }
}

impl Display for ObjectKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The id of an object, in either format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Bytes beyond the length of the format are zero.
    bytes: [u8; 32],
    format: ObjectFormat,
}

/// A text that is not an object id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid object id: expected 40 or 64 hexadecimal digits")]
pub struct InvalidObjectId;

impl ObjectId {
    /// The all-zero SHA-1 id, which git uses for a ref that does not exist.
    pub const NULL: Self = Self { bytes: [0; 32], format: ObjectFormat::Sha1 };

    /// The number of digits of [`ObjectId::short`].
    pub const SHORT_LEN: usize = 12;

    /// Converts raw bytes; [`None`] unless there are 20 or 32.
    #[must_use]
    pub fn from_bytes(raw: &[u8]) -> Option<Self> {
        let format = ObjectFormat::of_len(raw.len())?;
        let mut bytes = [0; 32];
        bytes[..raw.len()].copy_from_slice(raw);
        Some(Self { bytes, format })
    }

    /// Parses 40 or 64 hexadecimal digits in either case.
    #[must_use]
    pub fn parse(digits: &[u8]) -> Option<Self> {
        let (pairs, []) = digits.as_chunks() else { return None };
        let format = ObjectFormat::of_len(pairs.len())?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let mut bytes = [0; 32];
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = (digit(high)? << 4 | digit(low)?) as u8;
        }
        Some(Self { bytes, format })
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.format.id_len()]
    }

    #[must_use]
    pub fn format(&self) -> ObjectFormat {
        self.format
    }

    /// Returns whether all bytes are zero, in either format.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.bytes == Self::NULL.bytes
    }

    /// Returns the first digits, as messages show them.
    #[must_use]
    pub fn short(&self) -> String {
        let mut digits = self.to_string();
        digits.truncate(Self::SHORT_LEN);
        digits
    }
}

impl Display for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(self.as_bytes()) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        // Digits are ASCII.
        formatter.pad(std::str::from_utf8(&text[..2 * self.format.id_len()]).unwrap_or_default())
    }
}

impl Debug for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, formatter)
    }
}

impl FromStr for ObjectId {
    type Err = InvalidObjectId;

    fn from_str(text: &str) -> Result<Self, InvalidObjectId> {
        Self::parse(text.as_bytes()).ok_or(InvalidObjectId)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for ObjectId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for ObjectId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_40_or_64_digits_and_print_in_lower_case() {
        let id = ObjectId::parse(&b"1A".repeat(20)).unwrap();
        assert_eq!(id.to_string(), "1a".repeat(20));
        assert_eq!(id.short(), "1a1a1a1a1a1a");
        assert_eq!((id.format(), id.as_bytes()), (ObjectFormat::Sha1, &[0x1a; 20][..]));
        let long = ObjectId::parse(&b"b".repeat(64)).unwrap();
        assert_eq!((long.format(), long.to_string()), (ObjectFormat::Sha256, "b".repeat(64)));
        assert_eq!(ObjectId::from_bytes(long.as_bytes()), Some(long));
        for other in ["", "1a2b", &"g".repeat(40), &"1".repeat(41), &"1".repeat(80)] {
            assert!(other.parse::<ObjectId>().is_err(), "{other}");
        }
        assert_eq!(ObjectId::from_bytes(&[1; 21]), None);
    }

    #[test]
    fn null_ids_exist_in_both_formats() {
        assert!(ObjectId::NULL.is_null());
        assert!(ObjectId::parse(&b"0".repeat(64)).unwrap().is_null());
        assert!(!ObjectId::parse(&b"1".repeat(40)).unwrap().is_null());
    }

    #[test]
    #[cfg(feature = "serde")]
    fn ids_are_serialized_as_strings() {
        let id = ObjectId::parse(&b"2".repeat(40)).unwrap();
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<ObjectId>(&text).unwrap(), id);
        assert!(serde_json::from_str::<ObjectId>("\"ssh-ed25519 AAAA\"").is_err());
    }

    #[test]
    fn object_types_have_git_s_names() {
        assert_eq!(ObjectKind::from_name("tree"), Some(ObjectKind::Tree));
        assert_eq!(ObjectKind::from_name("Tree"), None);
        assert_eq!(ObjectKind::Tag.to_string(), "tag");
    }
}
