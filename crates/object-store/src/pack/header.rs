//! Parses the headers of objects in packs.
//!
//! The format is version 2 of git's `Documentation/gitformat-pack.adoc`.

use bluegreen_git_types::{ObjectFormat, ObjectId, ObjectKind};

/// The maximum length of a header, in bytes: type, a 64-bit size, and the base of a delta.
pub(crate) const MAX_HEADER: usize = 10 + 32;

const COMMIT: u8 = 1;
const TREE: u8 = 2;
const BLOB: u8 = 3;
const TAG: u8 = 4;
const OFS_DELTA: u8 = 6;
const REF_DELTA: u8 = 7;

/// The representation of an object in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Representation {
    /// The object itself.
    Whole(ObjectKind),
    /// A delta whose base starts at this offset of the same pack.
    OfsDelta(u64),
    /// A delta whose base has this id.
    RefDelta(ObjectId),
}

/// The header of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub representation: Representation,
    /// The size of the object, or else of the delta, in bytes.
    pub size: u64,
    /// The length of this header, in bytes.
    pub len: usize,
}

/// The distance from a delta back to its base.
struct Distance {
    value: u64,
    /// The length of its encoding, in bytes.
    len: usize,
}

impl Header {
    /// Parses the header of the object at `offset`.
    pub(crate) fn parse(bytes: &[u8], offset: u64, format: ObjectFormat) -> Option<Self> {
        let first = *bytes.first()?;
        let (mut size, mut shift, mut at) = (u64::from(first & 15), 4, 1);
        let mut more = first & 0x80 != 0;
        while more {
            let byte = *bytes.get(at)?;
            size |= u64::from(byte & 0x7f).checked_shl(shift)?;
            more = byte & 0x80 != 0;
            shift += 7;
            at += 1;
        }
        let whole = |kind| Some(Self { representation: Representation::Whole(kind), size, len: at });
        match first >> 4 & 7 {
            COMMIT => whole(ObjectKind::Commit),
            TREE => whole(ObjectKind::Tree),
            BLOB => whole(ObjectKind::Blob),
            TAG => whole(ObjectKind::Tag),
            OFS_DELTA => {
                let distance = Distance::parse(&bytes[at..])?;
                let base = offset.checked_sub(distance.value).filter(|_| distance.value > 0)?;
                Some(Self { representation: Representation::OfsDelta(base), size, len: at + distance.len })
            }
            REF_DELTA => {
                let end = at + format.id_len();
                let base = ObjectId::from_bytes(bytes.get(at..end)?)?;
                Some(Self { representation: Representation::RefDelta(base), size, len: end })
            }
            _ => None,
        }
    }
}

impl Distance {
    /// Parses groups of 7 bits, the highest first. Each group but the last is encoded minus 1.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut value: u64 = 0;
        for (at, byte) in bytes.iter().enumerate().take(10) {
            if value > u64::MAX >> 8 {
                return None;
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Some(Self { value, len: at + 1 });
            }
            value += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_parsed_and_unknown_types_are_rejected() {
        let whole = |kind, size, len| Some(Header { representation: Representation::Whole(kind), size, len });
        let parse = |bytes: &[u8]| Header::parse(bytes, 100, ObjectFormat::Sha1);
        assert_eq!(parse(&[0x3f]), whole(ObjectKind::Blob, 15, 1));
        assert_eq!(parse(&[0xbf, 0x01]), whole(ObjectKind::Blob, 31, 2));
        assert_eq!(parse(&[0x1f]), whole(ObjectKind::Commit, 15, 1));
        assert_eq!([parse(&[0x0f]), parse(&[0x5f])], [None, None]);
        assert_eq!(parse(&[0x2f]), whole(ObjectKind::Tree, 15, 1));
        assert_eq!(parse(&[0xbf, 0xff]), None, "truncated size");
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0xff; 20]), None, "size of more than 64 bits");
        assert_eq!(
            parse(&[0x65, 99]),
            Some(Header { representation: Representation::OfsDelta(1), size: 5, len: 2 })
        );
        assert_eq!(parse(&[0x65, 0]), None, "delta of itself");
        assert_eq!(parse(&[0x65, 101]), None, "base before the pack");
        assert_eq!(parse(&[0x65, 0xff, 0xff, 0xff]), None, "truncated distance");
        let id = [[0x75].as_slice(), &[7; 20]].concat();
        let base = ObjectId::from_bytes(&[7; 20]).unwrap();
        assert_eq!(
            parse(&id),
            Some(Header { representation: Representation::RefDelta(base), size: 5, len: 21 })
        );
        assert_eq!(parse(&id[..20]), None, "truncated id");
        assert_eq!(
            Header::parse(&[0x65, 0x80, 0], 200, ObjectFormat::Sha1).map(|header| header.representation),
            Some(Representation::OfsDelta(72))
        );
    }
}
