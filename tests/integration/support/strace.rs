//! Runs programs under strace, to record system calls or to kill the program at one of them.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use super::{Run, Sandbox};

/// Calls that change the disk.
pub const DISK_CALLS: [&str; 12] = [
    "openat",
    "openat2",
    "mkdirat",
    "unlinkat",
    "renameat",
    "renameat2",
    "symlinkat",
    "write",
    "fsync",
    "fdatasync",
    "syncfs",
    "ftruncate",
];

/// Returns the strace command that kills the program at the call with this number and name.
pub fn killing(call: &str, number: usize) -> Vec<String> {
    let inject = format!("inject={call}:signal=KILL:when={number}");
    ["strace", "-qqq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]
        .map(String::from)
        .into()
}

/// Kills a program once at each of these calls that changes state. The program deploys two versions in turn.
/// `run` receives the version and the strace command. Then `check` receives the version, the number of kills
/// so far, and a description of the kill. Returns the number of kills per call.
///
/// Between two changes the disk stays the same, so a kill there would add nothing.
pub fn killed_at_each_change<'a>(
    sandbox: &'a Sandbox,
    calls: &[&'static str],
    run: impl Fn(usize, &[String]) -> Run<'a>,
    check: impl Fn(usize, usize, &str),
) -> BTreeMap<&'static str, usize> {
    let trace = sandbox.path("trace");
    let noting =
        ["strace", "-qqq", "-o", trace.to_str().unwrap(), "-e", &format!("trace={}", calls.join(","))];
    // The first two runs bring the server into the state in which each later deployment starts.
    let plans = [0, 1, 0, 1].map(|version| {
        let run = run(version, &noting.map(String::from));
        assert!(run.status.success(), "{}", run.output);
        changes(&trace)
    });
    let mut killed = BTreeMap::new();
    let (mut kills, mut missed) = (0, Vec::new());
    for &call in calls {
        let numbers = [&plans[2], &plans[3]].map(|plan| plan.get(call).map_or(&[][..], Vec::as_slice));
        for at in 0..numbers[0].len().max(numbers[1].len()) {
            let version = kills % 2;
            // One version may make more calls than the other, or the other may make none. The versions
            // alternate anyway.
            let number = numbers[version].get(at).or(numbers[version].last()).copied().unwrap_or(1);
            let run = run(version, &killing(call, number));
            let when = format!("a kill at {call} number {number}");
            check(version, kills, &when);
            kills += 1;
            if run.status.signal() == Some(9) {
                *killed.entry(call).or_default() += 1;
            } else {
                missed.push(when);
            }
        }
    }
    // A run may make fewer calls than the recorded one.
    let count = missed.len();
    assert!(count <= kills / 10 + 1, "{count} of {kills} kills had no effect: {missed:?}");
    killed
}

/// Returns the numbers of the state-changing calls in a trace. Of the calls that open files, only those that
/// create a file count.
fn changes(trace: &Path) -> BTreeMap<String, Vec<usize>> {
    let trace = std::fs::read(trace).unwrap();
    let (mut counts, mut changes) = (BTreeMap::new(), BTreeMap::new());
    for line in String::from_utf8_lossy(&trace).lines() {
        let call = line.split('(').next().unwrap().to_owned();
        let number = counts.entry(call.clone()).or_insert(0);
        *number += 1;
        if !call.starts_with("open") || line.contains("O_CREAT") || line.contains("O_TRUNC") {
            changes.entry(call).or_insert_with(Vec::new).push(*number);
        }
    }
    changes
}
