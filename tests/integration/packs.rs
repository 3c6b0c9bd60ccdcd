//! The reader of packs against git: what it reads is what `git cat-file` says, and what it cannot read it leaves.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bluegreen::checkout::listing::Listing;
use bluegreen::checkout::objects::Objects;
use bluegreen::checkout::pack_decode::Decoder;
use bluegreen::checkout::packed_blobs::PackedBlobs;
use bluegreen::checkout::plan::Plan;
use bluegreen::git::Repository;
use git2::{ObjectFormat, Oid};

/// A bare repository.
pub struct Packed {
    pub temp: tempfile::TempDir,
    format: ObjectFormat,
}

/// The files of a commit as the reader of packs finds them.
pub struct Found {
    /// The content of each file that it read.
    pub files: HashMap<PathBuf, Vec<u8>>,
    /// Those that it leaves to be read one by one.
    pub left: Vec<PathBuf>,
    /// The number of those that were made of deltas.
    pub deltas: usize,
}

impl Packed {
    pub fn new(format: ObjectFormat) -> Self {
        let packed = Self { temp: tempfile::tempdir().unwrap(), format };
        let name = if format == ObjectFormat::Sha1 { "sha1" } else { "sha256" };
        packed.git(&["init", "--quiet", "--bare", &format!("--object-format={name}"), "."], b"");
        packed
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    #[track_caller]
    pub fn git(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
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
    pub fn history(&self, files: usize, versions: std::ops::Range<usize>) -> &Self {
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

    pub fn read_tree(&self, tree: Oid, threads: usize) -> Found {
        let repository = Repository::open(self.temp.path()).unwrap();
        let objects = Objects::new(&repository, self.format);
        let listing = Plan::read(&objects, tree, None, 1_000_000, None).unwrap().listing;
        let is_file = |entry: &u32| !listing.entries[*entry as usize].kind.is_directory();
        let wanted: Vec<u32> = (0..listing.entries.len() as u32).filter(is_file).collect();
        let packed = PackedBlobs::new(objects.packs(), &listing, &wanted, threads).unwrap();
        found(&packed, &listing, &wanted)
    }

    /// Asserts that what was read is what git says; gives how many files were made of deltas and how many were left.
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
        (found.deltas, found.left.len())
    }

    pub fn packs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("objects/pack")).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "pack")).collect()
    }
}

fn found(packed: &PackedBlobs, listing: &Listing, wanted: &[u32]) -> Found {
    let mut decoder = Decoder::default();
    let mut found = Found { files: HashMap::new(), left: Vec::new(), deltas: 0 };
    for &root in &packed.subtrees {
        decoder
            .decode(packed, root, |node, content| {
                for &entry in packed.entries_of(node) {
                    assert!(packed.is_in_delta_tree(entry));
                    if let Some(content) = content {
                        assert_eq!(packed.size(entry), Some(content.len() as u64));
                        let before = found.files.insert(listing.path_of(entry), content.to_vec());
                        assert!(before.is_none(), "it was read twice");
                        found.deltas += usize::from(node != root);
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    let paths = wanted.iter().map(|&entry| listing.path_of(entry));
    found.left = paths.filter(|path| !found.files.contains_key(path)).collect();
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
        &["-c", "pack.indexVersion=1", "repack", "-qadf"],
        &["repack", "-qadf", "--depth=1"],
    ] {
        packed.git(repack, b"");
        let (deltas, left) = packed.is_right();
        assert!(deltas >= 20 && left == 0, "{repack:?}: {deltas} {left}");
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
        let (deltas, left) = packed.is_right();
        assert!(deltas >= 20 && left == 0, "{deltas} {left}");
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
    let (deltas, left) = packed.is_right();
    assert!(deltas >= 30 && left == 0, "{deltas} {left}");
}

#[test]
fn more_packs_than_descriptors() {
    let packed = Packed::new(ObjectFormat::Sha1);
    let mut stream = Vec::new();
    for version in 0..600 {
        writeln!(stream, "commit refs/heads/master\ncommitter A <a@b> {version} +0000\ndata 0").unwrap();
        let files = if version == 0 { 0..300 } else { version % 300..version % 300 + 1 };
        for file in files {
            let content = format!("version {version} of {file}\n");
            writeln!(stream, "M 644 inline {file}\ndata {}\n{content}", content.len()).unwrap();
        }
        writeln!(stream, "checkpoint").unwrap();
    }
    packed.git(&["-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"], &stream);
    assert!(packed.packs().len() > 512, "{}", packed.packs().len());
    let site = packed.path("site");
    fs::create_dir(&site).unwrap();
    fs::write(packed.path("bluegreen.toml"), format!("[site]\nroot = '{}'\n", site.display())).unwrap();
    let mut deploy = Command::new("sh");
    deploy.args(["-c", "ulimit -n 1024; exec \"$0\" -C \"$1\" deploy", env!("CARGO_BIN_EXE_bluegreen")]);
    let output = deploy.arg(packed.temp.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for file in [0, 299] {
        let served = fs::read_to_string(site.join(format!("current/{file}"))).unwrap();
        assert_eq!(served, format!("version {} of {file}\n", 300 + file));
    }
}

#[test]
fn damaged_blobs_are_left() {
    let packed = Packed::new(ObjectFormat::Sha1);
    packed.history(30, 0..6);
    // Blobs alone: the plan would stop at a damaged tree.
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
