//! What reads bytes that others chose, each as a function that must neither panic nor lie.
//!
//! The targets of cargo-fuzz and the short run of `cargo test --test fuzz` both call these.

use bluegreen::checkout::attributes::Context;
use bluegreen::checkout::lfs::Pointer;
use bluegreen::checkout::manifest::Manifest;
use bluegreen::checkout::tree;
use bluegreen::config::Config;
use bluegreen::push::RefUpdate;
use bluegreen::release::{Record, ReleaseName};

/// Standard input of a hook.
pub fn push(data: &[u8]) {
    for update in RefUpdate::parse_all(data).iter().flatten() {
        assert!(update.name.starts_with(b"refs/"));
        assert_eq!(update.is_deletion(), update.new.is_zero());
        let line = format!("{} {} {}", update.old, update.new, update.name.escape_ascii());
        if update.name.is_ascii()
            && !update.name.contains(&b'\\')
            && !update.name.contains(&b'"')
            && !update.name.contains(&b'\'')
        {
            assert_eq!(RefUpdate::parse(line.as_bytes()).ok().as_ref(), Some(update));
        }
    }
}

/// `bluegreen.toml`.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text) {
        Ok(config) => assert!(config.site.root.is_absolute() && !config.branch.is_empty()),
        Err((line, message)) => assert!(line <= text.lines().count() + 1 && !message.contains('\n')),
    }
}

/// A release's record and its name.
pub fn record(data: &[u8]) {
    if let Some(name) = ReleaseName::from_bytes(data) {
        assert_eq!(name.to_string().as_bytes(), data);
        assert!(!data.contains(&b'/') && !data.starts_with(b"."));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = toml::from_str::<Record>(text);
}

/// A raw tree object, of both formats of ids.
pub fn tree(data: &[u8]) {
    for id_len in [20, 32] {
        let Ok(entries) = tree::parse(data, id_len) else { continue };
        assert!(entries.windows(2).all(|pair| tree::order(&pair[0], &pair[1]).is_lt()));
        for entry in entries {
            assert_eq!(entry.id.len(), id_len);
            assert!(!entry.name.is_empty() && entry.name.len() <= 255);
            assert!(!entry.name.contains(&b'/') && !entry.name.contains(&0));
            assert!(![&b"."[..], b"..", b".git"].contains(&entry.name.to_ascii_lowercase().as_slice()));
        }
    }
}

/// A manifest, with all that is looked up in it.
pub fn manifest(data: &[u8]) {
    let Some(manifest) = Manifest::parse(data) else { return };
    let listing = &manifest.listing;
    for entry in 0..u32::try_from(listing.entries.len()).unwrap_or(0) {
        let directory = listing.directory_of(entry);
        let _ = (listing.path(directory, entry), listing.id(entry), listing.is_made(entry));
    }
    for directory in 0..u32::try_from(listing.directories.len()).unwrap_or(0) {
        let _ = (
            listing.directory_path(directory),
            listing.directory_id(directory),
            listing.is_submodule(directory),
        );
        assert!(listing.below(directory).end as usize <= listing.entries.len());
        assert!(listing.entries_of(directory).end as usize <= listing.entries.len());
    }
    let mut copy = Vec::new();
    assert!(manifest.write(&mut copy).is_ok() && Manifest::parse(&copy).is_some());
}

/// A `.gitattributes`, and a pointer of Git LFS.
pub fn attributes(data: &[u8]) {
    let mut context = Context { crlf: data.len() % 2 == 0, ..Context::default() };
    context.learn_macros(data);
    for rule in context.matches(data) {
        let _ = rule.fits(b"name.txt");
    }
    if let Some(pointer) = Pointer::parse(data) {
        assert_eq!(pointer.oid.len(), 64);
        assert!(!pointer.is_in(&["/nowhere".into()]) || pointer.size == 0);
    }
}
