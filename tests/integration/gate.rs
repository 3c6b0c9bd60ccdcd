//! The gate: a push fails if its deployment fails, and the ref moves together with activation.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bluegreen_git::settings::RECOMMENDED;

use crate::support::sandbox::BLUEGREEN;
use crate::support::{Run, Sandbox};

const REFUSED: &str = " ! [remote rejected] master -> master";

/// A sandbox whose branch is handled by `proc-receive`.
fn gated(steps: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    gate(&sandbox);
    if !steps.is_empty() {
        sandbox.config_section(&format!("[steps]\n{steps}"));
    }
    sandbox
}

fn gate(sandbox: &Sandbox) {
    symlink(BLUEGREEN, sandbox.repository().join("hooks/proc-receive")).unwrap();
    server_git(sandbox, &["config", "receive.procReceiveRefs", "refs/heads/master"]);
}

fn server_git(sandbox: &Sandbox, arguments: &[&str]) -> String {
    sandbox.git_in(&sandbox.repository(), arguments)
}

/// Returns the commit that the server's branch points to, or an empty string.
fn tip(sandbox: &Sandbox) -> String {
    server_git(sandbox, &["for-each-ref", "--format=%(objectname)", "refs/heads/master"])
}

fn install_hook(sandbox: &Sandbox, name: &str, script: &str) {
    let path = sandbox.repository().join("hooks").join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

trait Rejected<'a> {
    /// Asserts that git rejected the push with this reason.
    fn rejected(self, reason: &str) -> &'a Sandbox;
}

impl<'a> Rejected<'a> for Run<'a> {
    #[track_caller]
    fn rejected(self, reason: &str) -> &'a Sandbox {
        let line = format!("{REFUSED} ({reason})");
        assert!(self.output.lines().any(|said| said == line), "{line}\n{}", self.output);
        assert_eq!(self.status.code(), Some(1), "{}", self.output);
        assert!(!self.output.contains("panicked"), "{}", self.output);
        self.sandbox
    }
}

#[track_caller]
fn agrees(sandbox: &Sandbox) {
    let commit = &sandbox.live()[17..29];
    assert!(tip(sandbox).starts_with(commit), "the branch is at {}, {commit} is live", tip(sandbox));
}

#[test]
fn a_gated_push_reports_each_action_once() {
    let sandbox = gated(
        "check = 'test $(git --git-dir=../../../repository rev-parse -q --verify master || echo none) = none'",
    );
    sandbox.commit("index.html", "v1");
    sandbox
        .push()
        .ok()
        .says_only(&[
            "Master ref received.  Deploying master branch to blue...",
            "Step check: test $(git --git-dir=../../../repository rev-parse -q --verify master || echo none) = none",
            "Release <release> is live: 1 file changed, <time>",
            "Git hooks deploy complete.",
        ])
        .serves("index.html", "v1");
    assert_eq!(tip(&sandbox), sandbox.id("master"));
    assert!(!sandbox.site().join(".bluegreen/publishing").exists());
}

#[test]
fn a_failed_deployment_fails_the_push_and_the_commit_can_be_pushed_again() {
    let sandbox = gated("build = 'test ! -e ../../broken'");
    sandbox.commit("index.html", "v1").push().ok();
    std::fs::write(sandbox.site().join("broken"), "").unwrap();
    sandbox.commit("index.html", "v2");
    let push = sandbox.push();
    for line in [
        "remote: error: step `test ! -e ../../broken` exited with status 1",
        "remote: hint: fix it and push again",
    ] {
        assert!(push.output.lines().any(|said| said.trim_end() == line), "{}", push.output);
    }
    push.rejected("step test ! -e ../../broken exited with status 1").serves("index.html", "v1");
    assert_eq!(tip(&sandbox), sandbox.id("master~1"));
    std::fs::remove_file(sandbox.site().join("broken")).unwrap();
    sandbox.push().ok().serves("index.html", "v2");
    agrees(&sandbox);
}

#[test]
fn an_invalid_config_fails_the_gated_push() {
    let sandbox = gated("");
    sandbox.commit("a", "1");
    sandbox.raw_config("brnch = 'x'");
    let push = sandbox.push();
    assert!(push.output.contains('(') && push.output.contains("unknown field brnch"), "{}", push.output);
    assert_eq!(push.status.code(), Some(1));
    assert_eq!(tip(&sandbox), "");
}

#[test]
fn a_failed_verification_restores_the_ref() {
    let sandbox = gated("verify = 'test ! -e broken'");
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.commit("broken", "");
    sandbox.push().rejected("step test ! -e broken exited with status 1").serves("index.html", "v1");
    agrees(&sandbox);
    assert_eq!(tip(&sandbox), sandbox.id("master~1"));
}

#[test]
fn a_disk_error_while_reverting_leaves_site_and_branch_consistent() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let sandbox = gated("restart = 'cp index.html ../../restarted'\nverify = 'test ! -e broken'");
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.commit("broken", "").commit("index.html", "v2");
    let gate = sandbox.repository().join("hooks/proc-receive");
    let mut failed = 0;
    for number in 1..100 {
        std::fs::remove_file(&gate).unwrap();
        let (trace, inject) = (sandbox.path("trace"), format!("inject=fsync:error=EIO:when={number}"));
        let strace = format!("strace -qqq -o {} -e trace=fsync -e {inject}", trace.display());
        install_hook(&sandbox, "proc-receive", &format!("exec {strace} {BLUEGREEN} hook proc-receive"));
        let push = sandbox.push();
        assert_eq!(push.status.code(), Some(1), "fsync number {number}: {}", push.output);
        agrees(&sandbox);
        sandbox.serves("index.html", "v1");
        let restarted = std::fs::read_to_string(sandbox.site().join("restarted")).unwrap();
        assert_eq!(restarted, "v1", "the services run another release after fsync number {number}");
        if !std::fs::read_to_string(trace).unwrap().contains("(INJECTED)") {
            break;
        }
        failed += 1;
    }
    assert!((6..99).contains(&failed), "{failed} calls failed");
}

#[test]
fn a_first_release_that_fails_verification_stays_live_with_its_ref() {
    let sandbox = gated("verify = 'test ! -e broken'");
    sandbox.commit("broken", "");
    sandbox.push().fails(0).says("Deployed with errors: blue serves <commit> (release <release>).");
    agrees(&sandbox);
}

#[test]
fn a_failed_activation_restores_the_ref() {
    let sandbox = gated("check = 'test ! -e late || { rm ../../current; mkdir ../../current; }'");
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.commit("late", "");
    let push = sandbox.push();
    assert!(push.output.contains("(cannot replace "), "{}", push.output);
    assert_eq!(push.status.code(), Some(1));
    assert_eq!(tip(&sandbox), sandbox.id("master~1"));
    assert_eq!(sandbox.releases().len(), 1, "the release that never became live was removed");
    std::fs::remove_dir(sandbox.site().join("current")).unwrap();
}

#[test]
fn rules_of_receive_pack_are_enforced() {
    let sandbox = gated("");
    sandbox.commit("a", "1").commit("a", "2").push().ok();
    server_git(&sandbox, &["config", "receive.denyNonFastForwards", "true"]);
    let rewind = || sandbox.push_refs(&["--force", "master~1:master"]);
    let reason = |run: Run<'_>, reason: &str| {
        assert!(run.output.contains(&format!("({reason})")), "{reason}\n{}", run.output);
        assert_eq!(run.status.code(), Some(1));
        agrees(&sandbox);
        assert_eq!(tip(&sandbox), sandbox.id("master"));
    };
    reason(rewind(), "non-fast-forward");
    server_git(&sandbox, &["config", "receive.denyDeletes", "yes"]);
    reason(sandbox.push_refs(&[":master"]), "deletion prohibited");
    server_git(&sandbox, &["config", "--unset", "receive.denyDeletes"]);
    reason(sandbox.push_refs(&[":master"]), "deletion of the current branch prohibited");
    server_git(&sandbox, &["config", "receive.denyNonFastForwards", "false"]);
    rewind().ok().serves("a", "1");
    assert_eq!(tip(&sandbox), sandbox.id("master~1"));
    server_git(&sandbox, &["config", "receive.denyDeleteCurrent", "warn"]);
    sandbox
        .push_refs(&[":master"])
        .warned()
        .says("warning: deleting the current branch")
        .says("Master ref deleted.  Doing nothing: blue still serves <commit> (release <release>).")
        .serves("a", "1");
    assert_eq!(tip(&sandbox), "");
    sandbox.push().ok().serves("a", "2");
}

#[test]
fn a_branch_checked_out_in_a_worktree_is_rejected() {
    let sandbox = gated("");
    sandbox.commit("a", "1").push().ok();
    let worktree = sandbox.path("worktree");
    server_git(&sandbox, &["worktree", "add", "--quiet", worktree.to_str().unwrap(), "master"]);
    sandbox.commit("a", "2").push().rejected("branch is currently checked out").serves("a", "1");
    server_git(&sandbox, &["config", "receive.denyCurrentBranch", "ignore"]);
    sandbox.push().ok().serves("a", "2");
}

#[test]
fn the_update_hook_runs_first() {
    let sandbox = gated("");
    install_hook(&sandbox, "update", "echo \"update $1 $2 $3\"; test -d \"$GIT_DIR\" && ! test -e veto");
    sandbox.commit("a", "1");
    let said = sandbox.push().ok();
    let line = format!("remote: update refs/heads/master {} {}", "0".repeat(40), sandbox.id("master"));
    assert!(said.output().lines().any(|said| said.trim_end() == line), "{}", said.output());
    std::fs::write(sandbox.repository().join("veto"), "").unwrap();
    sandbox.commit("a", "2").push().rejected("hook declined").serves("a", "1");
    agrees(&sandbox);
    std::fs::remove_file(sandbox.repository().join("veto")).unwrap();
    server_git(&sandbox, &["config", "core.hooksPath", "hooks"]);
    sandbox.push().ok().says("Git hooks deploy complete.");
}

#[test]
fn the_reflog_is_written_as_git_does() {
    let sandbox = gated("");
    server_git(&sandbox, &["config", "core.logAllRefUpdates", "true"]);
    sandbox.commit("a", "1").push().ok();
    sandbox.commit("a", "2").push().ok();
    let log = server_git(&sandbox, &["reflog", "show", "--format=%gs", "master"]);
    assert_eq!(log, "push\npush");
}

#[test]
fn force_with_lease_is_respected() {
    let sandbox = gated("");
    sandbox.commit("a", "1").push().ok();
    let first = sandbox.id("master");
    sandbox.commit("a", "2").push().ok();
    sandbox.commit("a", "3");
    let stale = sandbox.push_refs(&[&format!("--force-with-lease=master:{first}"), "master"]);
    assert!(stale.output.contains("(stale info)"), "{}", stale.output);
    let good = format!("--force-with-lease=master:{}", sandbox.id("master~1"));
    sandbox.push_refs(&[&good, "master"]).ok().serves("a", "3");
}

#[test]
fn an_atomic_push_is_rejected_as_a_whole() {
    let sandbox = gated("");
    sandbox.commit("a", "1").push().ok();
    sandbox.commit("a", "2");
    let push = sandbox.push_refs(&["--atomic", "master", "master:refs/heads/topic"]);
    assert!(
        push.output.contains("(the gate does not support atomic pushes: push without --atomic)"),
        "{}",
        push.output
    );
    assert_eq!(push.status.code(), Some(1));
    assert_eq!(server_git(&sandbox, &["for-each-ref", "--format=%(refname)"]), "refs/heads/master");
    agrees(&sandbox);
    sandbox.push_refs(&["--atomic", "master:refs/heads/topic"]).ok();
}

#[test]
fn other_refs_are_left_to_receive_pack() {
    let sandbox = gated("build = 'test ! -e broken'");
    server_git(&sandbox, &["config", "--replace-all", "receive.procReceiveRefs", "refs"]);
    sandbox.commit("a", "1");
    let topic = "Ref refs/heads/topic successfully received.  Doing nothing: only the master branch may be deployed on this server.";
    sandbox.push_refs(&["master", "master:refs/heads/topic", "master:refs/tags/v1"]).ok().says(topic);
    agrees(&sandbox);
    assert_eq!(
        server_git(&sandbox, &["rev-parse", "topic", "v1"]),
        [sandbox.id("master"), sandbox.id("master")].join("\n")
    );
    sandbox.commit("broken", "");
    let push = sandbox.push_refs(&["master", "master:refs/heads/topic"]);
    assert_eq!(push.status.code(), Some(1));
    assert_eq!(server_git(&sandbox, &["rev-parse", "topic"]), sandbox.id("master"));
    agrees(&sandbox);
}

#[test]
fn a_hidden_branch_never_reaches_the_gate() {
    let sandbox = gated("build = 'touch ../../built'");
    server_git(&sandbox, &["config", "receive.hideRefs", "refs/heads/master"]);
    sandbox.commit("a", "1").push().rejected("deny updating a hidden ref").serves_nothing();
    assert!(!sandbox.site().join("built").exists());
}

#[test]
fn push_options_reach_both_hooks() {
    for is_gated in [true, false] {
        let sandbox = if is_gated { gated("") } else { Sandbox::new() };
        server_git(&sandbox, &["config", "receive.advertisePushOptions", "true"]);
        sandbox.commit("a", "1").push().ok();
        sandbox.commit("a", "2");
        sandbox
            .push_refs(&["-o", "skip", "master"])
            .ok()
            .says_only(&["Master ref received.  Doing nothing, because of the push option `skip`: blue still serves <commit> (release <release>)."])
            .serves("a", "1");
        assert_eq!(tip(&sandbox), sandbox.id("master"));
        sandbox.commit("a", "3");
        let told = sandbox.push_refs(&["-o", "verbose", "-o", "no\x1bsuch", "master"]).warned();
        for phase in ["read the commit", "check out", "activate", "prune"] {
            assert!(told.output().contains(&format!("s] Phase: {phase}")), "{phase}: {}", told.output());
        }
        let warnings = told
            .output()
            .matches("warning: unknown push option `no\\u{1b}such`: expected `skip`, `public`, `no-cache`, `timing`, or `verbose`");
        assert_eq!(warnings.count(), 1, "{}", told.output());
        told.serves("a", "3");
    }
}

#[test]
fn a_live_commit_only_moves_the_ref() {
    let sandbox = gated("build = 'echo >> ../../builds'");
    sandbox.commit("a", "1").push().ok();
    server_git(&sandbox, &["update-ref", "-d", "refs/heads/master"]);
    sandbox.push().ok().says("Nothing to do: <commit> is already live (release <release>).");
    assert_eq!(tip(&sandbox), sandbox.id("master"));
    assert_eq!(std::fs::read_to_string(sandbox.site().join("builds")).unwrap(), "\n");
}

#[test]
fn a_branch_that_moved_during_the_build_is_not_overwritten() {
    let sandbox = gated(
        "build = 'test ! -e slow || git --git-dir=../../../repository update-ref refs/heads/master refs/heads/other'",
    );
    sandbox.commit("a", "1").push_refs(&["master", "master:refs/heads/other"]).ok();
    sandbox.commit("a", "2").push().ok();
    sandbox.commit("slow", "");
    sandbox.push().rejected("refs/heads/master has moved in the meantime").serves("a", "2");
    assert_eq!(sandbox.releases().len(), 2);
}

#[test]
fn the_gate_supports_sha256_repositories() {
    let sandbox = Sandbox::new();
    for directory in [sandbox.repository(), sandbox.clone_path()] {
        std::fs::remove_dir_all(&directory).unwrap();
        let path = directory.to_str().unwrap();
        sandbox.git_in(
            Path::new("/"),
            &["init", "--quiet", "--bare", "--object-format=sha256", "--initial-branch=master", path],
        );
    }
    std::fs::create_dir_all(sandbox.repository().join("hooks")).unwrap();
    symlink(BLUEGREEN, sandbox.hook_path()).unwrap();
    sandbox.config("");
    gate(&sandbox);
    sandbox.commit("a", "1").push().ok().serves("a", "1");
    sandbox.commit("a", "2").push().ok().serves("a", "2");
    agrees(&sandbox);
    assert_eq!(tip(&sandbox).len(), 64);
}

#[test]
fn without_the_setting_post_receive_deploys() {
    let sandbox = gated("");
    server_git(&sandbox, &["config", "--unset", "receive.procReceiveRefs"]);
    sandbox.commit("a", "1").push().ok().says("Git hooks deploy complete.").serves("a", "1");
}

#[test]
fn check_reports_which_hook_deploys() {
    let sandbox = gated("");
    for setting in RECOMMENDED {
        server_git(&sandbox, &["config", setting.key, setting.value]);
    }
    let check = || sandbox.bluegreen(&["check"]);
    let gate = "A push to master fails if its deployment fails: `proc-receive` deploys it.";
    check().ok().says_only(&[gate, "All is well."]);
    std::fs::remove_file(sandbox.repository().join("hooks/proc-receive")).unwrap();
    check()
        .fails(1)
        .says("error: git runs `<repository>/hooks/proc-receive`, which is missing or not executable: every push to master fails")
        .says("Found 1 error.");
    server_git(&sandbox, &["config", "--unset-all", "receive.procReceiveRefs"]);
    let hook = "A push to master succeeds even if its deployment fails: `post-receive` deploys it.";
    check().ok().says_only(&[hook, "All is well."]);
    symlink(BLUEGREEN, sandbox.repository().join("hooks/proc-receive")).unwrap();
    check()
        .warned()
        .says("warning: git does not run `<repository>/hooks/proc-receive` for master: the gate is off")
        .says("Found 1 warning.")
        .says(hook);
}

/// Kills the program just before or just after git moves the ref.
#[test]
fn a_kill_during_the_ref_update_is_repaired_by_the_next_run() {
    for state in ["prepared", "committed"] {
        let sandbox = gated("");
        sandbox.commit("a", "1").push().ok();
        let script = format!(
            "test \"$1\" = {state} && test -e kill && rm kill && kill -9 $(sed -n 's/^PPid:\\t//p' /proc/$PPID/status); exit 0"
        );
        install_hook(&sandbox, "reference-transaction", &script);
        std::fs::write(sandbox.repository().join("kill"), "").unwrap();
        sandbox.commit("a", "2");
        let push = sandbox.push();
        assert_eq!(push.status.code(), Some(1), "{}", push.output);
        assert!(!sandbox.repository().join("kill").exists());
        sandbox.serves("a", "1");
        assert!(sandbox.site().join(".bluegreen/publishing").exists());
        // The ref has moved, because `git update-ref` survived. The next process that takes the lock reverts
        // that.
        assert_eq!(tip(&sandbox), sandbox.id("master"));
        sandbox.bluegreen(&["deploy", "master~1"]).warned().says(
            "warning: a previous deployment was interrupted before release <release> became live: undoing it",
        );
        assert_eq!(tip(&sandbox), sandbox.id("master~1"));
        agrees(&sandbox);
        sandbox.push().ok().serves("a", "2");
        agrees(&sandbox);
        sandbox.is_tidy();
    }
}

/// Kills the program after activation, and while it restores the previous release.
#[test]
fn a_kill_after_activation_is_completed_or_reverted_by_the_next_run() {
    let sandbox = gated(
        "restart = 'test ! -e ../../kill || { rm ../../kill; kill -9 $PPID; }'\nverify = 'test ! -e broken'",
    );
    let kill = sandbox.site().join("kill");
    sandbox.commit("a", "1").push().ok();
    std::fs::write(&kill, "").unwrap();
    sandbox.commit("a", "2");
    assert_eq!(sandbox.push().status.code(), Some(1));
    assert!(!kill.exists());
    sandbox.serves("a", "2");
    agrees(&sandbox);
    sandbox.commit("a", "3").push().warned().serves("a", "3");
    agrees(&sandbox);

    std::fs::write(&kill, "").unwrap();
    sandbox.commit("broken", "");
    assert_eq!(sandbox.push().status.code(), Some(1));
    sandbox.serves("broken", "");
    let live = sandbox.bluegreen(&["rollback"]);
    assert!(live.output.contains("warning: step `test ! -e broken` exited with status 1"), "{}", live.output);
    assert_eq!(tip(&sandbox), sandbox.id("master~1"), "the ref was restored together with the site");
}
