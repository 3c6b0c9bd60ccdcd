//! Skips tests that cannot run on this machine.

use std::io::Write;

/// Prints which test is skipped, why, and the command that runs it with everything it needs.
///
/// Panics instead if `CI` is set. Appends the test's name to the file named in `BLUEGREEN_SKIPS`, from which
/// `tests/run` counts. Writes to standard error directly, because the test harness hides the output of
/// passing tests.
#[track_caller]
pub fn skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "cannot run here: {reason}");
    let line = format!("skipped {name}: {reason}; to run it: sudo ./tests/run {name}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("BLUEGREEN_SKIPS") {
        let mut list = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        list.write_all(format!("{name}\n").as_bytes()).unwrap();
    }
}

/// Returns whether the test runs as root; skips it otherwise.
#[must_use = "a test without root returns early"]
#[track_caller]
pub fn root_or_skip() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("not root");
    }
    is_root
}

/// Returns whether a program is installed; skips the test otherwise.
#[must_use = "a test without its program returns early"]
#[track_caller]
pub fn program_or_skip(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !found {
        skip(&format!("`{program}` is not installed"));
    }
    found
}
