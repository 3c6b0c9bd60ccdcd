//! Performance targets, each a ratio to the program that a user would run instead.
//!
//! `cargo bench --bench speed` generates repositories, runs all installed peers alternately, and prints
//! Markdown. Progress goes to standard error. `cargo bench --bench speed -- push plain` runs only these
//! parts.
//!
//! Environment variables: `BENCH_REPOSITORIES` contains further repositories, separated by `:`, each as
//! `PATH` or `NAME=PATH`. `BENCH_RUNS` is the number of pairs, `BENCH_FILES` the number of files in the
//! largest repository, and `BENCH_DIR` the working directory. `BENCH_BEFORE` is an earlier build of bluegreen, which
//! becomes a peer.

#![allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs, dead_code)]

mod first;
mod push;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;

use support::repository::make_repository;
use support::{Pairs, Scratch, machine, number};

/// The parts, in the order of measurement.
const PARTS: [&str; 7] = ["given", "lived-in", "plain", "push", "percent", "ref", "rollback"];

pub struct Bench {
    scratch: Scratch,
    /// A repository without deltas.
    plain: PathBuf,
    runs: usize,
    fresh: usize,
    gix: Option<PathBuf>,
    before: Option<PathBuf>,
    /// The rows of the other tables: peak memory, and the repositories.
    memory: Vec<String>,
    repositories: Vec<String>,
    missed: Vec<String>,
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for word in &chosen {
        assert!(
            PARTS.contains(&word.as_str()),
            "unknown part `{word}`: expected one of {}",
            PARTS.join(", ")
        );
    }
    let has = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);
    let given = first::given();
    let scratch = Scratch::new();
    let mut bench = Bench {
        plain: scratch.path().join("plain.git"),
        scratch,
        runs: number("BENCH_RUNS", 7),
        fresh: 0,
        gix: first::build_gix(),
        before: support::before(),
        memory: Vec::new(),
        repositories: Vec::new(),
        missed: Vec::new(),
    };
    let files = number("BENCH_FILES", 50_000);
    println!("Measured on {}, by the median of {} pairs or more, of 3 for memory.\n", machine(), bench.runs);
    print_head("work");
    if has("given") {
        given.into_iter().for_each(|(name, path)| bench.given(&name, &path));
    }
    if has("lived-in") {
        bench.lived_in();
    }
    if ["plain", "push", "ref", "rollback"].into_iter().any(has) {
        eprintln!("Generating a repository of {files} files without deltas...");
        make_repository(&bench.plain, files, 1, 30);
    }
    for (part, measure) in [
        ("plain", Bench::plain as fn(&mut Bench)),
        ("push", Bench::one_file),
        ("percent", Bench::one_percent),
        ("ref", Bench::other_ref),
        ("rollback", Bench::rollback),
    ] {
        if has(part) {
            measure(&mut bench);
        }
    }
    bench.print_rest();
}

fn print_head(first: &str) {
    println!("| {first} | against | target | ratio | spread | bluegreen | other |");
    println!("|---|---|---|---|---|---|---|");
}

/// How an earlier build is named in the tables, and the ratio to it that is within the noise.
const BEFORE: (&str, f64) = ("the build before", 1.03);

impl Bench {
    /// Formats a row of a table, and records a missed target.
    fn row(&mut self, work: &str, against: &str, target: Option<f64>, unit: &str, pairs: &Pairs) -> String {
        let (least, median, greatest) = pairs.ratio();
        let is_missed = target.is_some_and(|target| median > target);
        if is_missed {
            self.missed.push(format!("{work}, against {against}"));
        }
        let target = target.map_or("none".to_owned(), |target| format!("<= {target:.2}"));
        let verdict = if is_missed { " (missed)" } else { "" };
        let (ours, theirs) = (pairs.ours(), pairs.theirs());
        format!(
            "| {work} | {against} | {target}{verdict} | **{median:.2}** | {least:.2} to {greatest:.2} \
             | {ours:.3} {unit} | {theirs:.3} {unit} |"
        )
    }

    /// Prints a row of the table of durations.
    fn print(&mut self, work: &str, against: &str, target: f64, pairs: &Pairs) {
        println!("{}", self.row(work, against, Some(target), "s", pairs));
    }

    fn print_rest(&self) {
        if !self.memory.is_empty() {
            println!("\nPeak memory:\n");
            print_head("work");
            self.memory.iter().for_each(|row| println!("{row}"));
            println!("\nThe repositories of the first releases:\n");
            println!(
                "| repository | commit | files | MB | stored as deltas | packs |\n|---|---|---|---|---|---|"
            );
            self.repositories.iter().for_each(|row| println!("{row}"));
        }
        match self.missed.as_slice() {
            [] => println!("\nAll targets are met."),
            missed => println!("\nMissed targets ({}): {}.", missed.len(), missed.join("; ")),
        }
    }

    /// Creates a new directory, so that no run is slowed down by the deletions of another.
    fn fresh(&mut self) -> PathBuf {
        self.fresh += 1;
        let path = self.scratch.path().join(format!("fresh{}", self.fresh));
        fs::create_dir(&path).unwrap();
        path
    }
}
