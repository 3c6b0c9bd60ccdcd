//! The program under limits on processes, open files, memory, and file size. It never panics, never leaves a
//! change half-done, and never loses the history. Without the limit, the next push works.
//!
//! The hook, the gate, and a rollback run under each value from 1 to 64 of each limit. Process limits do not
//! apply to root, so each sandbox is owned by a separate user.

use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::promote::{Pair, said};
use crate::support::run::Run;
use crate::support::sandbox::BLUEGREEN;
use crate::support::skip::{program_or_skip, root_or_skip};
use crate::support::two_versions::TwoVersions;

/// The values of each limit.
const VALUES: std::ops::RangeInclusive<u32> = 1..=64;

/// The first of the UIDs that own sandboxes. No account uses these UIDs.
const FIRST_USER: u32 = 61_100;

/// A limit that prlimit(1) sets, with the unit of its value.
#[derive(Clone, Copy)]
enum Limit {
    Processes,
    Files,
    /// In MiB.
    Memory,
    /// In KiB.
    FileSize,
}

impl Limit {
    /// Returns the command that runs another one under the limit, and kills it if it hangs.
    fn wrapper(self, value: u32) -> Vec<String> {
        let (name, unit) = match self {
            Self::Processes => ("nproc", 1),
            Self::Files => ("nofile", 1),
            Self::Memory => ("as", 1 << 20),
            Self::FileSize => ("fsize", 1 << 10),
        };
        let limit = format!("--{name}={}", u64::from(value) * unit);
        ["timeout", "--kill-after=5", "60", "prlimit", &limit].map(str::to_owned).into()
    }
}

/// Returns the history, oldest entry first. Skips a line truncated by a full disk, as the program does.
fn history(two: &TwoVersions) -> Vec<Value> {
    let path = two.sandbox.site().join(".bluegreen/history.jsonl");
    let text = std::fs::read(path).unwrap_or_default();
    text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Returns whether the program starts under a limit. Before `main`, Rust's runtime needs memory of its own, and aborts or
/// panics without it.
fn can_start(wrapper: &[String]) -> bool {
    let started = Command::new(&wrapper[0]).args(&wrapper[1..]).args([BLUEGREEN, "--version"]).output();
    matches!(started.unwrap().status.code(), Some(0 | 1))
}

/// Asserts that the program exited by itself. 134 and SIGABRT are those of an abort, as after an allocation that fails. A
/// program for which there is no memory at all never starts: the kernel kills it with SIGSEGV.
#[track_caller]
fn neither_panicked_nor_aborted(code: Option<i32>, signal: Option<i32>, text: &str, when: &str) {
    let has_said =
        ["panicked", "memory allocation of", "stack overflow"].iter().any(|word| text.contains(word));
    assert!(!has_said && !matches!(code, Some(101 | 134)), "{when}: {code:?}: {text}");
    assert!(!matches!(code, Some(124 | 137)), "{when} hung: {text}");
    let has_started = !text.is_empty();
    assert!(signal.is_none() || signal == Some(11) && !has_started, "{when}: signal {signal:?}: {text}");
}

/// Asserts that a run neither panicked nor hung, and that the live release and the history are intact.
#[track_caller]
fn is_intact(two: &TwoVersions, run: &Run<'_>, before: &[Value], wrapper: &[String], when: &str) {
    if wrapper.is_empty() || can_start(wrapper) {
        neither_panicked_nor_aborted(run.status.code(), run.status.signal(), &run.output, when);
    }
    two.is_whole(when);
    assert!(history(two).starts_with(before), "{when}: the history has lost entries");
}

/// Runs a push and a rollback under each value of the limit, each followed by a push without the limit.
fn survives(two: &TwoVersions, limit: Limit, user: u32) {
    two.sandbox.owned_by(user);
    if two.has_gate {
        let gate = two.sandbox.repository().join("hooks/proc-receive");
        std::fs::remove_file(&gate).unwrap();
        symlink("post-receive", &gate).unwrap();
    }
    let mut succeeded = 0;
    for value in VALUES {
        let (to, wrapper) = (1 - two.live(), limit.wrapper(value));
        let before = history(two);
        let run = two.push(to, &wrapper);
        succeeded += u32::from(run.status.success() && two.live() == to);
        is_intact(two, &run, &before, &wrapper, &format!("a push under {}", wrapper[4]));

        let before = history(two);
        let run = two.push(to, &[]);
        assert!(run.status.success() && two.live() == to, "after {}: {}", wrapper[4], run.output);
        is_intact(two, &run, &before, &[], &format!("the push after {}", wrapper[4]));
        two.agrees(&wrapper[4]);
        two.sandbox.is_tidy();

        let before = history(two);
        let mut rollback = two.command(&wrapper, two.sandbox.hook_path(), &["rollback"]);
        let run = Run::new(&two.sandbox, &mut rollback);
        is_intact(two, &run, &before, &wrapper, &format!("a rollback under {}", wrapper[4]));
    }
    assert!(succeeded > 0, "no push succeeded under any value of the limit");
}

/// Asserts that exactly one side is public, both sites are complete, and no log contains a panic.
#[track_caller]
fn is_consistent(pair: &Pair, when: &str) {
    assert!(["blue", "green"].contains(&pair.public().as_str()), "{when}: `{}` is public", pair.public());
    for side in [&pair.blue, &pair.green] {
        side.serves("index.html", "v1").is_tidy();
    }
}

/// Promotes under each value of the limit, each followed by a promotion without the limit.
fn promotion_survives(limit: Limit, user: u32) {
    let pair = Pair::new();
    pair.configure("watch = \"0.4s\"", "watch = \"0.05s\"");
    for side in [&pair.blue, &pair.green] {
        side.owned_by(user);
    }
    for path in ["", "public", "switch", "promote.toml"] {
        chown(pair.file(path), Some(user), Some(user)).unwrap();
    }
    let mut succeeded = 0;
    // A promotion starts programs, and 64 MiB of memory may be too little for them.
    let enough = matches!(limit, Limit::Memory).then_some(1024);
    for value in VALUES.chain(enough) {
        let wrapper = limit.wrapper(value);
        let to = if pair.public() == "blue" { "green" } else { "blue" };
        let promote = pair.command(&["promote", "--yes", to]);
        let mut command = pair.blue.command(&wrapper[0]);
        command.args(&wrapper[1..]).arg(promote.get_program()).args(promote.get_args());
        let (status, text) = said(&command.stdin(Stdio::null()).output().unwrap());
        let when = format!("a promotion under {}", wrapper[4]);
        let has_said = ["panicked", "memory allocation of"].iter().any(|word| text.contains(word));
        let has_ended = !has_said && ![101, 124, 134, 137].contains(&status);
        assert!(has_ended || !can_start(&wrapper), "{when}: {status}: {text}");
        succeeded += u32::from(status == 0 && pair.public() == to);
        is_consistent(&pair, &when);
        let (status, text) = pair.promote(&[to]);
        assert_eq!(status, 0, "after {when}: {text}");
        assert_eq!(pair.public(), to);
        is_consistent(&pair, &when);
    }
    assert!(succeeded > 0, "no promotion succeeded under any value of the limit");
}

fn can_run() -> bool {
    root_or_skip() && program_or_skip("prlimit")
}

macro_rules! limits {
    ($($name:ident: $versions:expr, $limit:expr, $user:expr;)*) => { $(
        #[test]
        fn $name() {
            if can_run() {
                survives(&$versions, $limit, FIRST_USER + $user);
            }
        }
    )* };
}

#[test]
fn a_promotion_survives_open_file_memory_and_file_size_limits() {
    if !can_run() || !program_or_skip("curl") {
        return;
    }
    // Promotions mostly wait, so these run in parallel. `client_limits` tests process limits.
    std::thread::scope(|scope| {
        for (user, limit) in [(9, Limit::Files), (10, Limit::FileSize), (11, Limit::Memory)] {
            scope.spawn(move || promotion_survives(limit, FIRST_USER + user));
        }
    });
}

limits! {
    the_hook_survives_process_limits: TwoVersions::with_hook(20), Limit::Processes, 0;
    the_hook_survives_open_file_limits: TwoVersions::with_hook(20), Limit::Files, 1;
    the_hook_survives_memory_limits: TwoVersions::with_hook(20), Limit::Memory, 2;
    the_hook_survives_file_size_limits: TwoVersions::with_hook(20), Limit::FileSize, 3;
    the_gate_survives_process_limits: TwoVersions::with_gate(), Limit::Processes, 4;
    the_gate_survives_open_file_limits: TwoVersions::with_gate(), Limit::Files, 5;
    the_gate_survives_memory_limits: TwoVersions::with_gate(), Limit::Memory, 6;
    the_gate_survives_file_size_limits: TwoVersions::with_gate(), Limit::FileSize, 7;
}
