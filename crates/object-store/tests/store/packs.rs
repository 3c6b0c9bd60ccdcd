//! Packs created by git: every object equals the output of `git cat-file`.

use std::fs;

use bluegreen_object_store::ObjectFormat;

use crate::repository::Packed;

#[test]
fn deltas_of_every_object_type() {
    let packed = Packed::new(ObjectFormat::Sha1);
    packed.history(60, 0..12);
    assert_eq!(packed.matches_git(), (0, 60), "loose objects must not be read from packs");
    for repack in [
        &["gc", "--quiet", "--aggressive", "--prune=now"][..],
        &["repack", "-qadf", "--depth=4095", "--window=60"],
        &["-c", "repack.useDeltaBaseOffset=false", "repack", "-qadf"],
        &["-c", "pack.indexVersion=1", "repack", "-qadf"],
        &["repack", "-qadf", "--depth=1"],
    ] {
        packed.git(repack, b"");
        let (deltas, left) = packed.matches_git();
        assert!(deltas >= 20 && left == 0, "{repack:?}: {deltas} {left}");
    }
    packed.git(&["multi-pack-index", "write"], b"");
    assert_eq!(packed.matches_git().1, 0);
}

#[test]
fn deltas_with_long_ids() {
    let packed = Packed::new(ObjectFormat::Sha256);
    for offsets in ["true", "false"] {
        packed.history(60, if offsets == "true" { 0..6 } else { 6..12 });
        packed.git(&["-c", &format!("repack.useDeltaBaseOffset={offsets}"), "repack", "-qadf"], b"");
        let (deltas, left) = packed.matches_git();
        assert!(deltas >= 20 && left == 0, "{deltas} {left}");
    }
}

#[test]
fn many_packs_completed_from_thin_packs() {
    let packed = Packed::new(ObjectFormat::Sha1);
    packed.history(60, 0..1).git(&["repack", "-qad"], b"");
    let source = Packed::new(ObjectFormat::Sha1);
    source.history(60, 0..30);
    for version in 1..30 {
        let (new, old) = (format!("master~{}", 29 - version), format!("master~{}", 30 - version));
        let wanted = format!("{new}\n^{old}\n");
        let thin = source.git(&["pack-objects", "-q", "--revs", "--thin", "--stdout"], wanted.as_bytes());
        packed.git(&["index-pack", "--stdin", "--fix-thin"], &thin);
    }
    let tip = source.git(&["rev-parse", "master"], b"");
    packed.git(&["update-ref", "refs/heads/master", String::from_utf8(tip).unwrap().trim()], b"");
    assert_eq!(packed.packs().len(), 30);
    let (deltas, left) = packed.matches_git();
    assert!(deltas >= 30 && left == 0, "{deltas} {left}");
}

#[test]
fn damaged_blobs_are_not_decoded() {
    let packed = Packed::new(ObjectFormat::Sha1);
    packed.history(30, 0..6);
    // Only blobs, because a damaged tree could not be listed.
    let all =
        packed.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"], b"");
    let all = String::from_utf8(all).unwrap();
    let blobs: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("blob ")).collect();
    packed.git(
        &["pack-objects", "-q", "--threads=1", "--depth=4095", "objects/pack/pack"],
        (blobs.join("\n") + "\n").as_bytes(),
    );
    let sound = packed.read(1);
    assert!(sound.left.is_empty() && sound.deltas >= 10);
    let pack = packed.packs().pop().unwrap();
    let bytes = fs::read(&pack).unwrap();
    fs::remove_file(&pack).unwrap();
    for (at, byte) in
        (0..bytes.len()).step_by(41).zip([0x00, 0xff, 0x80, 0x75, 0x65, 0x1f].into_iter().cycle())
    {
        let mut damaged = bytes.clone();
        damaged[at] = byte;
        fs::write(&pack, damaged).unwrap();
        let found = packed.read(1);
        for (path, content) in found.files {
            assert_eq!(sound.files[&path], content, "byte {at} set to {byte}: {}", path.display());
        }
    }
    for len in [0, 11, bytes.len() / 3, bytes.len() - 21] {
        fs::write(&pack, &bytes[..len]).unwrap();
        for (path, content) in packed.read(1).files {
            assert_eq!(sound.files[&path], content, "truncated at {len}: {}", path.display());
        }
    }
}
