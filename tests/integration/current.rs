//! The states in which a push may find `current`, and leftovers of a crash next to it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::support::{Node, Sandbox};

const RECEIVED: &str = "Master ref received.  Deploying master branch to blue...";

#[test]
fn a_directory_at_current_is_rejected_with_a_hint() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.site().join("current")).unwrap();
    fs::write(sandbox.current("index.html"), "by hand").unwrap();
    sandbox
        .commit("index.html", "v1")
        .push()
        .not_deployed()
        .says_only(&[
            RECEIVED,
            "error: `<site>/current` is a directory, not a symlink",
            "hint: move it away: `sudo -u root mv -T <site>/current <site>/current.old`, then push again",
            "Not deployed: blue still serves what it served before.",
        ])
        .serves("index.html", "by hand");
    sandbox.bluegreen(&["deploy"]).fails(1);
    sandbox.bluegreen(&["rollback"]).fails(1);
    sandbox.bluegreen(&["status"]).fails(1);
    fs::rename(sandbox.site().join("current"), sandbox.site().join("current.old")).unwrap();
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v1");
}

#[test]
fn a_file_at_current_is_rejected() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.site().join("current"), "").unwrap();
    sandbox
        .commit("index.html", "v1")
        .push()
        .not_deployed()
        .says("error: `<site>/current` is a file, not a symlink");
}

#[test]
fn a_dangling_symlink_is_replaced_with_a_warning() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    fs::remove_dir_all(sandbox.live_path()).unwrap();
    sandbox
        .bluegreen(&["status"])
        .ok()
        .says("Live:     nothing: `current` points to release <release>, which does not exist");
    sandbox
        .commit("index.html", "v2")
        .push()
        .warned()
        .says("warning: `current` points to release <release>, which does not exist")
        .serves("index.html", "v2");
    assert_eq!(sandbox.records().len(), 2, "only the record and the manifest of v2 remain");
}

#[test]
fn a_tip_is_deployed_again_if_its_release_is_missing() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    fs::remove_dir_all(sandbox.live_path()).unwrap();
    let id = sandbox.id("master");
    sandbox.as_git(format!("{id} {id} refs/heads/master\n")).warned().serves("index.html", "v1");
}

#[test]
fn a_foreign_symlink_is_replaced_with_a_warning_and_its_target_is_untouched() {
    let sandbox = Sandbox::new();
    let old = sandbox.path("old-site");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("index.html"), "old").unwrap();
    symlink(&old, sandbox.site().join("current")).unwrap();
    sandbox.bluegreen(&["status"]).ok().says("Live:     `<sandbox>/old-site`, which is not a release");
    sandbox
        .commit_nodes(&[(b"out", Node::link("/etc"))])
        .push()
        .not_deployed()
        .says("Not deployed: blue still serves `<sandbox>/old-site`.");
    sandbox
        .commit_nodes(&[(b"out", Node::Nothing), (b"index.html", Node::file("v1"))])
        .push()
        .warned()
        .says("warning: `current` points to `<sandbox>/old-site`, which is not a release")
        .serves("index.html", "v1");
    assert_eq!(fs::read_to_string(old.join("index.html")).unwrap(), "old");
}

#[test]
fn an_absolute_symlink_to_a_release_counts_as_that_release() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let (live, current) = (sandbox.live_path(), sandbox.site().join("current"));
    fs::remove_file(&current).unwrap();
    symlink(&live, &current).unwrap();
    sandbox.commit("index.html", "v2").push().ok().serves("index.html", "v2");
    sandbox.bluegreen(&["rollback"]).ok().serves("index.html", "v1");
}

#[test]
fn crash_leftovers_are_swept_and_foreign_names_are_untouched() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let (releases, state) = (sandbox.site().join("releases"), sandbox.site().join(".bluegreen/releases"));
    // A partially filled release, one whose steps never finished, one without its directory, and a symlink
    // that was never renamed.
    fs::create_dir_all(releases.join(".incoming-000001/a/b")).unwrap();
    fs::write(releases.join(".incoming-000001/a/b/file"), "half").unwrap();
    let staged = "20200101T000000Z-000000000000";
    fs::create_dir(releases.join(staged)).unwrap();
    let record = fs::read_to_string(state.join(format!("{}.toml", sandbox.live()))).unwrap();
    let inode = fs::metadata(releases.join(staged)).unwrap().ino();
    let record = record.replace(
        &format!("inode = {}", fs::metadata(sandbox.live_path()).unwrap().ino()),
        &format!("inode = {inode}"),
    );
    fs::write(state.join(format!("{staged}.toml")), record.replace("ready", "staged")).unwrap();
    fs::write(state.join("20200101T000000Z-111111111111.toml"), &record).unwrap();
    fs::write(state.join(".incoming-record"), "half").unwrap();
    symlink("releases/nowhere", sandbox.site().join(".current.next")).unwrap();
    // Files that bluegreen did not create.
    fs::create_dir(releases.join("backup")).unwrap();
    fs::write(releases.join("backup/precious"), "").unwrap();
    fs::create_dir(releases.join("20200101T000000Z-222222222222")).unwrap();
    sandbox.commit("index.html", "v2").push().ok().serves("index.html", "v2");
    sandbox.is_tidy();
    let names = sandbox.releases();
    assert!(!names.contains(&staged.to_owned()), "{names:?}");
    assert!(
        names.contains(&"20200101T000000Z-222222222222".to_owned()),
        "without a record nobody may judge it"
    );
    assert!(releases.join("backup/precious").exists());
    assert_eq!(sandbox.records().len(), 4, "{:?}", sandbox.records());
}

#[test]
fn an_unsealed_release_is_never_live_or_a_rollback_target() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.commit("index.html", "v2").push().ok();
    let state = sandbox.site().join(".bluegreen/releases").join(format!("{}.toml", sandbox.releases()[0]));
    fs::write(&state, fs::read_to_string(&state).unwrap().replace("ready", "staged")).unwrap();
    sandbox.bluegreen(&["rollback"]).fails(1).says("error: no good release is older than the live one");
}

#[test]
fn pruning_keeps_the_configured_number_the_live_release_and_foreign_names() {
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 2");
    fs::create_dir_all(sandbox.site().join("releases/backup")).unwrap();
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        sandbox.commit("index.html", version).push().ok().serves("index.html", version);
    }
    assert_eq!(sandbox.releases().len(), 4 + 1, "{:?}", sandbox.releases());
    sandbox.bluegreen(&["rollback"]).ok().serves("index.html", "v4");
    sandbox.bluegreen(&["rollback"]).ok().serves("index.html", "v3");
    let live = sandbox.live();
    sandbox.commit("index.html", "v6").push().ok();
    assert!(sandbox.releases().contains(&live), "the rollback target is kept");
    sandbox.bluegreen(&["rollback", &live]).ok().serves("index.html", "v3");
    sandbox.is_tidy();
}

#[test]
fn keep_0_keeps_only_the_live_release() {
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 0");
    for version in ["v1", "v2", "v3"] {
        sandbox.commit("index.html", version).push().ok().serves("index.html", version);
        assert_eq!(sandbox.releases(), [sandbox.live()]);
    }
    sandbox.bluegreen(&["rollback"]).fails(1).serves("index.html", "v3");
}
