//! A test that cannot run here says so; where `CI` is set, that is a failure.

use std::io::Write;

/// Names a skipped test and why, past the test harness, which hides what a passing test prints.
#[track_caller]
pub fn skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "cannot run here: {reason}");
    let line = format!("skipped {name}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Returns whether the test may do what only root can; names it as skipped if not.
#[must_use = "a test without root returns early"]
#[track_caller]
pub fn root_or_skip() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("needs root");
    }
    is_root
}

/// Returns whether a program is there; names the test as skipped if not.
#[must_use = "a test without its program returns early"]
#[track_caller]
pub fn program_or_skip(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !found {
        skip(&format!("needs `{program}`"));
    }
    found
}
