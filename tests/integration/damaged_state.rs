//! Damaged files in `.bluegreen/`, a wrong clock, and a process limit: the program fails safe and never
//! panics.

use std::fs;

use crate::support::sandbox::BLUEGREEN;
use crate::support::skip::program_or_skip;
use crate::support::{Node, Run, Sandbox};

#[test]
fn an_unreadable_public_mark_counts_as_public() {
    let sandbox = Sandbox::new();
    sandbox.site_config("when-public = \"refuse\"").commit("index.html", "v1").push().ok();
    let (mark, first) = (sandbox.site().join(".bluegreen/public"), sandbox.id("master"));
    for damage in [&b""[..], b"{\"public\":tr", &[0; 40], b"{\"public\":\"no\"}"] {
        fs::write(&mark, damage).unwrap();
        sandbox.commit("index.html", "v2").push().not_deployed().serves("index.html", "v1");
        // An operator on the server gets a warning instead.
        sandbox.bluegreen(&["deploy", &first]).warned().serves("index.html", "v1");
        sandbox.bluegreen(&["public"]).fails(1);
        let status = sandbox.bluegreen(&["status", "--json"]);
        assert!(status.output.contains("warning: cannot read `"), "{}", status.output);
    }
    fs::remove_file(&mark).unwrap();
    fs::create_dir(&mark).unwrap();
    sandbox.commit("index.html", "v3").push().not_deployed().serves("index.html", "v1");
    fs::remove_dir(&mark).unwrap();
    sandbox.commit("index.html", "v4").push().ok().serves("index.html", "v4");
}

#[test]
fn a_damaged_journal_triggers_verification_of_the_live_release() {
    let sandbox = Sandbox::new();
    sandbox.config_section("[steps]\nverify = 'test ! -e ../../bad'");
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.commit("index.html", "v2").push().ok();
    let journal = sandbox.site().join(".bluegreen/publishing");
    fs::write(sandbox.site().join("bad"), "").unwrap();
    for damage in
        [&b""[..], &[0; 80], b"{\"release\":\"none\",\"previous\":null,\"is_new\":true,\"push\":null}"]
    {
        fs::write(&journal, damage).unwrap();
        let _ = sandbox.bluegreen(&["resume"]).status;
        assert!(!journal.exists());
    }
    sandbox.serves("index.html", "v1");
}

#[test]
fn without_threads_the_calling_thread_does_all_work() {
    if !program_or_skip("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    let names: Vec<String> = (0..600).map(|number| format!("d{}/{number}", number % 50)).collect();
    let nodes: Vec<(&[u8], Node)> =
        names.iter().map(|name| (name.as_bytes(), Node::file(name.as_bytes()))).collect();
    sandbox.config("checkout-threads = 4").commit_nodes(&nodes).push_refs(&["master:topic"]).ok();
    let mut deployed = 0;
    for first in 1..=8 {
        let mut strace = sandbox.command("strace");
        let inject = format!("inject=clone3:error=EAGAIN:when={first}+");
        strace.args(["-qqq", "-o", "/dev/null", "-e", "trace=clone3", "-e", &inject]);
        strace.arg(BLUEGREEN).args(["-C", "repository", "deploy", "topic"]);
        let run = Run::new(&sandbox, &mut strace);
        assert!(!run.output.contains("panicked"), "threads fail from number {first} on: {}", run.output);
        if run.status.success() {
            sandbox.serves_checkout("master");
            deployed += 1;
        }
    }
    assert!(deployed > 0, "every run without threads failed");
}
