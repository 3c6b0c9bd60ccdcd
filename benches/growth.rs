//! Growth of the work with the site: 1,000, 10,000 and 100,000 files.
//!
//! `cargo bench --bench growth`: a first release is to grow linearly, a one-file push no steeper than
//! git's own checkout in place. `BENCH_DIR` and `BENCH_RUNS` as for the bars.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]
#![allow(missing_docs, dead_code)]

mod support;

use std::fs;

use support::{Pairs, Scratch, Server, machine, make_repository};

fn main() {
    let runs = std::env::var("BENCH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(5);
    let scratch = Scratch::new();
    println!("Machine: {}\n", machine());
    println!("| files | first release | per file | one-file push | bash hook, in place | ratio | spread |");
    println!("|---|---|---|---|---|---|---|");
    for files in [1_000, 10_000, 100_000] {
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
        for path in [&origin, &blue.site, &blue.repository, &bash.site, &bash.repository] {
            fs::remove_dir_all(path).unwrap();
        }
    }
}
