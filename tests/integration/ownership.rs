//! Root operates on another user's repository: no file that it creates is owned by root.

use std::ffi::OsStr;
use std::fs::{Permissions, set_permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::support::sandbox::NOBODY;
use crate::support::skip::root_or_skip;
use crate::support::{Run, Sandbox};

#[track_caller]
fn is_owned_by_nobody(path: &Path) {
    let metadata = path.symlink_metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "{}", path.display());
    if metadata.is_dir() {
        for entry in path.read_dir().unwrap() {
            is_owned_by_nobody(&entry.unwrap().path());
        }
    }
}

#[test]
fn nothing_that_root_deploys_is_owned_by_root() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    // `keep = 2` makes the program recycle and prune releases.
    sandbox.site_config("keep = 2").owned_by(NOBODY);
    for version in ["v1", "v2", "v3"] {
        sandbox.commit("index.html", version).push().ok().serves("index.html", version);
    }
    let id = sandbox.id("master~2");
    sandbox.back_to_root();
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v3");
    sandbox.bluegreen(&["rollback"]).ok();
    sandbox.by_hand(format!("{id} {id} refs/heads/master\n")).ok().serves("index.html", "v1");
    let mut sudo = sandbox.bluegreen_command(&["deploy"]);
    Run::new(&sandbox, sudo.env("SUDO_USER", "alice")).ok().serves("index.html", "v3");
    for command in ["status", "releases", "history"] {
        sandbox.bluegreen(&[command]).ok();
    }
    is_owned_by_nobody(&sandbox.site());
    is_owned_by_nobody(&sandbox.repository());
    let history = sandbox.history();
    assert_eq!(history.last().unwrap()["by"]["sudo"], "alice");
    assert_eq!(history[0]["by"]["user"], "nobody");
    sandbox.is_tidy();
}

#[test]
fn the_owner_can_deploy_after_root_deployed_first() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.owned_by(NOBODY).commit("index.html", "v1").push_refs(&["master:refs/heads/topic"]).ok();
    sandbox.back_to_root().bluegreen(&["deploy", "topic"]).ok().serves("index.html", "v1");
    is_owned_by_nobody(&sandbox.site());
    sandbox.owned_by(NOBODY).commit("index.html", "v2").push().ok().serves("index.html", "v2");
}

#[test]
fn the_state_directory_is_private_and_releases_are_readable() {
    let sandbox = Sandbox::new();
    sandbox.commit("a/index.html", "v1").push().ok();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode(&sandbox.site().join(".bluegreen")), 0o700);
    assert_eq!(mode(&sandbox.site().join(".bluegreen/history.jsonl")), 0o600);
    assert_eq!(mode(&sandbox.site().join("releases")), 0o755);
    assert_eq!(mode(&sandbox.live_path()), 0o755);
}

#[test]
fn inaccessible_directories_are_opened_for_recycling_and_pruning() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 2").owned_by(NOBODY);
    for version in ["v1", "v2", "v3", "v4", "v5", "v6"] {
        sandbox.commit("a/b/index.html", version).push().ok().serves_checkout("master");
        for name in sandbox.releases() {
            let release = sandbox.site().join("releases").join(name);
            for directory in ["a/b", "a"] {
                set_permissions(release.join(directory), Permissions::from_mode(0o000)).unwrap();
            }
        }
    }
    assert_eq!(sandbox.releases().len(), 4);
    sandbox.is_tidy();
}

#[test]
fn root_uses_no_repository_with_files_of_other_users_at_any_depth() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let other = |name: &[u8]| {
        let objects = sandbox.path(OsStr::from_bytes(name)).join("objects");
        std::fs::create_dir_all(objects.join("info")).unwrap();
        objects
    };
    let alternates = sandbox.repository().join("objects/info/alternates");
    let is_refused = |weak: &Path| {
        let run = sandbox.bluegreen(&["status"]).fails(2);
        assert!(run.output().contains("error: root cannot work in"), "{}", run.output());
        chown(weak, Some(0), Some(0)).unwrap();
        set_permissions(weak, Permissions::from_mode(0o755)).unwrap();
        sandbox.bluegreen(&["status"]).ok();
    };

    let hook = sandbox.repository().join("hooks/update.d/first");
    std::fs::create_dir(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "").unwrap();
    set_permissions(&hook, Permissions::from_mode(0o777)).unwrap();
    is_refused(&hook);
    chown(&hook, Some(NOBODY), None).unwrap();
    is_refused(&hook);

    // A relative path, a path that is not UTF-8, and the alternate of an alternate.
    let (relative, bytes, nested) = (other(b"relative"), other(b"\xff"), other(b"nested"));
    std::fs::write(&alternates, "../../relative/objects\n").unwrap();
    chown(&relative, Some(NOBODY), None).unwrap();
    is_refused(&relative);
    std::fs::write(&alternates, [bytes.as_os_str().as_bytes(), b"\n"].concat()).unwrap();
    chown(&bytes, Some(NOBODY), None).unwrap();
    is_refused(&bytes);
    std::fs::write(&alternates, "../../relative/objects\n").unwrap();
    std::fs::write(relative.join("info/alternates"), format!("{}\n", nested.display())).unwrap();
    chown(nested.join("info"), Some(NOBODY), None).unwrap();
    is_refused(&nested.join("info"));

    // Git decodes it, so another directory than the one that was checked would be used.
    std::fs::write(&alternates, format!("\"{}\"\n", nested.display())).unwrap();
    sandbox
        .bluegreen(&["status"])
        .fails(1)
        .says("error: cannot check `<repository>/objects/info/alternates`: write its paths without quotes");
}
