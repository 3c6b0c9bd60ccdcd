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
    let before: Vec<String> = calls[..flip].iter().rev().cloned().collect();
    let order = [
        position(&calls, &["flock(", ".bluegreen/lock"]),
        position(&calls, &["openat2(", "index.html", "O_CREAT|O_EXCL", "RESOLVE_NO_SYMLINKS"]),
        position(&calls, &["renameat(", "\".incoming-", "<site>/releases>, \"20"]),
        position(&calls, &["fsync(", "/index.html>"]),
        position(&calls, &["fsync(", "<site>/releases/"]),
        position(&calls, &["fdatasync(", ".bluegreen/releases/", "manifest"]),
        flip - 1 - position(&before, &["fdatasync(", ".bluegreen/releases/", ".toml"]),
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
fn many_files_and_those_of_steps_are_flushed_with_the_whole_file_system() {
    if !program_or_skip("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 1");
    let syncs = |sandbox: &Sandbox| {
        let calls = trace(sandbox);
        let flip = position(&calls, &["renameat(", ".current.next", "\"current\""]);
        calls[..flip].iter().filter(|call| call.contains("syncfs(")).count()
    };
    let topic = ["master:refs/heads/topic"];
    for file in 0..40 {
        sandbox.commit(&format!("files/{file}"), "1");
    }
    sandbox.push_refs(&topic).ok();
    assert_eq!(syncs(&sandbox), 1, "40 new files");
    let counts = ["2", "3", "4", "5"].map(|version| {
        sandbox.commit("files/1", version).push_refs(&topic).ok();
        syncs(&sandbox)
    });
    // The first versions find no release to recycle.
    assert_eq!((counts[0], counts[3]), (1, 0), "{counts:?}");
    sandbox.config_section("[steps]\nbuild = 'echo built >built'");
    sandbox.commit("files/1", "6").push_refs(&topic).ok();
    assert_eq!(syncs(&sandbox), 1, "a step");
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
