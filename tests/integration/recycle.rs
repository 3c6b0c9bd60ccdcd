//! A surplus release is recycled into the new one: only differences are written. If that is impossible, the
//! push succeeds anyway.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::support::sandbox::NOBODY;
use crate::support::skip::root_or_skip;
use crate::support::{Node, Sandbox};

/// Deploys a file that never changes and one that always does, until the next push recycles.
fn ready_to_recycle() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 2").commit("kept/page", "the same in every version");
    for version in 0..=3 {
        sandbox.commit("index.html", &format!("v{version}")).push().ok();
    }
    // Files written in the last clock tick count as modified. Real sites are rarely that young.
    sleep(Duration::from_millis(20));
    sandbox
}

fn oldest(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.site().join("releases").join(&sandbox.releases()[0])
}

#[test]
fn unchanged_files_are_not_rewritten() {
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 2");
    let pages: Vec<String> = (0..2000).map(|page| format!("kept/{}/page{page}", page % 20)).collect();
    let nodes: Vec<_> = pages.iter().map(|page| (page.as_bytes(), Node::file("the same"))).collect();
    sandbox.commit_nodes(&nodes);
    // Each page's inode, and the ctime that decides whether the file can be reused.
    let files = |release: &Path| -> Vec<(u64, (i64, i64))> {
        let file = |page: &String| fs::metadata(release.join(page)).unwrap();
        pages.iter().map(file).map(|file| (file.ino(), (file.ctime(), file.ctime_nsec()))).collect()
    };
    for version in 0..=3 {
        sandbox.commit("index.html", &format!("v{version}")).push().ok();
    }
    // Twice, so that a recycled release is itself recycled.
    for version in 4..=9 {
        let before = files(&oldest(&sandbox));
        // Only a file written in the last clock tick may count as modified.
        let last_tick = before.iter().map(|(_, ctime)| *ctime).max().unwrap();
        sandbox.commit("index.html", &format!("v{version}")).push().ok().serves_checkout("master");
        let after = files(&sandbox.live_path());
        let untouched = before.iter().zip(&after).filter(|((_, ctime), _)| *ctime < last_tick);
        let kept = untouched.clone().filter(|((old, _), (new, _))| old == new).count();
        assert_eq!(kept, untouched.clone().count(), "of {} files", pages.len());
        assert!(kept > 0, "all files were written within one clock tick");
    }
    sandbox.is_tidy();
}

#[test]
fn a_change_with_equal_size_and_mtime_is_detected() {
    let sandbox = ready_to_recycle();
    for version in 4..=6 {
        sandbox.commit("index.html", &format!("v{version}")).push().ok();
        sleep(Duration::from_millis(20));
    }
    let page = oldest(&sandbox).join("kept/page");
    let before = fs::metadata(&page).unwrap().modified().unwrap();
    fs::write(&page, "THE SAME IN EVERY VERSION").unwrap();
    fs::File::options().write(true).open(&page).unwrap().set_modified(before).unwrap();
    sandbox.commit("index.html", "v7").push().ok().serves_checkout("master");
}

#[test]
fn the_live_and_previous_releases_are_not_recycled() {
    for keep in [0, 1] {
        let sandbox = Sandbox::new();
        sandbox.site_config(&format!("keep = {keep}"));
        sandbox.commit("kept", "the same in every version");
        for version in 1..=5 {
            let inode = |name: &String| {
                fs::metadata(sandbox.site().join("releases").join(name).join("kept")).unwrap().ino()
            };
            let newest: Vec<u64> = sandbox.releases().iter().rev().take(2).map(inode).collect();
            sandbox.commit("index.html", &format!("v{version}")).push().ok().serves_checkout("master");
            assert!(!newest.contains(&fs::metadata(sandbox.current("kept")).unwrap().ino()), "keep = {keep}");
            assert_eq!(sandbox.releases().len(), if keep == 0 { 1 } else { (keep + 2).min(version) });
        }
    }
}

#[test]
fn a_release_that_cannot_be_recycled_does_not_fail_the_push() {
    if !root_or_skip() {
        return;
    }
    let sandbox = ready_to_recycle();
    sandbox.owned_by(NOBODY);
    // The web server, here root, has written into the release that is next to be recycled.
    let cache = oldest(&sandbox).join("kept/cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("page"), "cached").unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
    // It becomes a leftover that cannot be removed, which later pushes report.
    sandbox.commit("index.html", "v4").push().ok().serves("index.html", "v4").serves_checkout("master");
    sandbox.commit("index.html", "v5").push().warned().serves("index.html", "v5");
}

#[test]
fn a_damaged_manifest_is_ignored() {
    let sandbox = ready_to_recycle();
    for damage in 0..6 {
        let manifests = sandbox.site().join(".bluegreen/releases");
        let manifest = manifests.join(format!("{}.manifest", sandbox.releases()[0]));
        let mut bytes = fs::read(&manifest).unwrap();
        match damage {
            0 => bytes.clear(),
            1 => bytes.truncate(bytes.len() / 2),
            2 => bytes[0] ^= 1,
            3 => bytes[30..].fill(0xff),
            4 => bytes[30..].fill(0),
            _ => bytes.extend_from_slice(b"more"),
        }
        fs::write(&manifest, bytes).unwrap();
        sandbox.commit("index.html", &format!("damage {damage}"));
        sandbox.push().ok().serves_checkout("master");
    }
}

#[test]
fn recycling_works_if_the_old_commit_was_pruned() {
    let sandbox = ready_to_recycle();
    sandbox.git(&["update-ref", "-d", "refs/heads/master"]);
    sandbox.commit_tree(&[(b"other/page", Node::file("a new history"))]);
    sandbox.push_refs(&["+master:master"]).ok().serves("other/page", "a new history");
    sandbox.git_in(&sandbox.repository(), &["reflog", "expire", "--expire=now", "--all"]);
    sandbox.git_in(&sandbox.repository(), &["gc", "-q", "--prune=now"]);
    for version in 0..4 {
        sandbox.commit("index.html", &format!("after {version}")).push().ok().serves_checkout("master");
    }
}

#[test]
fn a_rejected_commit_removes_no_release() {
    let sandbox = ready_to_recycle();
    let before = sandbox.releases();
    sandbox.commit_nodes(&[(b"link", Node::link("/etc/passwd"))]).push().not_deployed();
    assert_eq!(sandbox.releases(), before);
    let commit = sandbox.command(sandbox.hook_path()).args(["rollback", &before[0]]).output().unwrap();
    assert!(commit.status.success(), "cannot roll back to the oldest release: {commit:?}");
    sandbox.is_tidy();
}

#[test]
fn a_failed_build_removes_no_kept_release() {
    let sandbox = ready_to_recycle();
    sandbox.config_section("[steps]\nbuild = 'test ! -e broken'");
    let before = sandbox.releases();
    sandbox.commit("broken", "").push().not_deployed().serves("index.html", "v3");
    // The live release and two others remain, because `keep = 2`. The surplus release was recycled.
    assert_eq!(sandbox.releases(), before[1..]);
    sandbox.push_refs(&["master:topic"]).ok();
    sandbox.bluegreen(&["deploy", "topic"]).fails(1);
    assert_eq!(sandbox.releases(), before[1..]);
    sandbox.bluegreen(&["rollback"]).ok().serves("index.html", "v2");
    sandbox.bluegreen(&["rollback"]).ok().serves("index.html", "v1");
}
