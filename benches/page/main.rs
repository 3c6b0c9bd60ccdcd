//! Seconds from the command to the new page, on temporary servers with a real sshd, nginx, and systemd.
//!
//! `cargo bench --bench page` measures three tools on the same server, and prints Markdown: the tutorial's bash
//! hook (`git push`), Capistrano (`git push` and `cap production deploy`), and bluegreen (`git push`). The command
//! is timed until visitors get the changed line of the page. The tools take turns. Arguments select parts: `static`,
//! `php`, `node`, `python`, `rails`, `fleet` (a static site on 1, 10, and 50 servers), and `master` (a push with ssh's
//! `ControlMaster`).
//!
//! It needs root and the packages of the system tests (`tests/setup`), and from apt `capistrano`, `ruby-ed25519`, and
//! `ruby-bcrypt-pbkdf`. Environment variables: `BENCH_RUNS` is the number of rounds, and `BENCH_SERVERS` the numbers
//! of servers.

#![allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs, dead_code)]

mod apps;
mod fleet;
mod tools;

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

use apps::APPS;
use support::{Pairs, number};
use tools::Tool;

/// The maximum ratios to Capistrano and to the bash hook.
const CAPISTRANO_TARGET: f64 = 0.15;
const HOOK_TARGET: f64 = 1.05;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: Vec<&str> = APPS.iter().map(|app| app.name).chain(["fleet", "master"]).collect();
    for word in &chosen {
        assert!(
            parts.contains(&word.as_str()),
            "unknown part `{word}`: expected one of {}",
            parts.join(", ")
        );
    }
    let has = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);
    let runs = number("BENCH_RUNS", 5);
    println!("Measured on {}; medians of {runs}.\n", support::machine());
    let mut missed = Vec::new();
    if APPS.iter().any(|app| has(app.name)) {
        println!("| app | packages | the bash hook | bluegreen | Capistrano | to the hook | to Capistrano |");
        println!("|---|---|---|---|---|---|---|");
        for app in APPS.iter().filter(|app| has(app.name)) {
            for (packages, times) in apps::measure(app, runs) {
                times.print(&format!("{} | {packages}", app.title), true, &mut missed);
            }
        }
        println!();
    }
    if has("fleet") {
        println!("| servers | the bash hook | bluegreen | Capistrano | to the hook | to Capistrano |");
        println!("|---|---|---|---|---|---|");
        fleet::measure(runs.min(5), |servers, times| {
            times.print(&servers.to_string(), servers == 1, &mut missed);
        });
        println!();
    }
    if has("master") {
        apps::measure_master(runs);
    }
    match missed.as_slice() {
        [] => println!("All targets are met."),
        missed => println!("Missed targets ({}): {}.", missed.len(), missed.join("; ")),
    }
}

/// The durations of the tools in the same rounds, in seconds, with an uncounted first round.
#[derive(Default)]
pub struct Times {
    hook: Vec<f64>,
    bluegreen: Vec<f64>,
    capistrano: Vec<f64>,
}

impl Times {
    /// Measures every tool in each round, in rotating order.
    pub fn measure(runs: usize, mut time: impl FnMut(Tool) -> f64) -> Self {
        let mut times = Self::default();
        for round in 0..=runs {
            let mut order = [Tool::Hook, Tool::Bluegreen, Tool::Capistrano];
            order.rotate_left(round % 3);
            for tool in order {
                let took = time(tool);
                match tool {
                    Tool::Hook => times.hook.push(took),
                    Tool::Bluegreen => times.bluegreen.push(took),
                    Tool::Capistrano => times.capistrano.push(took),
                }
            }
        }
        times
    }

    /// Prints a row, and records the targets that it misses.
    fn print(&self, name: &str, has_targets: bool, missed: &mut Vec<String>) {
        let hook = Pairs::of(&self.bluegreen, &self.hook);
        let capistrano = Pairs::of(&self.bluegreen, &self.capistrano);
        let mut cell = |pairs: &Pairs, target: f64, against: &str| {
            let (least, median, greatest) = pairs.ratio();
            let is_missed = has_targets && median > target;
            if is_missed {
                missed.push(format!("{}, to {against}", name.replace(" | ", ", ")));
            }
            let verdict = if is_missed { ", missed" } else { "" };
            format!("**{median:.2}** ({least:.2} to {greatest:.2}{verdict})")
        };
        let (to_hook, to_capistrano) =
            (cell(&hook, HOOK_TARGET, "the hook"), cell(&capistrano, CAPISTRANO_TARGET, "Capistrano"));
        println!(
            "| {name} | {:.2} s | {:.2} s | {:.2} s | {to_hook} | {to_capistrano} |",
            hook.theirs(),
            hook.ours(),
            capistrano.theirs(),
        );
    }
}
