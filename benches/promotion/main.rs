//! Seconds that `bluegreen promote` and `bluegreen push` take with sides of 1, 10, and 50 servers.
//!
//! `cargo bench --bench promotion` prints Markdown. Each server is an account of its own, with its repository, its site, and
//! its connections through a real sshd. The accounts of a side share a machine. The switch writes a file. Arguments select
//! parts: `promote`, `push`, and `slow`, in which one server takes two seconds longer than the others.
//!
//! It needs root and the packages of the system tests (`tests/setup`). Environment variables: `BENCH_RUNS` is the number of rounds,
//! `BENCH_SERVERS` the numbers of servers, and `BENCH_BEFORE` another `bluegreen` for the client, which takes turns with
//! this one.

#![allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs, dead_code)]

mod fleet;

#[path = "../../tests/system/booted.rs"]
mod booted;
#[path = "../../tests/system/lab.rs"]
mod lab;
#[path = "../../tests/system/machine.rs"]
mod machine;
#[path = "../../tests/integration/support/skip.rs"]
mod skip;
#[path = "../support/mod.rs"]
mod support;

use fleet::{Fleet, Promotion};
use support::{Pairs, number};

/// The programs of the client, by the path on its machine: this one, and another to compare with.
const OURS: &str = "/usr/local/bin/bluegreen";
const BEFORE: &str = "/usr/local/bin/before";

/// The maximum ratio of a side to its slowest server.
const TARGET: f64 = 2.0;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for word in &chosen {
        assert!(["promote", "push", "slow"].contains(&word.as_str()), "unknown part `{word}`");
    }
    let has = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);
    let counts = std::env::var("BENCH_SERVERS").unwrap_or_else(|_| "1 10 50".into());
    let counts: Vec<usize> = counts.split_whitespace().map(|count| count.parse().unwrap()).collect();
    let most = counts.iter().copied().max().unwrap_or_default();
    let runs = number("BENCH_RUNS", 5);
    let Some(mut fleet) = Fleet::boot(most) else { return };
    println!("Measured on {}; medians of {runs}.\n", support::machine());
    if has("promote") {
        println!(
            "| servers of a side | connections per server | look | lock and check | switch | until switched | in all |"
        );
        println!("|---|---|---|---|---|---|---|");
        counts.iter().for_each(|&count| promote(&mut fleet, count, runs));
        println!();
    }
    if has("push") {
        println!("| servers | `bluegreen push` |");
        println!("|---|---|");
        for &count in &counts {
            fleet.configure(count);
            let times = (0..=runs).map(|_| fleet.push(OURS)).collect::<Vec<_>>();
            println!("| {count} | {:.2} s |", Pairs::of(&times, &times).ours());
        }
        println!();
    }
    if has("slow") {
        slow(&mut fleet, most, runs.min(3));
    }
}

/// Measures promotions back and forth by this client, and by the other one in turn.
fn promote(fleet: &mut Fleet, count: usize, runs: usize) {
    fleet.configure(count);
    let programs = if fleet.has_before { &[BEFORE, OURS][..] } else { &[OURS][..] };
    let mut measured: Vec<Vec<Promotion>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..=runs {
        for (program, all) in programs.iter().zip(&mut measured) {
            all.push(fleet.promote(program));
        }
    }
    let median = |all: &[Promotion], of: fn(&Promotion) -> f64| {
        let values: Vec<f64> = all.iter().map(of).collect();
        Pairs::of(&values, &values).ours()
    };
    for (program, all) in programs.iter().zip(&measured) {
        let name = if *program == BEFORE { ", before" } else { "" };
        println!(
            "| {count}{name} | {:.0} | {:.2} s | {:.2} s | {:.2} s | **{:.2} s** | {:.2} s |",
            median(all, |run| run.connections),
            median(all, |run| run.looked),
            median(all, |run| run.checked - run.looked),
            median(all, |run| run.switched - run.checked),
            median(all, |run| run.switched),
            median(all, |run| run.total),
        );
    }
    if let [before, ours] = measured.as_slice() {
        let ratio = |of: fn(&Promotion) -> f64| {
            let values = |all: &[Promotion]| all.iter().map(of).collect::<Vec<f64>>();
            let (low, median, high) = Pairs::of(&values(ours), &values(before)).ratio();
            format!("**{median:.2}** ({low:.2} to {high:.2})")
        };
        let (switched, total) = (ratio(|run| run.switched), ratio(|run| run.total));
        println!("| {count}, ratio | | | | | {switched} | {total} |");
    }
}

/// Compares a side in which one server is slow with that server alone.
fn slow(fleet: &mut Fleet, most: usize, runs: usize) {
    println!("| work | the slow server alone | a side of {most} with it | ratio | target |");
    println!("|---|---|---|---|---|");
    fleet.slow_down(true);
    let row = |name: &str, times: (Vec<f64>, Vec<f64>)| {
        let pairs = Pairs::of(&times.0, &times.1);
        let ratio = pairs.ratio().1;
        let missed = if ratio > TARGET { ", missed" } else { "" };
        let (alone, side) = (pairs.theirs(), pairs.ours());
        println!("| {name} | {alone:.2} s | {side:.2} s | **{ratio:.2}** | <= {TARGET:.0}{missed} |");
    };
    let mut measure = |work: &dyn Fn(&mut Fleet) -> f64| {
        let mut of = |count| {
            fleet.configure(count);
            work(fleet)
        };
        (0..=runs).map(|_| (of(most), of(1))).unzip()
    };
    row("`bluegreen push`", measure(&|fleet| fleet.push(OURS)));
    row("`bluegreen promote`, until switched", measure(&|fleet| fleet.promote(OURS).switched));
    fleet.slow_down(false);
}
