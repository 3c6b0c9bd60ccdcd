//! The reader of packs against git: what it reads is what `git cat-file` says, and what it cannot read it leaves.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bluegreen::checkout::listing::Listing;
use bluegreen::checkout::objects::Objects;
use bluegreen::checkout::pack_decode::Decoder;
use bluegreen::checkout::pack_forest::Forest;
use bluegreen::checkout::plan::Plan;
use bluegreen::git::Repository;
use git2::{ObjectFormat, ObjectType, Oid};
use libdeflater::{CompressionLvl, Compressor};

/// A bare repository.
struct Packed {
    temp: tempfile::TempDir,
    format: ObjectFormat,
}

/// The files of a commit as the reader of packs finds them.
struct Found {
    /// The content of each file that it read.
    files: HashMap<PathBuf, Vec<u8>>,
    /// Those that it leaves to the object database.
    left: Vec<PathBuf>,
    /// The number that it read from trees of deltas.
    in_trees: usize,
}

impl Packed {
    fn new(format: ObjectFormat) -> Self {
        let packed = Self { temp: tempfile::tempdir().unwrap(), format };
        let name = if format == ObjectFormat::Sha1 { "sha1" } else { "sha256" };
        packed.git(&["init", "--quiet", "--bare", &format!("--object-format={name}"), "."], b"");
        packed
    }

    fn path(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    #[track_caller]
    fn git(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut git = Command::new("git");
        git.current_dir(self.temp.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_DIR", ".")
            .args(arguments);
        let mut child =
            git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Commits versions of files that resemble each other, and loosens all objects.
    fn history(&self, files: usize, versions: std::ops::Range<usize>) -> &Self {
        let mut stream = Vec::new();
        let first = versions.start;
        for version in versions {
            writeln!(stream, "commit refs/heads/master\ncommitter A <a@b> {version} +0000\ndata 0").unwrap();
            if version == first && first > 0 {
                writeln!(stream, "from refs/heads/master^0").unwrap();
            }
            for file in (0..files).filter(|file| version == 0 || (file + version) % 3 == 0) {
                let new = (version * 7 + file) % 40;
                let lines = (0..40 + file).map(|line| {
                    if line == new {
                        format!("a new line of version {version} in {file}\n")
                    } else {
                        format!("line {line} of {}\n", line * line * (file % 9))
                    }
                });
                let content: String = lines.collect();
                writeln!(
                    stream,
                    "M 644 inline dir{}/file{file}\ndata {}\n{content}",
                    file % 5,
                    content.len()
                )
                .unwrap();
            }
        }
        self.git(&["-c", "fastimport.unpackLimit=100000", "fast-import", "--quiet"], &stream);
        self
    }

    /// Reads all files of master.
    fn read(&self, threads: usize) -> Found {
        let tree = String::from_utf8(self.git(&["rev-parse", "master^{tree}"], b"")).unwrap();
        self.read_tree(Oid::from_str_ext(tree.trim(), self.format).unwrap(), threads)
    }

    fn read_tree(&self, tree: Oid, threads: usize) -> Found {
        let repository = Repository::open(self.temp.path()).unwrap();
        let objects = Objects::new(&repository, self.format);
        let listing = Plan::read(&objects, tree, None, 1_000_000, None).unwrap().listing;
        let is_file = |entry: &u32| !listing.entries[*entry as usize].kind.is_directory();
        let wanted: Vec<u32> = (0..listing.entries.len() as u32).filter(is_file).collect();
        let forest = Forest::new(objects.packs(), &listing, &wanted, threads).unwrap();
        found(&forest, &listing, &wanted)
    }

    /// Asserts that what was read is what git says; gives how many files stood in trees and how many were left.
    #[track_caller]
    fn is_right(&self) -> (usize, usize) {
        let found = self.read(2);
        for (path, content) in &found.files {
            let said = self.git(&["cat-file", "blob", &format!("master:{}", path.display())], b"");
            assert_eq!(
                String::from_utf8_lossy(content),
                String::from_utf8_lossy(&said),
                "{}",
                path.display()
            );
        }
        (found.in_trees, found.left.len())
    }

    fn packs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("objects/pack")).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "pack")).collect()
    }
}

fn found(forest: &Forest, listing: &Listing, wanted: &[u32]) -> Found {
    let mut decoder = Decoder::default();
    let mut found = Found { files: HashMap::new(), left: Vec::new(), in_trees: 0 };
    for &top in &forest.tops {
        decoder
            .decode(forest, top, |node, content| {
                for entry in forest.entries_of(node) {
                    assert!(forest.is_in_tree(entry));
                    if let Some(content) = content {
                        assert_eq!(forest.size(entry), Some(content.len() as u64));
                        let before = found.files.insert(listing.path_of(entry), content.to_vec());
                        assert!(before.is_none(), "it was read twice");
                        found.in_trees += 1;
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    for &entry in wanted {
        let path = listing.path_of(entry);
        if let Some(content) = decoder.whole(forest, entry).filter(|_| !forest.is_in_tree(entry)) {
            found.files.insert(path, content.to_vec());
        } else if !found.files.contains_key(&path) {
            found.left.push(path);
        }
    }
    found
}

#[test]
fn deltas_of_every_kind_that_git_makes() {
    let packed = Packed::new(ObjectFormat::Sha1);
    packed.history(60, 0..12);
    assert_eq!(packed.is_right(), (0, 60), "loose objects are left");
    for repack in [
        &["gc", "--quiet", "--aggressive", "--prune=now"][..],
        &["repack", "-qadf", "--depth=4095", "--window=60"],
        &["-c", "repack.useDeltaBaseOffset=false", "repack", "-qadf"],
        &["repack", "-qadf", "--depth=1"],
    ] {
        packed.git(repack, b"");
        let (in_trees, left) = packed.is_right();
        assert!(in_trees >= 20 && left == 0, "{repack:?}: {in_trees} {left}");
    }
    packed.git(&["multi-pack-index", "write"], b"");
    assert_eq!(packed.is_right().1, 0);
}

#[test]
fn deltas_with_long_ids() {
    let packed = Packed::new(ObjectFormat::Sha256);
    for offsets in ["true", "false"] {
        packed.history(60, if offsets == "true" { 0..6 } else { 6..12 });
        packed.git(&["-c", &format!("repack.useDeltaBaseOffset={offsets}"), "repack", "-qadf"], b"");
        let (in_trees, left) = packed.is_right();
        assert!(in_trees >= 20 && left == 0, "{in_trees} {left}");
    }
}

#[test]
fn many_small_packs_that_were_thin() {
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
    let (in_trees, left) = packed.is_right();
    assert!(in_trees >= 30 && left == 0, "{in_trees} {left}");
}

#[test]
fn damage_is_left_to_the_object_database() {
    let packed = Packed::new(ObjectFormat::Sha1);
    packed.history(30, 0..6);
    // Blobs alone: the plan reads trees through the object database, which would stop at damage.
    let all =
        packed.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"], b"");
    let all = String::from_utf8(all).unwrap();
    let blobs: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("blob ")).collect();
    packed.git(
        &["pack-objects", "-q", "--threads=1", "--depth=4095", "objects/pack/pack"],
        (blobs.join("\n") + "\n").as_bytes(),
    );
    let sound = packed.read(1);
    assert!(sound.left.is_empty() && sound.in_trees >= 10);
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
            assert_eq!(sound.files[&path], content, "byte {at} is {byte}: {}", path.display());
        }
    }
    for len in [0, 11, bytes.len() / 3, bytes.len() - 21] {
        fs::write(&pack, &bytes[..len]).unwrap();
        for (path, content) in packed.read(1).files {
            assert_eq!(sound.files[&path], content, "cut at {len}: {}", path.display());
        }
    }
}

/// An object of a pack that no git would write: its kind, what stands between header and content, the content.
struct Object {
    kind: u8,
    base: Vec<u8>,
    content: Vec<u8>,
    /// The size that its header claims.
    claimed: u64,
}

impl Object {
    fn blob(content: &[u8]) -> Self {
        Self { kind: 3, base: Vec::new(), content: content.to_vec(), claimed: content.len() as u64 }
    }

    fn delta(base: [u8; 20], delta: &[u8]) -> Self {
        Self { kind: 7, base: base.to_vec(), content: delta.to_vec(), claimed: delta.len() as u64 }
    }
}

fn id(number: usize) -> [u8; 20] {
    // Spread over all buckets of the index, in the order of numbers.
    let mut id = [7; 20];
    id[..4].copy_from_slice(&((number as u32) << 12).to_be_bytes());
    id
}

/// A repository with these objects, numbered, in one pack, and a tree of those that are wanted.
fn handmade(objects: &[Object], wanted: &[usize], lie: impl Fn(usize, u32) -> u32) -> (Packed, Oid) {
    let packed = Packed::new(ObjectFormat::Sha1);
    let mut compressor = Compressor::new(CompressionLvl::fastest());
    let mut pack = b"PACK\0\0\0\x02\0\0\0\0".to_vec();
    let mut offsets = Vec::new();
    for object in objects {
        offsets.push(pack.len() as u32);
        let mut size = object.claimed >> 4;
        pack.push(object.kind << 4 | (object.claimed & 15) as u8 | if size > 0 { 0x80 } else { 0 });
        while size > 0 {
            pack.push((size & 0x7f) as u8 | if size > 0x7f { 0x80 } else { 0 });
            size >>= 7;
        }
        pack.extend(&object.base);
        let mut compressed = vec![0; compressor.zlib_compress_bound(object.content.len())];
        let len = compressor.zlib_compress(&object.content, &mut compressed).unwrap();
        pack.extend(&compressed[..len]);
    }
    pack.extend([0; 20]);
    let mut index = b"\xfftOc\0\0\0\x02".to_vec();
    for byte in 0..=255 {
        let count = (0..objects.len()).filter(|&number| id(number)[0] <= byte).count() as u32;
        index.extend(count.to_be_bytes());
    }
    (0..objects.len()).for_each(|number| index.extend(id(number)));
    index.extend(vec![0; 4 * objects.len()]);
    for (number, offset) in offsets.into_iter().enumerate() {
        index.extend(lie(number, offset).to_be_bytes());
    }
    index.extend([0; 40]);
    fs::write(packed.path("objects/pack/pack-1.pack"), pack).unwrap();
    fs::write(packed.path("objects/pack/pack-1.idx"), index).unwrap();
    let entries: Vec<u8> = wanted
        .iter()
        .flat_map(|&number| [format!("100644 {number:06}\0").as_bytes(), &id(number)].concat())
        .collect();
    let tree = git2::Repository::open_bare(packed.temp.path()).unwrap();
    let tree = tree.odb().unwrap().write(ObjectType::Tree, &entries).unwrap();
    (packed, tree)
}

#[test]
fn hostile_packs_are_left_to_the_object_database() {
    let same = |_, offset| offset;
    let names = |found: &Found| {
        let mut names: Vec<_> = found.files.keys().map(|path| path.display().to_string()).collect();
        names.sort();
        names
    };
    // A chain of 50,000: copies of a byte.
    let mut chain = vec![Object::blob(b"x")];
    chain.extend((1..50_000).map(|number| Object::delta(id(number - 1), &[1, 1, 0x90, 1])));
    let (packed, tree) = handmade(&chain, &[10, 4095, 49_999], same);
    assert_eq!(names(&packed.read_tree(tree, 2)), ["000010", "004095"]);

    // A delta that claims 16 EiB, as its size and as that of its result; a blob that does; a cycle; a delta of
    // itself, of nothing, and of another size.
    let endless = [1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0x90, 1];
    let mut claims = Object::delta(id(0), &[1, 1, 0x90, 1]);
    claims.claimed = u64::MAX;
    let mut huge = Object::blob(b"x");
    huge.claimed = u64::MAX;
    let odd = [
        Object::blob(b"x"),
        Object::delta(id(0), &endless),
        claims,
        huge,
        Object::delta(id(5), &[1, 1, 0x90, 1]),
        Object::delta(id(4), &[1, 1, 0x90, 1]),
        Object::delta(id(6), &[1, 1, 0x90, 1]),
        Object::delta(id(999), &[1, 1, 0x90, 1]),
        Object::delta(id(0), &[2, 1, 0x90, 1]),
        Object::delta(id(3), &[1, 1, 0x90, 1]),
        Object::delta(id(0), &[1, 1, 0x90, 1]),
    ];
    let (packed, tree) = handmade(&odd, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], same);
    assert_eq!(names(&packed.read_tree(tree, 2)), ["000000", "000010"]);

    // An index that lies: beyond the pack, into its middle, and to offsets of 64 bits that it does not have.
    for lie in [1 << 30, 13, 0x8000_0000, u32::MAX] {
        let few: Vec<_> =
            (0..10).map(|number| Object::blob(format!("content {number}").as_bytes())).collect();
        let lies = |number, offset| if number == 3 { lie } else { offset };
        let (packed, tree) = handmade(&few, &[0, 3, 5], lies);
        assert_eq!(names(&packed.read_tree(tree, 1)), ["000000", "000005"], "{lie:x}");
    }
}

/// A tree of deltas that is wide and deep, with blobs so large that not all bases can be held.
#[test]
fn bases_are_decoded_again_when_too_many_would_be_held() {
    let content: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
    let size = [0x80, 0x92, 0xf4, 0x01];
    let append = |byte: u8| {
        let mut delta = size.to_vec();
        delta.extend(size);
        delta.extend([1, byte]);
        let mut at: u32 = 1;
        while at < 4_000_000 {
            let len = (4_000_000 - at).min(0xff_ffff);
            delta.push(0xff);
            delta.extend(at.to_le_bytes());
            delta.extend(&len.to_le_bytes()[..3]);
            at += len;
        }
        delta
    };
    // Each one is the base of a side branch of two as well, which is decoded first.
    let mut objects = vec![Object::blob(&content)];
    for level in 1..9 {
        objects.push(Object::delta(id(if level == 1 { 0 } else { level - 1 }), &append(level as u8)));
    }
    for branch in 0..8 {
        objects.push(Object::delta(id(branch), &append(100 + branch as u8)));
        objects.push(Object::delta(id(9 + 2 * branch), &append(200 + branch as u8)));
    }
    let all: Vec<usize> = (0..objects.len()).collect();
    let (packed, tree) = handmade(&objects, &all, |_, offset| offset);
    let found = packed.read_tree(tree, 1);
    assert_eq!((found.in_trees, found.left.len()), (objects.len(), 0));
    for (path, read) in &found.files {
        let number: usize = path.to_str().unwrap().parse().unwrap();
        let first = match number {
            0 => 0,
            1..9 => number as u8,
            _ if number % 2 == 1 => 100 + ((number - 9) / 2) as u8,
            _ => 200 + ((number - 10) / 2) as u8,
        };
        assert!(read[0] == first && read[1..] == content[1..], "{number}");
    }
}
