//! How the work grows with the number of files in the site (1,000, 10,000, and 100,000) and with the number
//! of objects in the history (1,000 to 1,000,000 under the same tree).
//!
//! Run it with `cargo bench --bench growth`. The time of a first release should grow linearly with the files, and
//! stay constant with the history. The time of a one-file push should grow no more steeply than that of git's
//! checkout in place. `BENCH_DIR` and `BENCH_RUNS` have the same meaning as for the benchmark `speed`.

#![allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs, dead_code)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::history::make_history;
use support::repository::make_repository;
use support::server::Server;
use support::{BLUEGREEN, Pairs, Scratch, number, peak, time};

/// The maximum time or memory of a first release, relative to the repository with the shortest history.
const HISTORY_TARGET: f64 = 1.2;

fn main() {
    let runs = number("BENCH_RUNS", 5);
    let scratch = Scratch::new();
    println!("Growth with the number of files:\n");
    println!("| files | first release | per file | one-file push | bash hook, in place | ratio | spread |");
    println!("|---|---|---|---|---|---|---|");
    for files in [1_000, 10_000, 100_000] {
        with_files(&scratch, files, runs);
    }
    println!("\nGrowth with the history, with the same tree of 1,000 files:\n");
    println!("| objects | first release | vs. first row | target | peak memory | vs. first row | target |");
    println!("|---|---|---|---|---|---|---|");
    with_history(&scratch, runs);
}

fn with_files(scratch: &Scratch, files: usize, runs: usize) {
    let origin = scratch.path().join("origin.git");
    make_repository(&origin, files, 1, runs + 4);
    let blue = Server::bluegreen(scratch.path(), &origin, "blue", 2);
    let bash = Server::bash(scratch.path(), &origin, "bash");
    let mut first: Vec<f64> = (0..3).map(|version| blue.push(version).as_secs_f64()).collect();
    first.sort_by(f64::total_cmp);
    bash.push(0);
    let pairs = Pairs::measure(
        runs,
        |round| blue.push(3 + round).as_secs_f64(),
        |round| bash.push(3 + round).as_secs_f64(),
    );
    let (least, median, greatest) = pairs.ratio();
    println!(
        "| {files} | {:.3} s | {:.1} us | {:.4} s | {:.4} s | {median:.2} | {least:.2} to {greatest:.2} |",
        first[1],
        first[1] / files as f64 * 1e6,
        pairs.ours(),
        pairs.theirs()
    );
    fs::remove_dir_all(origin).unwrap();
    blue.remove();
    bash.remove();
}

/// Compares each history with the shortest one, in pairs.
fn with_history(scratch: &Scratch, runs: usize) {
    let histories = [1_000, 10_000, 100_000, 1_000_000].map(|objects| {
        let origin = scratch.path().join(format!("history{objects}.git"));
        make_history(&origin, objects);
        (objects, origin)
    });
    let shortest = &histories[0].1;
    for (objects, origin) in &histories {
        let timed = |origin: &Path| first(scratch, origin, |command| time(command).as_secs_f64());
        let took = Pairs::measure(runs * 3, |_| timed(origin), |_| timed(shortest));
        let weighed = |origin: &Path| first(scratch, origin, |command| peak(command));
        let held = Pairs::measure(3, |_| weighed(origin), |_| weighed(shortest));
        let cells = |pairs: &Pairs, unit: &str| {
            let ratio = pairs.ratio().1;
            let verdict = if ratio > HISTORY_TARGET { " (missed)" } else { "" };
            format!("{:.3} {unit} | **{ratio:.2}** | <= {HISTORY_TARGET:.2}{verdict}", pairs.ours())
        };
        println!("| {objects} | {} | {} |", cells(&took, "s"), cells(&held, "MB"));
    }
}

/// Measures a first release into an empty site.
fn first(scratch: &Scratch, origin: &Path, measure: impl Fn(&mut Command) -> f64) -> f64 {
    let site = scratch.path().join("site");
    fs::create_dir(&site).unwrap();
    fs::write(origin.join("bluegreen.toml"), format!("[site]\nroot = \"{}\"\n", site.display())).unwrap();
    let measured = measure(Command::new(BLUEGREEN).arg("-C").arg(origin).arg("deploy"));
    fs::remove_dir_all(site).unwrap();
    measured
}
