//! The common part of the benchmarks: a repository that they make, peers that are run as whole processes, and
//! ratios pair by pair.

use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The program as `cargo bench` built it.
pub const BLUEGREEN: &str = env!("CARGO_BIN_EXE_bluegreen");

/// The hook that bluegreen replaces, as the tutorial has it.
const BASH_HOOK: &str = r#"#!/bin/bash
while read oldrev newrev ref
do
    if [[ $ref =~ .*/master$ ]];
    then
        echo "Master ref received.  Deploying master branch to $(hostname)..."
        git --work-tree=SITE --git-dir=REPOSITORY checkout -f
        echo "Git hooks deploy complete."
    else
        echo "Ref $ref successfully received.  Doing nothing: only the master branch may be deployed on this server."
    fi
done
"#;

/// A folder that is removed at the end, in memory where the machine has room there.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let base = std::env::var_os("BENCH_DIR").map(PathBuf::from);
        let shm = PathBuf::from("/dev/shm");
        let base = base.unwrap_or_else(|| if shm.is_dir() { shm } else { std::env::temp_dir() });
        let path = base.join(format!("bluegreen-bench-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a command without a word and insists that it succeeds.
pub fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// git, without the settings of whoever runs the benchmark.
pub fn git(repository: &Path) -> Command {
    let mut git = Command::new("git");
    for variable in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"] {
        git.env_remove(variable);
    }
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").arg("--git-dir").arg(repository);
    git
}

/// Times one run of a command.
pub fn time(command: &mut Command) -> Duration {
    let start = Instant::now();
    run(command);
    start.elapsed()
}

/// A bare repository with a text of `files` files of about 4.4 kB in directories of 50, and
/// `versions` more commits that each change every `files / changed`-th file.
pub fn make_repository(path: &Path, files: usize, changed: usize, versions: usize) {
    run(Command::new("git").args(["init", "-q", "--bare", "--initial-branch=master"]).arg(path));
    let mut import = git(path).args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut to = BufWriter::new(import.stdin.take().unwrap());
    let mut random = Random(1);
    let words: Vec<String> = (0..5000).map(|_| random.word()).collect();
    for version in 0..=versions {
        let step = if version == 0 { 1 } else { files / changed };
        let touched: Vec<usize> =
            (0..files).skip(if version == 0 { 0 } else { step / 2 }).step_by(step).collect();
        writeln!(
            to,
            "commit refs/heads/v{version}\ncommitter bench <bench@localhost> {} +0000",
            1_700_000_000 + version
        )
        .unwrap();
        write!(to, "data 8\nversion\n").unwrap();
        if version > 0 {
            writeln!(to, "from refs/heads/v{}", version - 1).unwrap();
        }
        for file in touched {
            let mut text = format!("version {version}");
            while text.len() < 4400 {
                text.push(' ');
                text.push_str(&words[random.below(words.len())]);
            }
            let directory = file / 50;
            writeln!(
                to,
                "M 100644 inline top{}/directory{directory}/file{file}.txt\ndata {}\n{text}",
                directory % 10,
                text.len()
            )
            .unwrap();
        }
        writeln!(to).unwrap();
    }
    drop(to);
    assert!(import.wait().unwrap().success());
    run(git(path).args(["gc", "-q"]));
    set_master(path, 0);
}

/// Moves the branch, as a push would just have done.
pub fn set_master(repository: &Path, version: usize) {
    run(git(repository).args(["update-ref", "refs/heads/master", &format!("refs/heads/v{version}")]));
}

/// A server with one of the two hooks: a repository that shares its objects with `origin`, and a site.
pub struct Server {
    pub repository: PathBuf,
    pub site: PathBuf,
}

impl Server {
    pub fn bluegreen(scratch: &Path, origin: &Path, name: &str, keep: usize) -> Self {
        let server = Self::new(scratch, origin, name);
        let config =
            format!("server = \"blue\"\n[site]\nroot = \"{}\"\nkeep = {keep}\n", server.site.display());
        fs::write(server.repository.join("bluegreen.toml"), config).unwrap();
        symlink(BLUEGREEN, server.repository.join("hooks/post-receive")).unwrap();
        server
    }

    pub fn bash(scratch: &Path, origin: &Path, name: &str) -> Self {
        let server = Self::new(scratch, origin, name);
        let hook = BASH_HOOK
            .replace("SITE", server.site.to_str().unwrap())
            .replace("REPOSITORY", server.repository.to_str().unwrap());
        let path = server.repository.join("hooks/post-receive");
        fs::write(&path, hook).unwrap();
        run(Command::new("chmod").arg("+x").arg(path));
        server
    }

    fn new(scratch: &Path, origin: &Path, name: &str) -> Self {
        let (repository, site) = (scratch.join(format!("{name}.git")), scratch.join(format!("{name}.site")));
        run(Command::new("cp").arg("-rl").arg(origin).arg(&repository));
        fs::remove_dir_all(repository.join("hooks")).unwrap();
        fs::create_dir(repository.join("hooks")).unwrap();
        fs::create_dir(&site).unwrap();
        set_master(&repository, 0);
        Self { repository, site }
    }

    /// Runs the hook as receive-pack does and times it.
    pub fn hook(&self, line: &str) -> Duration {
        let start = Instant::now();
        let mut hook = Command::new(self.repository.join("hooks/post-receive"))
            .current_dir(&self.repository)
            .env("GIT_DIR", ".")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        hook.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        assert!(hook.wait().unwrap().success());
        start.elapsed()
    }

    /// Moves the branch and runs the hook.
    pub fn push(&self, version: usize) -> Duration {
        set_master(&self.repository, version);
        let id = git(&self.repository).args(["rev-parse", "refs/heads/master"]).output().unwrap().stdout;
        let id = String::from_utf8(id).unwrap();
        self.hook(&format!("{} {} refs/heads/master\n", "0".repeat(40), id.trim()))
    }
}

/// Ratios of two measurements, pair by pair, in turn.
pub struct Pairs {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Pairs {
    /// Measures `runs` times one after the other, after one round that does not count. Both are told the
    /// round, from 0.
    pub fn measure(
        runs: usize,
        mut ours: impl FnMut(usize) -> f64,
        mut theirs: impl FnMut(usize) -> f64,
    ) -> Self {
        let mut pairs = Self { ours: Vec::new(), theirs: Vec::new() };
        for round in 0..=runs {
            let (a, b) = (ours(round), theirs(round));
            if round > 0 {
                pairs.ours.push(a);
                pairs.theirs.push(b);
            }
        }
        pairs
    }

    pub fn ours(&self) -> f64 {
        median(&self.ours)
    }

    pub fn theirs(&self) -> f64 {
        median(&self.theirs)
    }

    /// Least, median and greatest ratio.
    pub fn ratio(&self) -> (f64, f64, f64) {
        let mut ratios: Vec<f64> = self.ours.iter().zip(&self.theirs).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        (ratios[0], median(&ratios), ratios[ratios.len() - 1])
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// The machine on which the figures were measured.
pub fn machine() -> String {
    let first = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split(':').nth(1).unwrap_or("unknown").trim().to_owned()
    };
    let said = |command: &str, argument: &str| {
        let output =
            Command::new(command).arg(argument).output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    format!(
        "{cores} cores ({}), {} of memory, Linux {}, {}",
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal"),
        said("uname", "-r"),
        said("git", "--version")
    )
}

/// A small generator, so that every run makes the same repository (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn word(&mut self) -> String {
        let length = 2 + self.below(9);
        (0..length).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}
