//! Disk errors at any call of a gated push whose verification fails: the live release and the branch always
//! agree, and the next push works.

use std::os::unix::fs::PermissionsExt;

use crate::support::Sandbox;
use crate::support::sandbox::BLUEGREEN;
use crate::support::skip::program_or_skip;

/// System calls, each with the minimum number that a push makes in the program itself.
const CALLS: [(&str, usize); 4] = [("fsync", 8), ("fdatasync", 1), ("renameat", 6), ("write", 20)];

struct Server {
    sandbox: Sandbox,
    good: String,
}

impl Server {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.config("checkout-threads = 1").config_section(
            "[steps]\nrestart = 'cp index.html ../../restarted'\nverify = 'test ! -e broken'",
        );
        let repository = sandbox.repository();
        sandbox.git_in(&repository, &["config", "receive.procReceiveRefs", "refs/heads/master"]);
        sandbox.git_in(&repository, &["config", "core.fsync", "committed,reference"]);
        let server = Self { good: String::new(), sandbox };
        server.install(&format!("exec {BLUEGREEN} hook proc-receive"));
        server.sandbox.commit("index.html", "v1").push().ok();
        let good = server.sandbox.id("master");
        server.sandbox.commit("broken", "").commit("index.html", "v2");
        Self { good, ..server }
    }

    fn install(&self, line: &str) {
        let gate = self.sandbox.repository().join("hooks/proc-receive");
        std::fs::write(&gate, format!("#!/bin/sh\n{line}\n")).unwrap();
        std::fs::set_permissions(&gate, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Pushes the broken version while one call fails. Returns whether the fault was triggered.
    fn push_with(&self, call: &str, number: usize, follow: &str) -> bool {
        let trace = self.sandbox.path("trace");
        let inject = format!("inject={call}:error=EIO:when={number}");
        let strace = format!("strace -qqq {follow} -o {} -e trace={call} -e {inject}", trace.display());
        self.install(&format!("exec {strace} {BLUEGREEN} hook proc-receive"));
        let push = self.sandbox.push();
        let when = format!("{call} number {number} {follow}\n{}", push.output);
        assert!(!push.output.contains("panicked"), "{when}");
        assert!(
            self.sandbox.live().contains(&self.sandbox.tip()[..12]),
            "branch and site disagree after {when}"
        );
        let has_failed = std::fs::read_to_string(trace).unwrap().contains("(INJECTED)");
        if self.sandbox.tip() != self.good {
            assert!(has_failed && push.output.contains("Deployed with errors"), "{when}");
            self.sandbox.bluegreen(&["deploy", &self.good]).ok();
            self.sandbox.git_in(&self.sandbox.repository(), &["update-ref", "refs/heads/master", &self.good]);
        }
        self.sandbox.serves("index.html", "v1");
        has_failed
    }
}

#[test]
fn live_release_and_branch_agree_whichever_call_fails() {
    if !program_or_skip("strace") {
        return;
    }
    let server = Server::new();
    for (call, least) in CALLS {
        let failed = (1..1000).take_while(|&number| server.push_with(call, number, "")).count();
        assert!(failed >= least, "{call} failed only {failed} times");
    }
    server.install(&format!("exec {BLUEGREEN} hook proc-receive"));
    server.sandbox.commit_tree(&[(b"index.html", crate::support::Node::file("v3"))]);
    server.sandbox.push().ok().serves("index.html", "v3");
}

#[test]
fn live_release_and_branch_agree_whichever_git_call_fails() {
    if !program_or_skip("strace") {
        return;
    }
    let server = Server::new();
    // Each process counts its own calls, so small numbers reach every git process.
    for call in ["fsync", "rename", "renameat", "write"] {
        let failed = (1..8).filter(|&number| server.push_with(call, number, "-f")).count();
        assert!(failed > 0, "{call} never failed");
    }
}

#[test]
fn the_next_command_restores_a_branch_that_could_not_move_back() {
    let server = Server::new();
    let (sandbox, stuck) = (&server.sandbox, server.sandbox.path("stuck"));
    // Git's own hook rejects every ref update after the verification has failed.
    let hook = sandbox.repository().join("hooks/reference-transaction");
    std::fs::write(&hook, format!("#!/bin/sh\n[ \"$1\" != prepared ] || [ ! -e {} ]\n", stuck.display()))
        .unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.raw_config(&format!(
        "server = 'blue'\n[site]\nroot = '{}'\n[steps]\nverify = 'test ! -e broken || {{ touch {}; exit 1; }}'\n",
        sandbox.site().display(),
        stuck.display()
    ));
    let push = sandbox.push();
    assert!(push.output.contains("warning: "), "{}", push.output);
    sandbox.serves("index.html", "v1");
    assert_ne!(server.sandbox.tip(), server.good, "the hook must keep the branch from moving back");
    std::fs::remove_file(&stuck).unwrap();
    sandbox.bluegreen(&["rollback"]).fails(1);
    assert_eq!(server.sandbox.tip(), server.good, "the next command must move the branch back");
    assert!(!sandbox.site().join(".bluegreen/publishing").exists());
}
