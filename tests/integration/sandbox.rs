//! Tests of the sandbox itself. Normalizing too much, or comparing too little, would make tests vacuous.

use std::os::unix::fs::PermissionsExt;

use crate::support::normalize::normalize;
use crate::support::snapshot::{assert_same, snapshot};

#[test]
fn variable_output_is_replaced_with_placeholders() {
    for (line, normal) in [
        (
            "Release 20261122T201500Z-1a2b3c4d5e6f is live: 2 files changed, 10.04 s",
            "Release <release> is live: 2 files changed, <time>",
        ),
        ("(release 20261122T201500Z-1a2b3c4d5e6f-12).", "(release <release>)."),
        ("serves 9f8e7d6c5b4a (x)", "serves <commit> (x)"),
        ("(process 123, since 2026-11-22T20:15:00Z)", "(process <pid>, since <time>)"),
        ("after 1s: 3 files, café", "after 1s: 3 files, café"),
    ] {
        assert_eq!(normalize(line), normal);
    }
}

#[test]
fn snapshots_detect_changes_of_mode_content_type_and_name() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    std::fs::write(&file, "one").unwrap();
    let before = snapshot(temp.path());
    assert_same(&snapshot(temp.path()), &before, "itself");
    std::fs::write(&file, "two").unwrap();
    assert_ne!(snapshot(temp.path()), before);
    std::fs::write(&file, "one").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    assert_ne!(snapshot(temp.path()), before);
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("one", &file).unwrap();
    assert_ne!(snapshot(temp.path()), before);
    std::fs::remove_file(&file).unwrap();
    assert_ne!(snapshot(temp.path()), before);
}

#[test]
#[should_panic(expected = "nobody said `Git hooks deploy complete`")]
fn lines_are_compared_in_full() {
    let sandbox = crate::support::Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok().says("Git hooks deploy complete");
}

#[test]
#[should_panic(expected = "a line begins with `warning:`")]
fn ok_rejects_warnings() {
    let sandbox = crate::support::Sandbox::new();
    sandbox.commit_nodes(&[(b"library", crate::support::Node::Submodule)]).push().ok();
}
