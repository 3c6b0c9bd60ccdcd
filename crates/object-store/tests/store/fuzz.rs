//! A short run of the fuzz targets.

use bluegreen_object_store::ObjectFormat;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::entries;
use crate::mutate::{config_of, run, run_with};
use crate::repository::Packed;

fn object(entries: &[(&str, &[u8])], id: &[u8]) -> Vec<u8> {
    entries.iter().flat_map(|(mode, name)| [mode.as_bytes(), b" ", name, b"\0", id].concat()).collect()
}

#[test]
fn tree() {
    let entries: &[(&str, &[u8])] = &[
        ("100644", b".gitattributes"),
        ("120000", b"a"),
        ("100755", b"b"),
        ("40000", b"c"),
        ("160000", b"d"),
        ("100644", b".git\xe2\x80\x8cx"),
    ];
    run(
        entries::tree,
        &[object(&entries[..5], &[7; 20]), object(&entries[..5], &[7; 32]), object(entries, &[7; 20])],
    );
}

/// Returns a pack of a small history and its index as one input.
fn real_pack(format: ObjectFormat, has_offsets: bool) -> Vec<u8> {
    let packed = Packed::new(format);
    packed.history(16, 0..4);
    packed.git(&["-c", &format!("repack.useDeltaBaseOffset={has_offsets}"), "repack", "-qadf"], b"");
    let pack = packed.packs().pop().unwrap();
    let read = |extension| std::fs::read(pack.with_extension(extension)).unwrap();
    entries::packs::join(format.id_len() as u8, &read("pack"), &read("idx"))
}

#[test]
fn pack() {
    let seeds = [
        real_pack(ObjectFormat::Sha1, true),
        real_pack(ObjectFormat::Sha1, false),
        real_pack(ObjectFormat::Sha256, true),
        real_pack(ObjectFormat::Sha256, false),
    ];
    run_packs(entries::pack, &seeds);
}

/// Runs fewer cases by default, because each starts git at least twice. `BLUEGREEN_FUZZ_PACKS` is the number
/// of cases.
fn run_packs(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    let cases = std::env::var("BLUEGREEN_FUZZ_PACKS").ok().and_then(|cases| cases.parse().ok());
    let always_the_same = || TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let runner = match cases {
        Some(cases) => TestRunner::new(config_of(cases)),
        None => TestRunner::new_with_rng(config_of(100), always_the_same()),
    };
    run_with(target, seeds, runner);
}

/// Encodes an object in the format that `delta` parses: its type, its base, a wrong size or offset, and its
/// content.
fn packed_object(kind: u8, base: u8, odd: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, base, odd, content.len() as u8], content].concat()
}

#[test]
fn delta() {
    let whole = packed_object(3, 0, 0, b"0123456789abcdef");
    // Copies 4 bytes from offset 8 and inserts 2. The base is referred to by offset and by id.
    let change = [16, 6, 0x91, 8, 4, 2, b'x', b'y'];
    let (near, far) = (packed_object(6, 0, 0, &change), packed_object(7, 0, 0, &change));
    let onto = packed_object(7, 1, 0, &[6, 4, 0x90, 4]);
    let cycle = [packed_object(7, 1, 0, &[6, 6, 0x90, 6]), packed_object(7, 0, 0, &[6, 6, 0x90, 6])].concat();
    let odd = [
        packed_object(3 | 8, 0, 0xff, b"claim"),
        packed_object(3 | 16, 0, 0xff, b"lie"),
        packed_object(7, 0, 0, &[5, 5]),
    ]
    .concat();
    let seed = |format: u8, objects: &[&[u8]]| [&[format], objects.concat().as_slice()].concat();
    let seeds = [
        seed(0, &[&whole, &near, &far, &onto]),
        seed(1, &[&whole, &far, &onto, &near]),
        seed(0, &[&cycle, &whole]),
        seed(1, &[&odd, &whole, &near]),
    ];
    run_packs(entries::delta, &seeds);
}
