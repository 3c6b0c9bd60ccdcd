//! Generated repositories, deployed by the program and checked out by git, compared byte by byte.
//!
//! Names, contents, types, and attributes are drawn from small sets of troublesome values, so that they
//! interact often. Each case pushes several commits, so that later ones recycle earlier releases. To run more
//! cases: `BLUEGREEN_CASES=1000 cargo test --test integration differential`.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::support::{Node, Sandbox};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const NAMES: [&[u8]; 16] = [
    b"a.txt",
    b"b.id",
    b"c.u16",
    b"d.dos",
    b"e.loud",
    b"Makefile",
    b" space",
    b"-dash",
    b"new\nline.id",
    b"latin\xe9.txt",
    "\u{e9}.id".as_bytes(),
    b"quote\".txt",
    b"tab\t.dos",
    b"back\\slash.id",
    b"*.txt",
    b"x",
];
const DIRECTORIES: [&str; 5] = ["", "lib/", "lib/deep/er/", "x/", "[odd] dir/"];
const PATTERNS: [&str; 14] = [
    "*",
    "*.txt",
    "*.id",
    "*.dos",
    "*.u16",
    "*.loud",
    "/a.txt",
    "lib/*",
    "**/er/*",
    "x",
    "lib/**",
    "\"quote\\\".txt\"",
    "?.id",
    "[a-c]*",
];
const ATTRIBUTES: [&str; 24] = [
    "ident",
    "-ident",
    "!ident",
    "text",
    "-text",
    "!text",
    "text=auto",
    "eol=crlf",
    "eol=lf",
    "!eol",
    "binary",
    "crlf",
    "-crlf",
    "crlf=input",
    "filter=loud",
    "-filter",
    "filter=none",
    "filter=broken",
    "working-tree-encoding=UTF-16LE",
    "working-tree-encoding=ISO-8859-1",
    "working-tree-encoding=utf-8",
    "dos",
    "export-ignore",
    "diff=x",
];
const CONTENTS: [&[u8]; 14] = [
    b"",
    b"\n",
    b"one\ntwo\n",
    b"one\r\ntwo\r\n",
    b"one\r\ntwo\n",
    b"one\rtwo\n",
    b"no end",
    b"nul\0nul\n",
    b"$Id$\n",
    b"$Id: foreign words $ $Id$\r\n$Id",
    b"caf\xc3\xa9\n",
    b"caf\xe9\n",
    b"\xef\xbb\xbfbom\n",
    b"$Id:\n$ $Id:x$",
];

/// The files of one commit, by path.
type Tree = BTreeMap<Vec<u8>, Node>;

fn node() -> impl Strategy<Value = Node> {
    let content = prop::sample::select(&CONTENTS[..]).prop_map(<[u8]>::to_vec);
    prop_oneof![
        6 => content.clone().prop_map(Node::File),
        2 => content.prop_map(Node::Executable),
        1 => prop::sample::select(&["a.txt", "lib", "no/such", "./x"][..]).prop_map(Node::link),
    ]
}

fn attribute_lines() -> impl Strategy<Value = String> {
    let attributes = prop::collection::vec(prop::sample::select(&ATTRIBUTES[..]), 1..4);
    let line = (prop::sample::select(&PATTERNS[..]), attributes)
        .prop_map(|(pattern, attributes)| format!("{pattern} {}\n", attributes.join(" ")));
    prop::collection::vec(line, 0..5).prop_map(|lines| lines.concat())
}

fn tree() -> impl Strategy<Value = Tree> {
    let path = (prop::sample::select(&DIRECTORIES[..]), prop::sample::select(&NAMES[..]))
        .prop_map(|(directory, name)| [directory.as_bytes(), name].concat());
    let files = prop::collection::vec((path, node()), 1..14);
    let attributes = prop::collection::vec((prop::sample::select(&DIRECTORIES[..]), attribute_lines()), 0..4);
    (files, attributes).prop_map(|(files, attributes)| {
        let mut tree = Tree::new();
        for (path, node) in files {
            add(&mut tree, path, node);
        }
        for (directory, lines) in attributes {
            let macros = if directory.is_empty() { "[attr]dos text eol=crlf\n" } else { "" };
            add(
                &mut tree,
                format!("{directory}.gitattributes").into(),
                Node::file(format!("{macros}{lines}")),
            );
        }
        tree
    })
}

/// Adds a path unless it would have to be both a directory and a file.
fn add(tree: &mut Tree, path: Vec<u8>, node: Node) {
    let is_below = |a: &[u8], b: &[u8]| a.len() > b.len() && a.starts_with(b) && a[b.len()] == b'/';
    if !tree.keys().any(|other| is_below(other, &path) || is_below(&path, other)) {
        tree.insert(path, node);
    }
}

/// Settings of both the server's repository and the clone.
#[derive(Debug, Clone)]
struct Settings {
    config: Vec<(&'static str, &'static str)>,
    info: String,
}

fn settings() -> impl Strategy<Value = Settings> {
    let config = prop::sample::select(
        &[
            ("core.autocrlf", "true"),
            ("core.autocrlf", "input"),
            ("core.eol", "crlf"),
            ("core.ignoreCase", "true"),
        ][..],
    );
    (prop::collection::vec(config, 0..2), prop_oneof![3 => Just(String::new()), 1 => attribute_lines()])
        .prop_map(|(config, info)| Settings { config, info })
}

fn deploy(settings: &Settings, trees: &[Tree], files: &AtomicUsize) {
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 2\ndurable = false\nsymlinks = \"any\"");
    let filters = [("filter.loud.smudge", "tr a-z A-Z"), ("filter.broken.smudge", "cat; false")];
    for directory in [sandbox.repository(), sandbox.clone_path()] {
        for (key, value) in filters.iter().chain(&settings.config) {
            sandbox.git_in(&directory, &["config", key, value]);
        }
        std::fs::create_dir_all(directory.join("info")).unwrap();
        std::fs::write(directory.join("info/attributes"), &settings.info).unwrap();
    }
    for tree in trees {
        let nodes: Vec<(&[u8], Node)> =
            tree.iter().map(|(path, node)| (path.as_slice(), node.clone())).collect();
        let run = sandbox.commit_tree(&nodes).push();
        // Git itself prints warnings about mismatched encodings and failed filters.
        assert!(run.status.success() && run.output.contains("Git hooks deploy complete."), "{}", run.output);
        sandbox.serves_checkout("master");
        files.fetch_add(tree.len(), Relaxed);
    }
    sandbox.is_tidy();
}

#[test]
fn a_deployment_matches_git_checkout() {
    let cases = std::env::var("BLUEGREEN_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40);
    let (trees, files) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let strategy = (settings(), prop::collection::vec(tree(), 5..8));
    let outcome = TestRunner::new(config).run(&strategy, |(settings, commits)| {
        deploy(&settings, &commits, &files);
        trees.fetch_add(commits.len(), Relaxed);
        Ok(())
    });
    let counts = (trees.load(Relaxed), files.load(Relaxed));
    let line = format!("compared {cases} repositories, {} trees, {} files\n", counts.0, counts.1);
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    outcome.unwrap();
    assert!(counts.0 >= 5 * cases as usize && counts.1 > counts.0);
}
