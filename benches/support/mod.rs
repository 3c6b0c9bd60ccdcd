//! Shared code of the benchmarks: a working directory, peers run as processes, and pairwise ratios.

pub mod history;
pub mod repository;
pub mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The program that `cargo bench` built.
pub const BLUEGREEN: &str = env!("CARGO_BIN_EXE_bluegreen");

/// A temporary directory, in memory if there is enough space.
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

/// Runs a command without output and asserts success.
pub fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns a git command without the user's settings.
pub fn git(repository: &Path) -> Command {
    let mut git = Command::new("git");
    for variable in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"] {
        git.env_remove(variable);
    }
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").arg("--git-dir").arg(repository);
    git
}

/// Returns the earlier build of bluegreen to compare with, from the variable `BENCH_BEFORE`.
pub fn before() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("BENCH_BEFORE")?);
    Some(path.canonicalize().expect("BENCH_BEFORE must be the path of a program"))
}

/// Returns the output of a command, without the last newline.
pub fn said(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap().trim_end().to_owned()
}

/// Returns a number from an environment variable, or the default.
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: `{text}`")))
}

/// Returns the peak resident set size of a command and its children in MB, measured with GNU time.
pub fn peak(command: &Command) -> f64 {
    let mut time = Command::new("/usr/bin/time");
    time.args(["-f", "%M"]).arg(command.get_program()).args(command.get_args());
    time.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = time.output().expect("GNU time must be installed as /usr/bin/time (package time)");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().last().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Measures the duration of a command.
pub fn time(command: &mut Command) -> Duration {
    let start = Instant::now();
    run(command);
    start.elapsed()
}

/// Alternating measurements of two programs, compared in pairs.
pub struct Pairs {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Pairs {
    /// Pairs existing measurements, without the first of each.
    pub fn of(ours: &[f64], theirs: &[f64]) -> Self {
        Self { ours: ours[1..].to_vec(), theirs: theirs[1..].to_vec() }
    }

    /// Measures both `runs` times alternately, after an uncounted warm-up round. Each closure receives the
    /// round, from 0.
    pub fn measure(
        runs: usize,
        mut ours: impl FnMut(usize) -> f64,
        mut theirs: impl FnMut(usize) -> f64,
    ) -> Self {
        let (ours, theirs): (Vec<f64>, Vec<f64>) =
            (0..=runs).map(|round| (ours(round), theirs(round))).unzip();
        Self::of(&ours, &theirs)
    }

    pub fn ours(&self) -> f64 {
        median(&self.ours)
    }

    pub fn theirs(&self) -> f64 {
        median(&self.theirs)
    }

    /// Returns the minimum, median, and maximum ratio.
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

/// Describes the machine on which the figures were measured.
pub fn machine() -> String {
    let first = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split(':').nth(1).unwrap_or("unknown").trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let memory = first("/proc/meminfo", "MemTotal");
    let kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    format!(
        "{cores} cores ({}) and {:.0} GiB of memory, with Linux {} and git {}",
        first("/proc/cpuinfo", "model name"),
        kib / f64::from(1 << 20),
        short_version(&said(Command::new("uname").arg("-r"))),
        short_version(&said(Command::new("git").arg("--version")))
    )
}

/// Returns the first two components of the version at the end of a text: "2.47" for "git version 2.47.3".
fn short_version(text: &str) -> String {
    let version = text.rsplit(' ').next().unwrap_or_default();
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}
