//! `[site] subdirectory`: one folder of a repository is deployed as `git checkout` would write it.

use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;

use crate::support::sandbox::BLUEGREEN;
use crate::support::{Node, Sandbox};

fn monorepo() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.site_config("subdirectory = \"apps/web\"\nkeep = 1");
    sandbox
}

fn gate(sandbox: &Sandbox) {
    symlink(BLUEGREEN, sandbox.repository().join("hooks/proc-receive")).unwrap();
    sandbox.git_in(&sandbox.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
}

const TEXT: &str = "one\ntwo $Id$\n";

#[test]
fn only_the_folder_is_deployed() {
    let sandbox = monorepo();
    sandbox.commit_nodes(&[
        (b"apps/web/index.html", Node::file("page")),
        (b"apps/web/bin/run", Node::Executable(b"#!/bin/sh\n".to_vec())),
        (b"apps/web/link", Node::link("bin/run")),
        (b"apps/api/main.c", Node::file("int main;")),
        (b"apps/website/index.html", Node::file("another")),
        (b"README", Node::file("read me")),
    ]);
    let run = sandbox.push().ok();
    assert!(run.output().contains("is live: 3 files changed"), "{}", run.output());
    sandbox.serves_checkout("master:apps/web").is_tidy();
    for round in 0..4 {
        sandbox.commit("apps/web/round", &format!("{round}")).commit("README", &format!("{round}"));
        let run = sandbox.push().ok();
        assert!(run.output().contains("is live: 1 file changed"), "{}", run.output());
        sandbox.serves_checkout("master:apps/web").is_tidy();
    }
    assert!(sandbox.bluegreen(&["deploy", "--dry-run"]).ok().output().contains(": 4 files, 0 files changed"));
    sandbox.bluegreen(&["rollback"]).ok();
    sandbox.serves_checkout("master~2:apps/web").is_tidy();
}

#[test]
fn a_push_that_does_not_change_the_folder_deploys_nothing() {
    for gated in [false, true] {
        let sandbox = monorepo();
        if gated {
            gate(&sandbox);
        }
        sandbox.commit("apps/web/a", "1").push().ok();
        let live = sandbox.live();
        let run = sandbox.commit("README", "changed").push().ok();
        let commit = &sandbox.tip()[..12];
        let expected = format!(
            "remote: Nothing to do: {commit} does not change `apps/web` (release {live} stays live)."
        );
        assert!(run.output().contains(&expected), "{}", run.output());
        assert!(run.output().contains("Git hooks deploy complete."), "{}", run.output());
        assert_eq!((sandbox.live(), sandbox.tip()), (live.clone(), sandbox.id("master")));
        // Nothing is pending, and a boot deploys nothing.
        let status = sandbox.bluegreen(&["status"]).ok().output().to_owned();
        assert!(
            status.contains("which changes nothing that is deployed") && !status.contains("Pending"),
            "{status}"
        );
        sandbox.bluegreen(&["resume"]).ok();
        assert_eq!(sandbox.live(), live);
        // An operator can deploy it anyway.
        sandbox.bluegreen(&["deploy"]).ok();
        assert_ne!(sandbox.live(), live);
        sandbox.commit("apps/web/a", "2").push().ok().serves("a", "2");
        // The comparison is with the live release, not with the previous tip.
        sandbox.bluegreen(&["rollback"]).ok().serves("a", "1");
        sandbox.commit("README", "again").push().ok().serves("a", "2");
    }
}

#[test]
fn a_new_folder_in_the_config_is_deployed() {
    let sandbox = Sandbox::new();
    sandbox.commit_nodes(&[(b"web/a", Node::file("web")), (b"api/a", Node::file("api"))]);
    sandbox.push().ok().serves("web/a", "web");
    sandbox.site_config("subdirectory = \"web\"");
    sandbox.commit("README", "1").push().ok().serves("a", "web");
    let config = std::fs::read_to_string(sandbox.config_path()).unwrap();
    sandbox.raw_config(&config.replace("\"web\"", "\"api\""));
    sandbox.commit("README", "2").push().ok().serves("a", "api");
    sandbox.raw_config(&config.replace("subdirectory", "#"));
    sandbox.commit("README", "3").push().ok().serves_checkout("master");
}

#[test]
fn attributes_of_parent_folders_apply() {
    let sandbox = monorepo();
    sandbox.commit_nodes(&[
        (
            b".gitattributes",
            Node::file("[attr]dos text eol=crlf\n*.dos dos\n/apps/web/only.txt ident\n/only.txt eol=crlf\n"),
        ),
        (b"apps/.gitattributes", Node::file("*.id ident\nweb/sub/*.x ident\n")),
        (b"apps/web/.gitattributes", Node::file("sub/*.id -ident\n")),
        (b"apps/api/.gitattributes", Node::file("* eol=crlf\n")),
    ]);
    for name in ["a.dos", "only.txt", "b.id", "sub/c.id", "sub/d.x", "plain"] {
        sandbox.commit(&format!("apps/web/{name}"), TEXT);
    }
    sandbox.push().ok().serves_checkout("master:apps/web");
    assert!(std::fs::read(sandbox.current("a.dos")).unwrap().starts_with(b"one\r\n"));
    assert!(!std::fs::read_to_string(sandbox.current("only.txt")).unwrap().contains("$Id$"));
    for round in 0..3 {
        sandbox.commit("apps/web/round", &format!("{round}")).push().ok();
        sandbox.serves_checkout("master:apps/web");
    }
    // A change outside the folder converts its files differently.
    sandbox.commit("apps/.gitattributes", "*.id eol=crlf\n").push().ok();
    sandbox.serves_checkout("master:apps/web").is_tidy();
    sandbox.commit(".gitattributes", "# nothing\n").push().ok().serves_checkout("master:apps/web");
    sandbox.commit_nodes(&[(b"apps/.gitattributes", Node::Nothing)]).push().ok();
    sandbox.serves("b.id", TEXT).serves_checkout("master:apps/web").is_tidy();
}

#[test]
fn filters_receive_the_path_in_the_repository() {
    let sandbox = monorepo();
    for directory in [sandbox.repository(), sandbox.clone_path()] {
        sandbox.git_in(&directory, &["config", "filter.path.smudge", "echo %f; cat"]);
    }
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("*.x filter=path\n")),
        (b"apps/web/deep/a.x", Node::file("a")),
    ]);
    sandbox.push().ok().serves("deep/a.x", "apps/web/deep/a.x\na").serves_checkout("master:apps/web");
}

#[test]
fn steps_and_shared_paths_are_relative_to_the_folder() {
    let sandbox = monorepo();
    sandbox.config_section(
        "[shared]\ndirs = [\"uploads\"]\n[steps]\n\
         build = [{ name = \"copy\", run = \"cp lock out && ls > list\", inputs = [\"lock\"], outputs = [\"out\"] }]",
    );
    sandbox.commit_nodes(&[
        (b"apps/web/lock", Node::file("1")),
        (b"apps/web/uploads/first", Node::file("seed")),
        (b"lock", Node::file("root")),
    ]);
    sandbox.push().ok().serves("out", "1").serves("list", "list\nlock\nout\nuploads\n");
    assert!(sandbox.site().join("shared/uploads/first").exists());
    let run = sandbox.commit("apps/web/page", "new").commit("lock", "changed").push().ok();
    assert!(run.output().contains("Step copy: unchanged since"), "{}", run.output());
}

#[test]
fn a_path_that_is_not_a_folder_is_an_error() {
    let nodes: [(&[u8], Node, &str); 6] = [
        (b"apps/web", Node::link("../elsewhere"), "`apps/web` is a symlink"),
        (b"apps", Node::link("elsewhere"), "`apps` is a symlink"),
        (b"apps/web", Node::Submodule, "`apps/web` is a submodule"),
        (b"apps/web", Node::file("x"), "`apps/web` is a file"),
        (b"apps", Node::Executable(b"x".to_vec()), "`apps` is a file"),
        (b"apps/website/a", Node::file("x"), "`apps/web` is missing in the commit"),
    ];
    for (path, node, problem) in nodes {
        let sandbox = monorepo();
        gate(&sandbox);
        sandbox.commit("apps/web/a", "1").push().ok();
        sandbox.commit_tree(&[(b"elsewhere/web/a", Node::file("secret")), (path, node)]);
        let run = sandbox.push().fails(1);
        let expected = format!("error: cannot deploy the folder `apps/web`: {problem}");
        assert!(run.output().contains(&expected), "{}", run.output());
        assert!(run.output().contains("set `subdirectory` in bluegreen.toml"), "{}", run.output());
        sandbox.serves("a", "1").is_tidy();
        let run = sandbox.bluegreen(&["deploy", "--dry-run", &sandbox.tip()]).ok();
        assert!(run.output().contains("Would deploy"), "{}", run.output());
    }
    for path in ["", "..", "../web", "/web", "web/..", "./web", "web/", "a//b", ".git", "apps/.GIT/x", "."] {
        let sandbox = Sandbox::new();
        sandbox.site_config(&format!("subdirectory = \"{path}\""));
        let run = sandbox.commit("web/a", "1").push();
        let expected = format!("`site.subdirectory`: invalid folder `{path}`");
        assert!(run.output.contains(&expected), "{}", run.output);
    }
}

#[test]
fn a_symlink_out_of_the_folder_is_rejected() {
    let sandbox = monorepo();
    sandbox.commit_nodes(&[
        (b"apps/api/secret", Node::file("x")),
        (b"apps/web/link", Node::link("../api/secret")),
    ]);
    let run = sandbox.push();
    assert!(run.output.contains("symlink `link` points outside the release"), "{}", run.output);
    assert!(!Path::new(&sandbox.site().join("current")).exists());
}

/// Paths inside and outside the folder that become files, folders, and symlinks.
fn edits() -> impl Strategy<Value = Vec<(Vec<u8>, Node)>> {
    let path = select(vec![
        "a",
        "w",
        "w/a",
        "w/b.id",
        "w/d/e.id",
        "w/d/.gitattributes",
        ".gitattributes",
        "w/.gitattributes",
        "w/d",
        "wa",
        "w.a/b",
        "w/x y",
    ])
    .prop_map(|path| path.as_bytes().to_vec());
    let node = select(vec![
        Node::file("one"),
        Node::file("$Id$ two\n"),
        Node::file("*.id ident\n"),
        Node::file("* eol=crlf text\n"),
        Node::Executable(b"x".to_vec()),
        Node::link("a"),
        Node::Nothing,
    ]);
    prop::collection::vec((path, node), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(15),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_folder_matches_git_checkout(commits in prop::collection::vec(edits(), 6..10)) {
        let sandbox = Sandbox::new();
        sandbox.site_config("subdirectory = \"w\"\nkeep = 1\ndurable = false\nsymlinks = \"any\"");
        sandbox.commit("w/keep", "1").push().ok();
        for nodes in &commits {
            let nodes: Vec<(&[u8], Node)> =
                nodes.iter().map(|(path, node)| (path.as_slice(), node.clone())).collect();
            sandbox.commit_nodes(&nodes);
            let is_folder = sandbox.git(&["ls-tree", "master", "w"]).contains(" tree ");
            let run = sandbox.push();
            if is_folder {
                prop_assert!(run.output.contains("Git hooks deploy complete."), "{}", run.output);
                sandbox.serves_checkout("master:w");
            } else {
                prop_assert!(run.output.contains("cannot deploy the folder `w`"), "{}", run.output);
            }
            sandbox.is_tidy();
        }
    }
}
