//! The order of a deployment's system calls: what is flushed to disk before activation, and what after it.

use crate::support::skip::program_or_skip;
use crate::support::{Run, Sandbox};

/// Returns the system calls of a deployment that show its order.
fn trace(sandbox: &Sandbox) -> Vec<String> {
    let file = sandbox.path("trace");
    let mut strace = sandbox.command("strace");
    strace
        .args(["-qqq", "-y", "-f", "-o"])
        .arg(&file)
        .args([
            "-e",
            "trace=flock,openat,openat2,renameat,renameat2,symlinkat,syncfs,fsync,fdatasync,unlinkat",
        ])
        .arg(sandbox.hook_path())
        .args(["deploy", "topic"]);
    Run::new(sandbox, &mut strace).ok();
    std::fs::read_to_string(file).unwrap().lines().map(|line| sandbox.normalize_paths(line)).collect()
}

#[track_caller]
fn position(calls: &[String], parts: &[&str]) -> usize {
    let found = calls.iter().position(|call| parts.iter().all(|part| call.contains(part)));
    found.unwrap_or_else(|| panic!("no call with {parts:?}:\n{}", calls.join("\n")))
}

#[test]
fn a_release_is_durable_before_activation_and_activation_before_it_is_reported() {
    if !program_or_skip("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 0").commit("index.html", "v1").push().ok();
    sandbox.commit("index.html", "v2").push_refs(&["master:refs/heads/topic"]).ok();
    let calls = trace(&sandbox);
    let flip = position(&calls, &["renameat(", ".current.next", "\"current\""]);
    let order = [
        position(&calls, &["flock(", ".bluegreen/lock"]),
        position(&calls, &["openat2(", "index.html", "O_CREAT|O_EXCL", "RESOLVE_NO_SYMLINKS"]),
        position(&calls, &["renameat(", "\".incoming-", "<site>/releases>, \"20"]),
        position(&calls, &["syncfs("]),
        position(&calls, &["fdatasync(", ".bluegreen/releases/"]),
        position(&calls, &["symlinkat(", ".current.next"]),
        flip,
        flip + position(&calls[flip..], &["fsync(", "<site>/releases>"]),
        flip + position(&calls[flip..], &["fsync(", "<site>>"]),
        // Pruning comes last.
        flip + position(&calls[flip..], &["renameat(", "<site>/releases>, \"20", "\".incoming-"]),
    ];
    assert!(order.is_sorted(), "{order:?}\n{}", calls.join("\n"));
    let flips = calls.iter().filter(|call| call.contains("rename") && call.contains("\"current\"")).count();
    assert_eq!(flips, 1, "`current` must be replaced exactly once");
}

#[test]
fn durable_false_flushes_nothing() {
    if !program_or_skip("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.site_config("durable = false").commit("index.html", "v1");
    sandbox.push_refs(&["master:refs/heads/topic"]).ok();
    let calls = trace(&sandbox);
    position(&calls, &["renameat(", ".current.next", "\"current\""]);
    assert!(!calls.iter().any(|call| call.contains("sync")), "{}", calls.join("\n"));
}
