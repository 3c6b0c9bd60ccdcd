//! Edge cases of the gate: chained hooks, symbolic refs to the branch, tags, shallow clones, and a `git gc`
//! during a deployment.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::support::lock::HeldLock;
use crate::support::run::spawn;
use crate::support::sandbox::BLUEGREEN;
use crate::support::{Run, Sandbox};

const REFUSED: &str = " ! [remote rejected] ";

/// A sandbox whose branch is handled by `proc-receive`.
fn gated(steps: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    symlink(BLUEGREEN, sandbox.repository().join("hooks/proc-receive")).unwrap();
    sandbox.git_in(&sandbox.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
    if !steps.is_empty() {
        sandbox.config_section(&format!("[steps]\n{steps}"));
    }
    sandbox
}

fn refs(sandbox: &Sandbox) -> String {
    sandbox.git_in(&sandbox.repository(), &["for-each-ref", "--format=%(refname)"])
}

#[track_caller]
fn refused(run: &Run, reason: &str) {
    assert!(run.output.contains(REFUSED) && run.output.contains(reason), "{}", run.output);
    assert_eq!(run.status.code(), Some(1), "{}", run.output);
}

#[test]
fn a_chained_hook_next_to_the_gate_deploys_nothing_twice() {
    // The second push becomes live, but its restart step keeps failing, so the exit status is 3.
    let sandbox = gated("restart = 'test ! -e fails'");
    let hook = sandbox.repository().join("hooks/post-receive");
    std::fs::remove_file(&hook).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\necho chained\nexec {BLUEGREEN} hook post-receive\n")).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.commit("fails", "");
    let push = sandbox.push();
    assert!(push.status.success() && push.output.contains("remote: chained"), "{}", push.output);
    assert_eq!(push.output.matches("Master ref received.").count(), 1, "{}", push.output);
    assert_eq!(sandbox.releases().len(), 1, "one push must create one release");
    assert_eq!(sandbox.history().len(), 1);
}

#[test]
fn a_push_to_a_symbolic_ref_of_the_branch_deploys() {
    for with_gate in [false, true] {
        let sandbox = if with_gate { gated("") } else { Sandbox::new() };
        sandbox.commit("index.html", "v1").push().ok();
        sandbox.git_in(&sandbox.repository(), &["symbolic-ref", "refs/heads/alias", "refs/heads/master"]);
        sandbox.commit("index.html", "v2");
        sandbox
            .push_refs(&["master:alias"])
            .ok()
            .says("Master ref received.  Deploying master branch to blue...")
            .serves("index.html", "v2");
    }
}

#[test]
fn an_annotated_tag_cannot_be_pushed_to_the_branch() {
    let sandbox = gated("");
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.git(&["tag", "-a", "-m", "a tag", "v1", "master"]);
    let push = sandbox.push_refs(&["+v1:refs/heads/master"]);
    refused(&push, "(cannot write a tag or another non-commit object to a branch)");
    assert!(!push.output.contains("fsck"), "{}", push.output);
    sandbox.serves("index.html", "v1");
}

#[test]
fn a_shallow_push_is_rejected_before_the_build() {
    let sandbox = gated("build = 'false'");
    sandbox.git_in(&sandbox.repository(), &["config", "receive.shallowUpdate", "true"]);
    for version in ["v1", "v2", "v3"] {
        sandbox.commit("index.html", version);
    }
    let origin = format!("file://{}", sandbox.clone_path().display());
    sandbox.git_in(&sandbox.path("."), &["clone", "-q", "--bare", "--depth=1", &origin, "shallow"]);
    let mut push = sandbox.git_command(&sandbox.path("shallow"));
    push.arg("push").arg(sandbox.repository()).arg("master");
    refused(&Run::new(&sandbox, &mut push), "(shallow update not allowed: the gate needs the whole history)");
    assert_eq!(refs(&sandbox), "");
    sandbox.git_in(&sandbox.repository(), &["fsck", "--connectivity-only"]);
}

#[test]
fn git_gc_during_a_build_is_safe() {
    // Prunes all unreachable objects while the build runs.
    let tidy = "for n in 1 2 3; do git --git-dir=../../../repository repack -adq; \
                git --git-dir=../../../repository gc -q --prune=now; done";
    let sandbox = gated(&format!("build = '{tidy}'"));
    sandbox.commit("index.html", "v1").push().ok().serves("index.html", "v1");
    sandbox.commit("index.html", "v2").push().ok().serves("index.html", "v2");
    sandbox.git_in(&sandbox.repository(), &["fsck", "--full", "--strict"]);
    assert_eq!(refs(&sandbox).trim(), "refs/heads/master", "a temporary ref is left behind");
}

#[test]
fn git_gc_while_waiting_for_the_lock_is_safe() {
    let sandbox = gated("");
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.commit("index.html", "v2");
    let lock = HeldLock::take(&sandbox);
    let (mut child, reader) = spawn(&mut sandbox.push_command(&["master"]));
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("Waiting for")));
    sandbox.git_in(&sandbox.repository(), &["gc", "-q", "--prune=now"]);
    drop(lock);
    let rest = lines.collect::<Vec<_>>().join("\n");
    assert!(child.wait().unwrap().success(), "{rest}");
    sandbox.serves("index.html", "v2");
    assert_eq!(refs(&sandbox).trim(), "refs/heads/master", "a temporary ref is left behind");
}

#[test]
fn missing_objects_are_reported() {
    // The wrapper runs `git gc` before the program starts.
    let sandbox = gated("");
    sandbox.commit("index.html", "v1").push().ok();
    let hook = sandbox.repository().join("hooks/proc-receive");
    std::fs::remove_file(&hook).unwrap();
    let script = format!("#!/bin/sh\ngit gc -q --prune=now\nexec {BLUEGREEN} hook proc-receive\n");
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let push = sandbox.commit("index.html", "v2").push();
    refused(&push, "(its objects are missing: has git gc --prune=now removed them? push again)");
    sandbox.serves("index.html", "v1");
}

#[test]
fn the_next_push_removes_refs_that_a_crash_left() {
    let sandbox = gated("");
    sandbox.commit("index.html", "v1").push().ok();
    let id = sandbox.id("master");
    // Refs of an exited process and of a running one, and the name that an earlier version used.
    let mut exited = Command::new("true").spawn().unwrap();
    exited.wait().unwrap();
    let name = |process: u32| format!("refs/bluegreen/deploying/{process}-{id}");
    let running = name(std::process::id());
    for name in [name(exited.id()), running.clone(), format!("refs/bluegreen/deploying/{id}")] {
        sandbox.git_in(&sandbox.repository(), &["update-ref", &name, &id]);
    }
    sandbox.commit("index.html", "v2").push().ok();
    assert_eq!(refs(&sandbox).trim(), format!("{running}\nrefs/heads/master"));
}

#[test]
fn a_step_that_takes_its_own_lock_fails_immediately() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    for command in ["deploy", "rollback"] {
        let config = format!("[steps]\ncheck = '{BLUEGREEN} -C ../../../repository {command}'\n");
        sandbox.raw_config(&format!(
            "server = \"blue\"\n[site]\nroot = \"{}\"\n{config}",
            sandbox.site().display()
        ));
        let started = std::time::Instant::now();
        sandbox.bluegreen(&["deploy"]).fails(1).says(
            "  error: a step of release <release> cannot change the site: its own deployment holds the lock",
        );
        assert!(started.elapsed().as_secs() < 20, "the command waited for the lock");
    }
    // Outside its deployment, the same environment has no effect.
    let mut later: Command = sandbox.bluegreen_command(&["deploy"]);
    sandbox.raw_config(&format!("server = \"blue\"\n[site]\nroot = \"{}\"\n", sandbox.site().display()));
    later.env("BLUEGREEN_SITE", sandbox.site()).env("BLUEGREEN_RELEASE", sandbox.live());
    Run::new(&sandbox, &mut later).ok();
}
