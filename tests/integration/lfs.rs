//! Git LFS with the real git-lfs: content is deployed if it is on the server, and pointers are never deployed
//! by accident.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::support::skip::{program_or_skip, root_or_skip};
use crate::support::{Node, Run, Sandbox};

/// A sandbox whose clone has no git-lfs hook, which would upload objects before each push.
fn quiet_clone() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.git(&["config", "core.hooksPath", "/dev/null"]);
    sandbox
}

/// A sandbox whose server and clone have git-lfs configured in their own config.
fn with_lfs() -> Option<Sandbox> {
    if !program_or_skip("git-lfs") {
        return None;
    }
    let sandbox = quiet_clone();
    for directory in [sandbox.repository(), sandbox.clone_path()] {
        sandbox.git_in(&directory, &["lfs", "install", "--local", "--skip-repo"]);
    }
    sandbox.commit(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    Some(sandbox)
}

/// Stores content as an LFS object of the clone, and returns its pointer.
fn pointer(sandbox: &Sandbox, content: &[u8]) -> Node {
    let mut clean = sandbox.git_command(&sandbox.clone_path());
    clean.args(["lfs", "clean"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = clean.spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    let pointer = child.wait_with_output().unwrap().stdout;
    assert!(content.is_empty() || pointer.starts_with(b"version https://git-lfs"), "{pointer:?}");
    Node::File(pointer)
}

/// Copies all LFS objects from the clone to the server, as `git lfs push` would.
fn upload(sandbox: &Sandbox) {
    let objects = |directory: &Path| directory.join("lfs/objects");
    copy(&objects(&sandbox.clone_path()), &objects(&sandbox.repository()));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn uploaded_content_is_deployed() {
    let Some(sandbox) = with_lfs() else { return };
    let big = "content\n".repeat(200_000);
    let (first, small, empty) =
        (pointer(&sandbox, big.as_bytes()), pointer(&sandbox, b"small"), pointer(&sandbox, b""));
    sandbox.commit_nodes(&[(b"big.bin", first), (b"dir/small.bin", small), (b"empty.bin", empty)]);
    upload(&sandbox);
    sandbox.site_config("keep = 2");
    sandbox.push().ok().serves("big.bin", &big).serves("dir/small.bin", "small").serves_checkout("master");
    for round in ["1", "2", "3", "4"] {
        let new = pointer(&sandbox, format!("new {round}").as_bytes());
        upload(&sandbox);
        sandbox
            .commit_nodes(&[(b"dir/new.bin", new)])
            .push()
            .ok()
            .serves("dir/new.bin", &format!("new {round}"));
        sandbox.serves_checkout("master");
    }
    sandbox.is_tidy();
}

#[test]
fn files_committed_without_git_lfs_are_deployed_with_a_warning() {
    let Some(sandbox) = with_lfs() else { return };
    sandbox.commit_nodes(&[
        (b"no pointer.bin", Node::file("committed without git-lfs")),
        (b"run.bin", Node::Executable(b"#!/bin/sh".into())),
    ]);
    let run = sandbox.push().warned();
    run.says("warning: Encountered 2 files that should have been pointers, but weren't:")
        .serves_checkout("master");
}

#[test]
fn missing_content_is_rejected_with_its_paths() {
    let Some(sandbox) = with_lfs() else { return };
    sandbox.push().ok();
    let (one, two) = (pointer(&sandbox, b"one"), pointer(&sandbox, b"two"));
    upload(&sandbox);
    let three = pointer(&sandbox, b"three");
    sandbox.commit_nodes(&[
        (b"one.bin", one),
        (b"two.bin", two),
        (b"a/three\n.bin", three.clone()),
        (b"four.bin", three),
    ]);
    sandbox
        .push()
        .not_deployed()
        .says("error: the content of these files of Git LFS is not on the server: `four.bin`, `a/three\\n.bin`")
        .says("hint: push them with `git lfs push --all <remote>`, or set `lfs = \"warn\"` in bluegreen.toml to deploy pointers");
    upload(&sandbox);
    sandbox.bluegreen(&["deploy"]).ok().serves("a/three\n.bin", "three").serves_checkout("master");
    sandbox.is_tidy();
}

#[test]
fn pointers_are_deployed_if_configured_and_replaced_once_content_arrives() {
    let Some(sandbox) = with_lfs() else { return };
    sandbox.site_config("lfs = \"warn\"\nkeep = 2");
    let one = pointer(&sandbox, b"one");
    let Node::File(text) = one.clone() else { unreachable!() };
    let text = String::from_utf8(text).unwrap();
    sandbox.commit_nodes(&[(b"one.bin", one)]);
    for round in ["1", "2", "3", "4"] {
        sandbox
            .commit("round", round)
            .push()
            .warned()
            .says("warning: the content of 1 file in Git LFS is missing, so pointers are deployed: `one.bin`")
            .serves("one.bin", &text);
    }
    upload(&sandbox);
    sandbox.commit("round", "5").push().ok().serves("one.bin", "one").serves_checkout("master");
    sandbox.commit("round", "6").push().ok().serves("one.bin", "one").serves_checkout("master");
}

#[test]
fn pointers_left_by_git_lfs_are_detected() {
    let Some(sandbox) = with_lfs() else { return };
    sandbox.git_in(
        &sandbox.repository(),
        &["lfs", "install", "--local", "--skip-repo", "--skip-smudge", "--force"],
    );
    let one = pointer(&sandbox, b"one");
    upload(&sandbox);
    sandbox.commit_nodes(&[(b"one.bin", one)]);
    sandbox.push().not_deployed().says("error: git-lfs left these files as pointers: `one.bin`");
    sandbox.is_tidy();
    sandbox.site_config("lfs = \"warn\"").bluegreen(&["deploy"]).warned();
}

/// Creates a directory with symlinks to the programs that a deployment needs, except git-lfs. Returns its
/// path.
fn without_git_lfs(sandbox: &Sandbox) -> String {
    let bin = sandbox.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let git = std::env::split_paths(&path).map(|dir| dir.join("git")).find(|git| git.is_file()).unwrap();
    std::os::unix::fs::symlink(git, bin.join("git")).unwrap();
    std::os::unix::fs::symlink("/bin/sh", bin.join("sh")).unwrap();
    bin.to_str().unwrap().to_owned()
}

#[test]
fn a_server_without_git_lfs_rejects_the_deployment() {
    let Some(sandbox) = with_lfs() else { return };
    let one = pointer(&sandbox, b"one");
    upload(&sandbox);
    sandbox.commit_nodes(&[(b"one.bin", one)]).push().ok();
    let mut deploy = sandbox.bluegreen_command(&["deploy"]);
    deploy.env("PATH", without_git_lfs(&sandbox));
    Run::new(&sandbox, &mut deploy)
        .fails(1)
        .says("error: git-lfs is not installed, these files would be pointers: `one.bin`")
        .serves("one.bin", "one");
}

#[test]
fn a_server_without_configured_git_lfs_rejects_the_deployment() {
    if !program_or_skip("git-lfs") || !root_or_skip() {
        return;
    }
    let sandbox = quiet_clone();
    let one = pointer(&sandbox, b"one");
    sandbox.commit_nodes(&[(b".gitattributes", Node::file("*.bin filter=lfs -text\n")), (b"one.bin", one)]);
    sandbox.git(&["push", "--quiet", sandbox.repository().to_str().unwrap(), "master:refs/heads/other"]);
    let id = sandbox.id("master");
    let script = "mount -t tmpfs none /root && : >empty && { [ ! -e /etc/gitconfig ] || mount --bind empty /etc/gitconfig; } && \
                  exec \"$0\" -C repository deploy \"$1\"";
    let mut deploy = sandbox.command("unshare");
    deploy.args(["--mount", "sh", "-c", script, crate::support::sandbox::BLUEGREEN, &id]);
    Run::new(&sandbox, &mut deploy).fails(1).says(
        "error: git-lfs is not set up (`git lfs install --system --skip-repo`), these files would be pointers: `one.bin`",
    );
    sandbox.serves_nothing();
}

#[test]
fn lfs_storage_and_alternates_are_searched() {
    let Some(sandbox) = with_lfs() else { return };
    let one = pointer(&sandbox, b"one");
    sandbox.commit_nodes(&[(b"one.bin", one)]);
    let storage = sandbox.path("storage");
    copy(&sandbox.clone_path().join("lfs"), &storage);
    sandbox.git_in(&sandbox.repository(), &["config", "lfs.storage", storage.to_str().unwrap()]);
    sandbox.push().ok().serves("one.bin", "one");

    let two = pointer(&sandbox, b"two");
    sandbox.commit_nodes(&[(b"two.bin", two)]);
    let objects = format!("{}\n", sandbox.clone_path().join("objects").display());
    std::fs::write(sandbox.repository().join("objects/info/alternates"), objects).unwrap();
    sandbox.push().ok().serves("two.bin", "two");
}

/// Adds the remote that `git lfs push` needs. git-lfs transfers objects between directories and stores them
/// where the server's git-lfs expects them.
fn with_remote() -> Option<Sandbox> {
    let sandbox = with_lfs()?;
    let url = format!("file://{}", sandbox.repository().display());
    sandbox.git(&["remote", "add", "production", &url]);
    Some(sandbox)
}

/// Pushes to the remote with the clone's hooks enabled.
fn push_to_remote(sandbox: &Sandbox) -> Run<'_> {
    let mut push = sandbox.git_command(&sandbox.clone_path());
    Run::new(sandbox, push.args(["push", "production", "master"]).stdin(Stdio::null()))
}

#[test]
fn content_uploaded_by_git_lfs_push_is_deployed() {
    let Some(sandbox) = with_remote() else { return };
    let big = "uploaded\n".repeat(100_000);
    let (first, second) = (pointer(&sandbox, big.as_bytes()), pointer(&sandbox, b"second"));
    sandbox.commit_nodes(&[(b"big.bin", first), (b"deep/second.bin", second)]);
    let refused =
        "error: the content of these files of Git LFS is not on the server: `big.bin`, `deep/second.bin`";
    push_to_remote(&sandbox).not_deployed().says(refused).serves_nothing();

    // The hint's command. Without `--all`, git-lfs assumes that objects of the remote's branches are already
    // uploaded.
    sandbox.git(&["lfs", "push", "--all", "production"]);
    sandbox
        .bluegreen(&["deploy"])
        .ok()
        .serves("big.bin", &big)
        .serves("deep/second.bin", "second")
        .serves_checkout("master");
    let third = pointer(&sandbox, b"third");
    sandbox.commit_nodes(&[(b"deep/third.bin", third)]).git(&["lfs", "push", "production", "master"]);
    push_to_remote(&sandbox).ok().serves("deep/third.bin", "third").serves_checkout("master");
    sandbox.is_tidy();
}

#[test]
fn the_git_lfs_hook_uploads_before_each_push() {
    let Some(sandbox) = with_remote() else { return };
    sandbox.git(&["config", "--unset", "core.hooksPath"]);
    sandbox.git(&["lfs", "install", "--local"]);
    for round in ["one", "two", "three", "four"] {
        let node = pointer(&sandbox, round.as_bytes());
        sandbox.commit_nodes(&[(b"page.bin", node)]);
        push_to_remote(&sandbox).ok().serves("page.bin", round).serves_checkout("master");
    }
    sandbox.is_tidy();
}
