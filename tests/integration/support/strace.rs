//! Programs behind strace: their calls are written down, or one call kills the program.

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

/// The command line of a strace that kills the program at a call, by its number among those of that name.
pub fn killing(call: &str, number: usize) -> Vec<String> {
    let inject = format!("inject={call}:signal=KILL:when={number}");
    ["strace", "-qqq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]
        .map(String::from)
        .into()
}

/// Kills a program once at each of these calls that changes something. The program deploys one of two versions, in
/// turn: `run` gets which, and the command line of a strace. Then `check` gets the version, the number of kills so
/// far, and a word on when that was. Returns how often each call killed.
///
/// Between two changes a disk is the same at all times, so that a kill there would be none that differs.
pub fn killed_at_each_change<'a>(
    sandbox: &'a Sandbox,
    calls: &[&'static str],
    run: impl Fn(usize, &[String]) -> Run<'a>,
    check: impl Fn(usize, usize, &str),
) -> BTreeMap<&'static str, usize> {
    let trace = sandbox.path("trace");
    let noting =
        ["strace", "-qqq", "-o", trace.to_str().unwrap(), "-e", &format!("trace={}", calls.join(","))];
    // The first two bring the server to where each deployment finds what the one before it found.
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
            // One version may take more calls than the other, which may take none; the turns stay as they are.
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
    // A run may make fewer calls than the one that was written down.
    let count = missed.len();
    assert!(count <= kills / 10 + 1, "{count} of {kills} kills came to nothing: {missed:?}");
    killed
}

/// Reads the calls that change something from a trace, as their numbers. Of files that are opened these are new ones.
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
