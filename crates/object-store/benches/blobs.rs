//! Reads all blobs of a commit, compared with `git cat-file --batch`. Prints medians of 7 runs in milliseconds.

// In a benchmark, a panic is the right way to fail.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bluegreen_object_store::{
    CopyError, Decoder, Fallback, LargeObject, ObjectFormat, ObjectId, ObjectStore,
};

const FILES: usize = 4000;
const VERSIONS: usize = 20;
const RUNS: usize = 7;

/// A fallback that is never used, because no object in the benchmark is large.
#[derive(Debug)]
struct NoFallback;

impl Fallback for NoFallback {
    fn copy(&self, object: &LargeObject, _: &[PathBuf], _: &mut dyn Write) -> Result<(), CopyError> {
        panic!("{object:?}")
    }
}

fn main() {
    let temp = tempfile::tempdir().unwrap();
    create(temp.path());
    let list = git(temp.path(), &["ls-tree", "-r", "--object-only", "master"], b"");
    let ids: Vec<ObjectId> = list.split(|byte| *byte == b'\n').filter_map(ObjectId::parse).collect();
    assert_eq!(ids.len(), FILES);
    let by_git = median(|| git(temp.path(), &["cat-file", "--batch", "--buffer"], &list).len());
    println!("git cat-file --batch   {by_git:8.1}");
    for threads in [1, 2] {
        let ours = median(|| read(temp.path(), &ids, threads));
        println!("{threads} thread(s)            {ours:8.1}   {:.2}", ours / by_git);
    }
}

/// Generates a packed history of similar files.
fn create(path: &Path) {
    git(path, &["init", "--quiet", "--bare", "."], b"");
    let mut stream = String::new();
    for version in 0..VERSIONS {
        writeln!(stream, "commit refs/heads/master\ncommitter A <a@b> {version} +0000\ndata 0").unwrap();
        for file in (0..FILES).filter(|file| version == 0 || (file + version) % 10 == 0) {
            let mut content = String::new();
            for line in 0..200 {
                let changed = if line == version * 7 { version } else { 0 };
                writeln!(content, "line {line} {} {changed}", (line * file * 2_654_435_761) % 1_000_003)
                    .unwrap();
            }
            writeln!(stream, "M 644 inline dir{}/{file}\ndata {}\n{content}", file % 50, content.len())
                .unwrap();
        }
    }
    git(path, &["fast-import", "--quiet"], stream.as_bytes());
    git(path, &["repack", "-qadf"], b"");
}

fn read(path: &Path, ids: &[ObjectId], threads: usize) -> usize {
    let store = ObjectStore::new(&path.join("objects"), ObjectFormat::Sha1, &NoFallback);
    let blobs = store.find_blobs(ids, threads);
    let work = |subtrees: &[bluegreen_object_store::Subtree]| {
        let (mut decoder, mut bytes) = (Decoder::default(), 0);
        for &subtree in subtrees {
            let Ok(()) = decoder.decode(&blobs, subtree, |decoded| {
                bytes += decoded.content.unwrap().len();
                Ok::<_, Infallible>(())
            });
        }
        bytes
    };
    let subtrees = blobs.subtrees();
    std::thread::scope(|scope| {
        let chunks = subtrees.chunks(subtrees.len().div_ceil(threads));
        let threads: Vec<_> = chunks.map(|chunk| scope.spawn(|| work(chunk))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// Returns the median time of a run, in milliseconds.
fn median(run: impl Fn() -> usize) -> f64 {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            assert!(run() > 0);
            started.elapsed()
        })
        .collect();
    times.sort();
    times[RUNS / 2].as_secs_f64() * 1000.0
}

fn git(path: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut git = Command::new("git");
    git.current_dir(path).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_DIR", ".");
    let mut git = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = git.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = git.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    feeder.join().unwrap().unwrap();
    output.stdout
}
