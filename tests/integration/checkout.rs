//! The content of a release is exactly what `git checkout` would write, without anything unsafe.

use std::process::Stdio;

use crate::support::sandbox::feed;
use crate::support::skip::program_or_skip;
use crate::support::{Node, Run, Sandbox};

#[test]
fn every_entry_type_matches_git_checkout() {
    let sandbox = Sandbox::new();
    let (deep, long) = (["d"; 300].join("/") + "/file", "n".repeat(255));
    let big = vec![b'x'; 300_000];
    sandbox
        .commit_nodes(&[
            (b"index.html", Node::file("v1")),
            (b"empty", Node::file("")),
            (b"bin/run", Node::Executable(b"#!/bin/sh\n".to_vec())),
            (b"bin/empty", Node::Executable(Vec::new())),
            (b"link", Node::link("index.html")),
            (b"bin/up", Node::link("../index.html")),
            (b"to-dir", Node::link("bin")),
            (b"dangling", Node::link("nowhere/at/all")),
            (b"a b/c\nd/\"quoted\"", Node::file("odd")),
            (b"caf\xe9/\xff\xfe", Node::file("not UTF-8")),
            ("caf\u{e9}".as_bytes(), Node::file("UTF-8")),
            (deep.as_bytes(), Node::file("deep")),
            (long.as_bytes(), Node::file("long")),
            (b"big", Node::File(big)),
            (b"zeros", Node::File(vec![0; 70_000])),
            (b"a.b", Node::file("sorts before a/")),
            (b"a/b", Node::file("sorts after a.b")),
            (b"a0", Node::file("sorts after a/")),
        ])
        .push()
        .ok()
        .serves_checkout("master");
}

#[test]
fn large_files_are_streamed() {
    let sandbox = Sandbox::new();
    let big: Vec<u8> =
        (0..20_000_000_u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    sandbox.commit_nodes(&[(b"big", Node::File(big))]).push().ok().serves_checkout("master");
}

#[test]
fn a_damaged_copy_of_a_large_file_is_replaced_by_an_intact_one() {
    let sandbox = Sandbox::new();
    let topic = ["master:refs/heads/topic"];
    // It does not compress, so its second half is far from the header.
    let big: Vec<u8> =
        (0..20_000_000_u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    sandbox.commit_nodes(&[(b"big", Node::File(big.clone()))]).push_refs(&topic).ok();
    let (repository, id) = (sandbox.repository(), sandbox.id("master:big"));
    let loose = repository.join("objects").join(&id[..2]).join(&id[2..]);
    sandbox.git_in(&repository, &["repack", "-aq"]);
    let mut bytes = std::fs::read(&loose).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 1000].fill(0);
    std::fs::remove_file(&loose).unwrap();
    std::fs::write(&loose, bytes).unwrap();
    sandbox.bluegreen(&["deploy", "topic"]).ok();
    assert_eq!(std::fs::read(sandbox.current("big")).unwrap(), big);
}

#[test]
fn a_file_larger_than_the_memory_is_copied_loose_and_packed() {
    if !program_or_skip("prlimit") {
        return;
    }
    let sandbox = Sandbox::new();
    let topic = ["master:refs/heads/topic"];
    sandbox.commit_nodes(&[(b"big", Node::File(vec![b'x'; 128 << 20]))]).push_refs(&topic).ok();
    for packing in [&["count-objects"][..], &["repack", "-adq"]] {
        sandbox.git_in(&sandbox.repository(), packing);
        let mut deploy = sandbox.command("prlimit");
        deploy.arg(format!("--as={}", 96 << 20)).arg(sandbox.hook_path()).args(["deploy", "topic"]);
        Run::new(&sandbox, &mut deploy).ok();
        assert_eq!(std::fs::metadata(sandbox.current("big")).unwrap().len(), 128 << 20);
        sandbox.commit("small", "").push().ok();
    }
}

#[test]
fn submodules_are_left_empty_with_one_warning() {
    let sandbox = Sandbox::new();
    let nodes: &[(&[u8], Node)] =
        &[(b"a", Node::file("")), (b"library", Node::Submodule), (b"vendor/other", Node::Submodule)];
    sandbox
        .commit_nodes(nodes)
        .push()
        .warned()
        .says_only(&[
            "Master ref received.  Deploying master branch to blue...",
            "warning: 2 submodules left empty: `library`, `vendor/other`",
            "Release <release> is live: 1 file changed, <time>",
            "Git hooks deploy complete.",
        ])
        .serves_checkout("master");
    assert!(sandbox.current("vendor/other").is_dir());
    let one = Sandbox::new();
    one.commit_nodes(&nodes[..2]).push().warned().says("warning: 1 submodule left empty: `library`");
}

#[test]
fn submodules_can_be_rejected_by_config() {
    let sandbox = Sandbox::new();
    sandbox.site_config("submodules = \"refuse\"");
    sandbox.commit_nodes(&[(b"library", Node::Submodule)]).push().not_deployed().says_only(&[
        "Master ref received.  Deploying master branch to blue...",
        "error: the commit has 1 submodule (`library`) and `submodules = \"refuse\"`",
        "hint: set `submodules = \"warn\"` or \"fetch\" in bluegreen.toml",
        "Not deployed: blue serves nothing yet.",
    ]);
}

#[test]
fn symlinks_that_leave_the_release_are_rejected_unless_configured() {
    for target in ["/etc/passwd", "..", "../x", "a/../../x", "self/../../x"] {
        let sandbox = Sandbox::new();
        sandbox
            .commit_nodes(&[(b"self", Node::link(".")), (b"out", Node::link(target))])
            .push()
            .not_deployed()
            .says(&format!("error: symlink `out` points outside the release, to `{target}`"))
            .says("hint: remove the symlink, or set `symlinks = \"any\"` in bluegreen.toml")
            .serves_nothing();
        assert!(sandbox.releases().is_empty(), "rejected before the first write");
        sandbox.site_config("symlinks = \"any\"").bluegreen(&["deploy"]).ok().serves_checkout("master");
    }
}

#[test]
fn a_symlink_loop_is_rejected() {
    let sandbox = Sandbox::new();
    sandbox.commit_nodes(&[(b"a", Node::link("b")), (b"b", Node::link("a"))]).push().not_deployed();
}

/// Creates a tree object from raw entries and pushes a commit of it, bypassing git's checks.
fn push_raw_tree<'s>(sandbox: &'s Sandbox, entries: &[(&str, &[u8], &str)]) -> crate::support::Run<'s> {
    let mut tree = Vec::new();
    for (mode, name, id) in entries {
        tree.extend([mode.as_bytes(), b" ", name, b"\0"].concat());
        tree.extend((0..20).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap()));
    }
    let mut hash = sandbox.git_command(&sandbox.clone_path());
    let made = feed(hash.args(["hash-object", "-t", "tree", "-w", "--stdin", "--literally"]), &tree);
    let tree = String::from_utf8(made.stdout).unwrap();
    let commit = sandbox.git(&["commit-tree", "-m", "Hostile", tree.trim()]);
    sandbox.git(&["update-ref", "refs/heads/master", &commit]);
    sandbox.push_refs(&["+master"])
}

fn blob(sandbox: &Sandbox) -> String {
    let mut hash = sandbox.git_command(&sandbox.clone_path());
    let made = feed(hash.args(["hash-object", "-w", "--stdin"]).stderr(Stdio::null()), b"content");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

#[test]
fn invalid_trees_are_rejected_before_the_first_write() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let blob = blob(&sandbox);
    let entry = |mode, name: &'static [u8]| (mode, name, blob.as_str());
    for (entries, path, problem) in [
        (vec![entry("100644", b".git")], ".git", "names equivalent to `.git` are reserved"),
        (vec![entry("100644", b".GiT")], ".GiT", "names equivalent to `.git` are reserved"),
        (vec![entry("100644", b"git~1")], "git~1", "names equivalent to `.git` are reserved"),
        (vec![entry("100644", b"..")], "..", "`.` and `..` are reserved"),
        (vec![entry("100644", b"a/b")], "a/b", "name contains `/`"),
        (vec![entry("100644", b"b"), entry("100644", b"a")], "a", "entries are not sorted"),
        (vec![entry("100644", b"a"), entry("100644", b"a")], "a", "duplicate entry"),
        (vec![entry("060644", b"disk")], "disk", "invalid mode"),
    ] {
        push_raw_tree(&sandbox, &entries)
            .not_deployed()
            .says(&format!("error: cannot check out `{path}`: {problem}"))
            .serves("index.html", "v1");
        assert_eq!(sandbox.releases().len(), 1);
    }
    sandbox.is_tidy();
}

#[test]
fn a_setuid_mode_becomes_a_plain_executable() {
    let sandbox = Sandbox::new();
    let blob = blob(&sandbox);
    push_raw_tree(&sandbox, &[("104755", b"run", &blob), ("100664", b"shared", &blob)]).ok();
    let live = crate::support::snapshot(&sandbox.live_path());
    assert_eq!(format!("{:?}", live["run".as_ref() as &std::ffi::OsStr]), "file 755 \"content\"");
    assert_eq!(format!("{:?}", live["shared".as_ref() as &std::ffi::OsStr]), "file 644 \"content\"");
}

#[test]
fn empty_trees_create_no_directories() {
    let sandbox = Sandbox::new();
    let blob = blob(&sandbox);
    let mut hash = sandbox.git_command(&sandbox.clone_path());
    let empty = feed(hash.args(["hash-object", "-t", "tree", "-w", "--stdin"]), b"");
    let empty = String::from_utf8(empty.stdout).unwrap().trim().to_owned();
    push_raw_tree(&sandbox, &[("40000", b"empty", &empty), ("100644", b"file", &blob)])
        .ok()
        .serves_checkout("master");
    assert!(!sandbox.current("empty").exists());
}

#[test]
fn control_characters_in_printed_names_are_escaped() {
    let sandbox = Sandbox::new();
    sandbox
        .commit_nodes(&[(b"evil\x1b[2J\n\xff", Node::link("/out"))])
        .push()
        .not_deployed()
        .says("error: symlink `evil\\u{1b}[2J\\n\\xff` points outside the release, to `/out`")
        .never_says("\x1b[2J");
}

#[test]
fn a_sha256_repository_deploys() {
    let sandbox = Sandbox::new();
    for name in ["repository", "clone"] {
        let hooks = sandbox.path(name).join("hooks");
        let kept = std::fs::read_dir(&hooks).is_ok();
        assert!(kept);
        std::fs::rename(sandbox.path(name), sandbox.path("old")).unwrap();
        sandbox.git_in(
            &sandbox.path("home"),
            &[
                "init",
                "--quiet",
                "--bare",
                "--object-format=sha256",
                "--initial-branch=master",
                &format!("../{name}"),
            ],
        );
        std::fs::remove_dir_all(sandbox.path("old")).unwrap();
    }
    std::os::unix::fs::symlink(crate::support::sandbox::BLUEGREEN, sandbox.hook_path()).unwrap();
    sandbox.site_config("keep = 1");
    for version in ["v1", "v2", "v3"] {
        sandbox.commit_nodes(&[(b"index.html", Node::file(version)), (b"a/b", Node::link("../index.html"))]);
        sandbox.push().ok().serves_checkout("master");
    }
    assert_eq!(sandbox.id("master").len(), 64);
}
