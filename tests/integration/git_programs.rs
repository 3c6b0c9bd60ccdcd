//! Programs configured in a repository: git runs them where they are expected, and nowhere else.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::Sandbox;
use crate::support::sandbox::BLUEGREEN;

/// A sandbox whose program `spy` appends its arguments, and the refs of a transaction, to the file `ran`.
fn spied() -> Sandbox {
    let sandbox = Sandbox::new();
    let spy = sandbox.path("spy");
    let ran = sandbox.path("ran");
    std::fs::write(&ran, "").unwrap();
    let script = "#!/bin/sh\necho \"$@\" >>RAN\n[ \"$*\" != committed ] || cat >>RAN\n";
    std::fs::write(&spy, script.replace("RAN", &ran.display().to_string())).unwrap();
    std::fs::set_permissions(&spy, std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox
}

impl Sandbox {
    fn set(&self, key: &str, value: &str) {
        self.git_in(&self.repository(), &["config", key, value]);
    }

    fn ran(&self) -> String {
        std::fs::read_to_string(self.path("ran")).unwrap()
    }
}

/// Makes the repository a partial clone that lacks a commit, which git would fetch through `spy`.
fn make_partial_clone(sandbox: &Sandbox) {
    let spy = sandbox.path("spy").display().to_string();
    sandbox.set("core.repositoryFormatVersion", "1");
    sandbox.set("extensions.partialClone", "origin");
    sandbox.set("remote.origin.promisor", "true");
    sandbox.set("remote.origin.url", "deploy@192.0.2.1:x");
    sandbox.set("core.sshCommand", &spy);
    sandbox.set("core.gitProxy", &spy);
    sandbox.set("core.askPass", &spy);
    sandbox.set("core.pager", &spy);
    sandbox.set("core.fsmonitor", &spy);
    let branch = sandbox.repository().join("refs/heads/master");
    std::fs::write(branch, format!("{}\n", "1".repeat(40))).unwrap();
}

#[test]
fn missing_objects_are_not_fetched_lazily() {
    let sandbox = spied();
    sandbox.commit("index.html", "v1").push().ok();
    make_partial_clone(&sandbox);
    for command in
        [&["status"][..], &["check"], &["deploy"], &["deploy", "HEAD"], &["deploy", "--dry-run"], &["resume"]]
    {
        let mut command = sandbox.bluegreen_command(command);
        command.output().unwrap();
        assert_eq!(sandbox.ran(), "", "{command:?}");
    }
    // Control: git itself does fetch.
    let mut git = sandbox.git_command(&sandbox.repository());
    git.args(["rev-parse", "--verify", "refs/heads/master^{commit}"]).output().unwrap();
    assert_ne!(sandbox.ran(), "");
}

#[test]
fn the_reference_transaction_hook_sees_only_the_branch() {
    let sandbox = spied();
    symlink(BLUEGREEN, sandbox.repository().join("hooks/proc-receive")).unwrap();
    sandbox.set("receive.procReceiveRefs", "refs/heads/master");
    symlink(sandbox.path("spy"), sandbox.repository().join("hooks/reference-transaction")).unwrap();
    sandbox.commit("index.html", "v1").push().ok();
    let ran = sandbox.ran();
    assert!(ran.contains("committed") && ran.contains(" refs/heads/master"), "{ran}");
    assert!(!ran.contains("refs/bluegreen"), "{ran}");
    std::fs::write(sandbox.path("ran"), "").unwrap();
    for command in [&["status"][..], &["check"], &["deploy"], &["rollback"], &["resume"]] {
        let mut command = sandbox.bluegreen_command(command);
        command.output().unwrap();
        assert_eq!(sandbox.ran(), "", "{command:?}");
    }
}
