//! Repositories to measure: a synthetic one without deltas, and statistics of any repository.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{git, run, said};

/// A running `git fast-import`.
pub struct Import {
    child: Child,
    pub to: BufWriter<ChildStdin>,
}

impl Import {
    /// Writes all objects into one pack without deltas.
    pub fn packed(repository: &Path) -> Self {
        Self::start(repository, 0)
    }

    /// Writes loose objects, as small pushes leave them, because `git gc` searches for no deltas within a
    /// pack.
    pub fn loose(repository: &Path) -> Self {
        Self::start(repository, 1_000_000_000)
    }

    fn start(repository: &Path, unpack_limit: usize) -> Self {
        let limit = format!("fastimport.unpackLimit={unpack_limit}");
        let arguments = ["-c", &limit, "fast-import", "--quiet", "--depth=0", "--force"];
        let mut child = git(repository).args(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let to = BufWriter::new(child.stdin.take().unwrap());
        Self { child, to }
    }

    /// Starts a commit on a branch, with `from` as its parent if it does not continue the branch.
    pub fn commit(&mut self, branch: &str, time: usize, from: Option<&str>) {
        let time = 1_700_000_000 + time;
        let text = "commit refs/heads/";
        writeln!(self.to, "{text}{branch}\ncommitter bench <bench@localhost> {time} +0000\ndata 8\nversion")
            .unwrap();
        if let Some(from) = from {
            writeln!(self.to, "from refs/heads/{from}").unwrap();
        }
    }

    pub fn file(&mut self, path: &str, content: &[u8]) {
        writeln!(self.to, "M 100644 inline {path}\ndata {}", content.len()).unwrap();
        self.to.write_all(content).unwrap();
        writeln!(self.to).unwrap();
    }

    pub fn end(self) {
        let Self { mut child, to } = self;
        drop(to.into_inner().unwrap());
        assert!(child.wait().unwrap().success());
    }
}

pub fn init(path: &Path) {
    run(Command::new("git").args(["init", "-q", "--bare", "--initial-branch=master"]).arg(path));
}

/// Generates a bare repository with `files` files of about 4.4 kB in directories of 50, and `versions` more
/// commits that each change every `files / changed`-th file. No files are similar, so git creates no deltas.
pub fn make_repository(path: &Path, files: usize, changed: usize, versions: usize) {
    init(path);
    let mut import = Import::packed(path);
    let mut random = Random(1);
    let words: Vec<String> = (0..5000).map(|_| random.word()).collect();
    for version in 0..=versions {
        let step = if version == 0 { 1 } else { files / changed };
        let from = version.checked_sub(1).map(|before| format!("v{before}"));
        import.commit(&format!("v{version}"), version, from.as_deref());
        for file in (0..files).skip(if version == 0 { 0 } else { step / 2 }).step_by(step) {
            let mut text = format!("version {version}");
            while text.len() < 4400 {
                text.push(' ');
                text.push_str(&words[random.below(words.len())]);
            }
            let directory = file / 50;
            let path = format!("top{}/directory{directory}/file{file}.txt", directory % 10);
            import.file(&path, text.as_bytes());
        }
        writeln!(import.to).unwrap();
    }
    import.end();
    run(git(path).args(["gc", "-q"]));
    set_master(path, 0);
}

/// Moves the branch, as a push would have done.
pub fn set_master(repository: &Path, version: usize) {
    run(git(repository).args(["update-ref", "refs/heads/master", &format!("refs/heads/v{version}")]));
}

/// Returns a row for the table of repositories: commit, files, MB, percentage of objects stored as deltas,
/// and packs.
pub fn row_of(name: &str, repository: &Path) -> String {
    let git = || git(repository);
    let commit = said(git().args(["rev-parse", "--short=12", "master"]));
    let tree = said(git().args(["ls-tree", "-r", "-l", "master"]));
    let blobs: Vec<(&str, f64)> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(2);
            Some((words.next()?, words.next()?.parse().ok()?))
        })
        .collect();
    let ids: String = blobs.iter().map(|(id, _)| format!("{id}\n")).collect();
    let mut list = git()
        .args(["cat-file", "--batch-check=%(deltabase)"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = list.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || to.write_all(ids.as_bytes()).unwrap());
    let bases = String::from_utf8(list.wait_with_output().unwrap().stdout).unwrap();
    feeder.join().unwrap();
    let deltas = bases.lines().filter(|base| base.bytes().any(|digit| digit != b'0')).count();
    let packs = std::fs::read_dir(repository.join("objects/pack")).unwrap().flatten();
    let packs = packs.filter(|file| file.path().extension().is_some_and(|end| end == "pack")).count();
    let size = blobs.iter().map(|(_, size)| size).sum::<f64>() / 1e6;
    let share = deltas as f64 / blobs.len() as f64 * 100.0;
    format!("| {name} | `{commit}` | {} | {size:.1} | {share:.0} % | {packs} |", blobs.len())
}

/// A pseudorandom number generator with Knuth's MMIX constants, which generates the same repository in every
/// run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    pub fn word(&mut self) -> String {
        let length = 2 + self.below(9);
        (0..length).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}
