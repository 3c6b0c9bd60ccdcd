//! The fuzz targets as functions. None of them may panic.
//!
//! cargo-fuzz and the short run of `cargo test -p bluegreen-object-store fuzz` both call these.

#[path = "handmade.rs"]
pub mod handmade;
#[path = "packs.rs"]
pub mod packs;

use bluegreen_object_store::ObjectFormat;
use bluegreen_object_store::tree;

/// A tree object, with ids of both formats.
pub fn tree(data: &[u8]) {
    for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
        let Ok(entries) = tree::parse(data, format) else { continue };
        assert!(entries.windows(2).all(|pair| tree::compare(&pair[0], &pair[1]).is_lt()));
        for entry in entries {
            assert_eq!(entry.id.format(), format);
            assert!(!entry.name.is_empty() && entry.name.len() <= 255);
            assert!(!entry.name.contains(&b'/') && !entry.name.contains(&0));
            assert!(![&b"."[..], b"..", b".git"].contains(&entry.name.to_ascii_lowercase().as_slice()));
        }
    }
}

/// A pack and its index, byte by byte.
pub fn pack(data: &[u8]) {
    packs::read(data);
}

/// The objects of a pack before compression: deltas, sizes, and offsets in the index.
pub fn delta(data: &[u8]) {
    packs::read_handmade(data);
}
