//! A short run of the fuzz targets, on random bytes and on mutations of valid input.

#[path = "../../fuzz/entries.rs"]
pub mod entries;

use bluegreen::checkout::manifest::{Manifest, Stamp};
use bluegreen::checkout::objects::Objects;
use bluegreen::checkout::plan::Plan;
use bluegreen::git::Repository;
use git2::{ObjectFormat, ObjectType, Oid};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::packs::Packed;

/// A change to valid input.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    Repeat(Index, u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), any::<u8>()).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (at(), any::<u8>()).prop_map(|(at, count)| Mutation::Repeat(at, count)),
    ]
}

fn mutate(mut data: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        if data.is_empty() {
            data.push(0);
        }
        let span =
            |at: &Index, count: u8, len| (at.index(len), (at.index(len) + usize::from(count)).min(len));
        match mutation {
            Mutation::Set(at, byte) => {
                let at = at.index(data.len());
                data[at] = *byte;
            }
            Mutation::Insert(at, bytes) => {
                let at = at.index(data.len());
                data.splice(at..at, bytes.iter().copied());
            }
            Mutation::Remove(at, count) => {
                let (from, to) = span(at, *count, data.len());
                data.drain(from..to);
            }
            Mutation::Repeat(at, count) => {
                let (from, to) = span(at, *count, data.len());
                data.extend_from_within(from..to);
            }
        }
    }
    data
}

/// Feeds a target with mutations of its seeds.
fn run(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    let cases = std::env::var("BLUEGREEN_FUZZ").ok().and_then(|cases| cases.parse().ok());
    run_cases(target, seeds, cases.unwrap_or(4000));
}

fn run_cases(target: fn(&[u8]), seeds: &[Vec<u8>], cases: u32) {
    run_with(target, seeds, TestRunner::new(config_of(cases)));
}

fn config_of(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

fn run_with(target: fn(&[u8]), seeds: &[Vec<u8>], mut runner: TestRunner) {
    for seed in seeds {
        target(seed);
    }
    let input = (prop::sample::select(seeds.to_vec()), prop::collection::vec(mutation(), 0..6))
        .prop_map(|(seed, mutations)| mutate(seed, &mutations));
    runner
        .run(&input, |data| {
            target(&data);
            Ok(())
        })
        .unwrap();
}

fn text(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

#[test]
fn push() {
    let (id, id64) = ("1".repeat(40), "a".repeat(64));
    let line = format!("{id} {id} refs/heads/master\n");
    run(entries::push, &text(&[&line, &line.repeat(3), &format!("{id64} {id64} refs/heads/caf\u{e9}"), ""]));
}

/// Pkt-lines, an empty one for a flush.
fn packets(lines: &[&str]) -> Vec<u8> {
    let packet = |line: &&str| match line.len() {
        0 => "0000".to_owned(),
        length => format!("{:04x}{line}", length + 4),
    };
    lines.iter().map(packet).collect::<String>().into_bytes()
}

#[test]
fn gate() {
    let (id, id64) = ("1".repeat(40), "a".repeat(64));
    let line = format!("{id} {id} refs/heads/master\n");
    let line64 = format!("{id64} {id64} refs/heads/caf\u{e9}");
    // As long as a line may be: the reason to refuse it has no room.
    let long = format!("{id} {id} refs/heads/{}", "x".repeat(65516 - 93));
    let seeds = [
        packets(&["version=1\0push-options atomic\n", "", &line, &line64, &line, "", "skip\n", "a b", ""]),
        packets(&["version=1\n", "", &line64, "", "left over"]),
        packets(&["version=1", "", "", ""]),
        packets(&["version=1\0atomic", "", &long, ""]),
    ];
    for seed in &seeds {
        bluegreen::gate::protocol::read_request(&mut seed.as_slice(), &mut Vec::new()).unwrap();
    }
    run(entries::gate, &seeds);
    let signed = [b"+00dversion=1".to_vec(), packets(&["", &line, ""])].concat();
    entries::gate(&signed);
}

#[test]
fn config() {
    run(
        entries::config,
        &text(&[
            "branch = \"main\"\nserver = 'blue'\nlock-timeout = '1h 30m'\n[site]\nroot = '/srv/app'\nkeep = 0\n",
            "[site]\nsymlinks = 'any'\nsubmodules = 'fetch'\nmax-size = '10 GB'\nmax-files = 5\n",
            "",
        ]),
    );
}

#[test]
fn record() {
    run(
        entries::record,
        &text(&[
            "20261122T201500Z-1a2b3c4d5e6f",
            "20261122T201500Z-1a2b3c4d5e6f-12",
            "commit = \"1a2b\"\nsubject = \"x\"\nstate = \"ready\"\nfiles = 3\nsealed = \"2026-11-22T20:15:00Z\"\n",
        ]),
    );
}

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

#[test]
fn attributes() {
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n", "4d".repeat(32));
    run(
        entries::attributes,
        &text(&[
            "[attr]big filter=lfs\n*.iso big\n\"q \\\" x\" ident -text\n/a/** eol=crlf\n# no\n",
            &pointer,
        ]),
    );
}

/// The manifest of a small tree with a directory in a directory, an empty one and a link.
fn real_manifest() -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    let raw = git2::Repository::init_bare(temp.path()).unwrap();
    let write = |kind, data: &[u8]| raw.odb().unwrap().write(kind, data).unwrap();
    let entry = |mode: &str, name: &str, id: Oid| {
        [mode.as_bytes(), b" ", name.as_bytes(), b"\0", id.as_bytes()].concat()
    };
    let blob = write(ObjectType::Blob, b"a");
    let empty = write(ObjectType::Tree, b"");
    let inner = write(ObjectType::Tree, &[entry("100644", "f", blob), entry("120000", "l", blob)].concat());
    let outer =
        write(ObjectType::Tree, &[entry("40000", "empty", empty), entry("40000", "inner", inner)].concat());
    let root =
        [entry("100755", "b", blob), entry("40000", "dir", outer), entry("160000", "sub", blob)].concat();
    let root = write(ObjectType::Tree, &root);
    let repository = Repository::open(temp.path()).unwrap();
    let objects = Objects::new(&repository, ObjectFormat::Sha1);
    let listing = Plan::read(&objects, root, None, 1000, None).unwrap().listing;
    let manifest = Manifest {
        entries: vec![Stamp { inode: 1, ctime: (1, 2) }; listing.entries.len()],
        directories: vec![Stamp { inode: 2, ctime: (3, 4) }; listing.directories.len()],
        listing,
        converted: bluegreen::checkout::converted::Converted::default(),
        instant: (5, 6),
    };
    let mut data = Vec::new();
    manifest.write(&mut data).unwrap();
    data
}

#[test]
fn manifest() {
    let data = real_manifest();
    assert!(Manifest::parse(&data).is_some());
    run(entries::manifest, &[data]);
}

/// A pack of a small history and its index, as one input.
fn real_pack(format: ObjectFormat, has_offsets: bool) -> Vec<u8> {
    let packed = Packed::new(format);
    packed.history(16, 0..4);
    packed.git(&["-c", &format!("repack.useDeltaBaseOffset={has_offsets}"), "repack", "-qadf"], b"");
    let pack = packed.packs().pop().unwrap();
    let read = |extension| std::fs::read(pack.with_extension(extension)).unwrap();
    entries::packs::join(if format == ObjectFormat::Sha1 { 20 } else { 32 }, &read("pack"), &read("idx"))
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

/// Runs fewer cases, because git is asked twice or more about each. `BLUEGREEN_FUZZ_PACKS` is the number of cases.
fn run_packs(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    let cases = std::env::var("BLUEGREEN_FUZZ_PACKS").ok().and_then(|cases| cases.parse().ok());
    let always_the_same = || TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let runner = match cases {
        Some(cases) => TestRunner::new(config_of(cases)),
        None => TestRunner::new_with_rng(config_of(100), always_the_same()),
    };
    run_with(target, seeds, runner);
}

/// An object as `delta` parses it: its kind, its base, a claim or a lie, and its content.
fn packed_object(kind: u8, base: u8, odd: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, base, odd, content.len() as u8], content].concat()
}

#[test]
fn delta() {
    let whole = packed_object(3, 0, 0, b"0123456789abcdef");
    // Copies 4 bytes from the 8th on and inserts 2, by the offset of the base and by its id.
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
