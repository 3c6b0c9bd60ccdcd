//! `symlinks = "inside"` with shared paths: a symlink is judged by the path it resolves through, not by its
//! spelling.

use std::os::unix::fs::MetadataExt;

use crate::support::{Node, Sandbox, snapshot};

const SHARED: &str = "[shared]\ndirs = ['storage/uploads', 'logs']\nfiles = ['config/.env']";

fn with_shared() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.config_section(SHARED);
    std::fs::create_dir_all(sandbox.site().join("shared/config")).unwrap();
    std::fs::write(sandbox.site().join("shared/config/.env"), "SECRET").unwrap();
    sandbox
}

/// Returns the time of the last change in `releases/`, in seconds and nanoseconds.
fn last_write(sandbox: &Sandbox) -> (i64, i64) {
    let metadata = sandbox.site().join("releases").metadata().unwrap();
    (metadata.mtime(), metadata.mtime_nsec())
}

/// The path of a symlink and its target.
type Link = (&'static str, &'static str);

/// Symlinks that leave the release through a shared path, with the other symlinks that they need.
const OUTSIDE: [(Link, &[Link]); 10] = [
    (("out", "logs/.."), &[]),
    (("out", "logs/../.bluegreen"), &[]),
    (("out", "storage/uploads/../../config/.env"), &[]),
    (("out", "./storage//uploads/./a/../../x"), &[]),
    (("deep/er/out", "../../logs/../../etc/passwd"), &[]),
    (("out", "config/.env/../x"), &[]),
    (("out", "near/.."), &[("near", "logs")]),
    (("out", "one/b/../../../x"), &[("one", "two"), ("two", "storage/uploads/a")]),
    (("storage/out", "uploads/../../x"), &[]),
    (("out", "/srv/shared/logs"), &[]),
];

#[test]
fn a_symlink_out_through_a_shared_path_is_rejected_before_the_first_write() {
    let sandbox = with_shared();
    sandbox.commit("index.html", "v1").push().ok();
    let (written, shared) = (last_write(&sandbox), snapshot(&sandbox.site().join("shared")));
    let first = sandbox.id("master");
    for ((path, target), others) in OUTSIDE {
        sandbox.git(&["update-ref", "refs/heads/master", &first]);
        let mut nodes = vec![(path.as_bytes(), Node::link(target)), (b"index.html", Node::file("v2"))];
        nodes.extend(others.iter().map(|(path, target)| (path.as_bytes(), Node::link(target))));
        // A seed file, which would be moved to the shared directory first.
        nodes.push((b"logs/seed", Node::file("seed")));
        sandbox.commit_nodes(&nodes);
        sandbox
            .push_refs(&["--force", "master"])
            .not_deployed()
            .says(&format!("error: symlink `{path}` points outside the release, to `{target}`"))
            .serves("index.html", "v1");
        assert_eq!(last_write(&sandbox), written, "{path} -> {target}: something was written");
        assert_eq!(snapshot(&sandbox.site().join("shared")), shared, "{path} -> {target}");
    }
    sandbox.is_tidy();
    // A config change allows the same tree.
    sandbox
        .site_config("symlinks = \"any\"")
        .bluegreen(&["deploy", "master"])
        .ok()
        .serves("index.html", "v2");
    assert_ne!(last_write(&sandbox), written);
}

#[test]
fn symlinks_into_shared_paths_are_allowed() {
    let sandbox = with_shared();
    let links = [
        ("photos", "storage/uploads"),
        ("photo", "photos/2026/../photo.jpg"),
        ("same", "storage/uploads/a/.."),
        ("env", "config/.env"),
        ("deep/er/env", "../../env"),
        ("deep/photo", "../storage/../photos/photo.jpg"),
        ("beside", "storage/../index.html"),
    ];
    let mut nodes: Vec<(&[u8], Node)> =
        links.iter().map(|(path, target)| (path.as_bytes(), Node::link(target))).collect();
    nodes.push((b"index.html", Node::file("v1")));
    nodes.push((b"storage/uploads/photo.jpg", Node::file("photo")));
    nodes.push((b"storage/uploads/a/seed", Node::file("seed")));
    for round in ["one", "two", "three", "four"] {
        sandbox.commit_nodes(&nodes).commit("round", round).push().ok().serves("photos/photo.jpg", "photo");
        sandbox.serves("env", "SECRET").serves("deep/er/env", "SECRET").serves("beside", "v1");
        sandbox.serves("same/photo.jpg", "photo").serves("deep/photo", "photo").serves("round", round);
        for (path, target) in links {
            assert_eq!(sandbox.current(path).read_link().unwrap().to_str(), Some(target));
        }
    }
    sandbox.is_tidy();
}
