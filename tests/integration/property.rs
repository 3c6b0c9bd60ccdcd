//! Random sequences of trees, with vandalism of releases in between. After each push the live release matches
//! `git checkout` in paths, contents, and modes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::snapshot::assert_same;
use crate::support::vandal::{WAYS, vandalise};
use crate::support::{Node, Sandbox, snapshot};

/// What a developer does before one push, and what vandals do before it.
#[derive(Debug, Clone)]
struct Step {
    /// Starts from an empty tree instead of the previous one.
    afresh: bool,
    edits: Vec<(Vec<u8>, Node)>,
    /// Renames the path with this index to that path.
    rename: Option<(usize, Vec<u8>)>,
    /// For each release, the kind of vandalism and two path indexes.
    vandalism: Vec<(u8, usize, usize)>,
    /// Rolls back before the next push, so that the live release is not the newest.
    roll_back: bool,
}

/// Few names, so that files often become directories and symlinks, and the reverse.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let names: [&[u8]; 7] = [b"a", b"b", b"a.b", b"a0", b"\xff", b"caf\xc3\xa9", b".x y"];
    vec(select(names.to_vec()), 1..4).prop_map(|names| names.join(&b'/'))
}

fn node() -> impl Strategy<Value = Node> {
    // Contents of equal and different sizes, empty, and several blocks long.
    let content = select(vec![&b""[..], b"one", b"two", b"longer", &[b'x'; 9000]]).prop_map(<[u8]>::to_vec);
    let target =
        select(vec![&b"a"[..], b"b", b"../a", b"/nonexistent/x", b"nowhere/\xff"]).prop_map(<[u8]>::to_vec);
    prop_oneof![
        6 => content.clone().prop_map(Node::File),
        3 => content.prop_map(Node::Executable),
        3 => target.prop_map(Node::Link),
        1 => Just(Node::Submodule),
        3 => Just(Node::Nothing),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (
        prop::bool::weighted(0.15),
        vec((path(), node()), 0..8),
        prop::option::of((any::<prop::sample::Index>().prop_map(|index| index.index(1000)), path())),
        vec((0..WAYS, 0_usize..1000, 0_usize..1000), 0..4),
        prop::bool::weighted(0.15),
    )
        .prop_map(|(afresh, edits, rename, vandalism, roll_back)| Step {
            afresh,
            edits,
            rename,
            vandalism,
            roll_back,
        })
}

/// Commits a step, together with a file whose filter takes longer than a clock tick. Files written in the
/// last tick count as modified, so without the filter nothing would be reused.
fn commit(sandbox: &Sandbox, number: usize, step: &Step) {
    let mut nodes = Vec::new();
    if step.afresh {
        nodes.push((Vec::new(), Node::Nothing));
    } else if let Some((number, to)) = &step.rename {
        let names = sandbox.git_bytes(&["ls-tree", "-r", "-z", "--name-only", "master"]);
        let names: Vec<_> = names.split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect();
        if !names.is_empty() {
            nodes.push((to.clone(), Node::Renamed(names[number % names.len()].to_vec())));
        }
    }
    nodes.extend(step.edits.iter().cloned());
    nodes.push((b".gitattributes".to_vec(), Node::file("zz filter=slow\n")));
    nodes.push((b"zz".to_vec(), Node::file(format!("{number}"))));
    let nodes: Vec<(&[u8], Node)> =
        nodes.iter().map(|(path, node)| (path.as_slice(), node.clone())).collect();
    sandbox.commit_nodes(&nodes);
}

fn run(keep: usize, threads: usize, steps: &[Step]) {
    let sandbox = Sandbox::new();
    sandbox
        .config(&format!("checkout-threads = {threads}"))
        .site_config(&format!("keep = {keep}\nsymlinks = \"any\""))
        // Directories to exchange, containing files of equal names and sizes.
        .commit_nodes(&[
            (b"a", Node::file("the first commit")),
            (b"d/1/page", Node::file("one")),
            (b"d/2/page", Node::file("two")),
            (b"d/3/page", Node::file("six")),
        ]);
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();
    let mut precious = snapshot(&outside);
    sandbox.git_in(&sandbox.repository(), &["config", "filter.slow.smudge", "sleep 0.015; cat"]);
    for (number, step) in steps.iter().enumerate() {
        commit(&sandbox, number, step);
        let push = sandbox.push();
        assert!(push.output.contains("Git hooks deploy complete."), "{}", push.output);
        assert!(push.status.success() && !push.output.contains("error:"), "{}", push.output);
        sandbox.serves_checkout("master").is_tidy();
        assert_same(&snapshot(&outside), &precious, "what lies outside");
        if step.roll_back && keep > 0 {
            // There may be no earlier release.
            let _ = sandbox.bluegreen(&["rollback"]).status;
        }
        for release in sandbox.releases() {
            for (way, first, second) in &step.vandalism {
                vandalise(&sandbox.site().join("releases").join(&release), &outside, *way, *first, *second);
            }
        }
        // A vandal may write through its own hard link. A push must not.
        precious = snapshot(&outside);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40),
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_push_matches_git_checkout(
        // The release before the live one is never recycled. With `keep` of 2 or more, every push recycles.
        keep in select(vec![0_usize, 1, 2, 2, 2, 3]),
        threads in 1_usize..3,
        steps in vec(step(), 3..9),
    ) {
        run(keep, threads, &steps);
    }
}

#[test]
fn the_next_push_repairs_every_kind_of_vandalism() {
    let nodes: Vec<(Vec<u8>, Node)> = vec![
        (b"a/b/c".to_vec(), Node::file("one")),
        (b"a/b/run".to_vec(), Node::Executable(b"two".to_vec())),
        (b"a/link".to_vec(), Node::link("b/c")),
        (b"empty".to_vec(), Node::file("")),
        (b"vendor".to_vec(), Node::Submodule),
    ];
    let edit = |content: &str| vec![(b"index.html".to_vec(), Node::file(content))];
    for way in 0..WAYS {
        let mut steps: Vec<Step> = ["1", "2", "3", "4"]
            .into_iter()
            .flat_map(|content| (0..4).map(move |path| (content, path)))
            .map(|(content, path)| Step {
                afresh: false,
                edits: edit(&format!("{content}{path}")),
                rename: None,
                vandalism: vec![(way, path * 2, path + 3)],
                roll_back: false,
            })
            .collect();
        steps[0].edits.extend(nodes.iter().cloned());
        // The release before the live one is never recycled, so recycling needs two more.
        run(2, 1, &steps[..8]);
    }
}

#[test]
fn non_utf8_names_are_written_unchanged() {
    let sandbox = Sandbox::new();
    sandbox.commit_nodes(&[(b"\xff\xfe/\x80", Node::file("bytes"))]).push().ok().serves_checkout("master");
    let name = OsString::from_vec(b"\xff\xfe/\x80".to_vec());
    assert_eq!(fs::read(sandbox.current(Path::new(&name))).unwrap(), b"bytes");
    assert_eq!(name.as_bytes().len(), 4);
}
