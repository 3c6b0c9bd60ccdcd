//! The live release is the directory that the deployment filled, with the files that it wrote. Moved,
//! removed, or exchanged directories are detected.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Node, Sandbox, snapshot};

const REPLACED: &str = "error: a step moved, removed, or replaced the directory of release <release>";

/// Exchanges two paths.
fn exchange(one: &Path, other: &Path) {
    let aside = one.with_file_name("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(aside, other).unwrap();
}

/// Deploys a hundred directories with files of equal size, until the next push recycles.
fn ready_to_recycle() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 2").config("checkout-threads = 1");
    // All files are written within one clock tick, but not the last one, because that would count as
    // modified.
    sandbox.git_in(&sandbox.repository(), &["config", "filter.slow.smudge", "sleep 0.02; cat"]);
    sandbox.commit(".gitattributes", "index.html filter=slow\n");
    let nodes: Vec<(Vec<u8>, Node)> = (100..200)
        .map(|n| (format!("d/{n}/deep/page").into_bytes(), Node::file(format!("page {n}"))))
        .collect();
    let nodes: Vec<(&[u8], Node)> =
        nodes.iter().map(|(path, node)| (path.as_slice(), node.clone())).collect();
    sandbox.commit_nodes(&nodes);
    for version in ["v0", "v1", "v2", "v3"] {
        sandbox.commit("index.html", version).push().ok();
    }
    let oldest = sandbox.site().join("releases").join(&sandbox.releases()[0]);
    (sandbox, oldest)
}

#[test]
fn exchanged_files_and_directories_are_rewritten() {
    let (sandbox, oldest) = ready_to_recycle();
    let at = |n: u32| oldest.join(format!("d/{n}"));
    for n in (100..160).step_by(2) {
        exchange(&at(n), &at(n + 1));
    }
    for n in (160..190).step_by(2) {
        exchange(&at(n).join("deep"), &at(n + 1).join("deep"));
    }
    exchange(&at(190).join("deep/page"), &at(191).join("deep/page"));
    // One directory moves into another.
    fs::rename(at(192), at(193).join("deep/more")).unwrap();
    sandbox.commit("index.html", "v4").push().ok().serves_checkout("master");
}

#[test]
fn a_directory_from_another_release_is_rewritten() {
    let (sandbox, oldest) = ready_to_recycle();
    let other = sandbox.site().join("releases").join(&sandbox.releases()[1]);
    exchange(&oldest.join("d"), &other.join("d"));
    fs::write(other.join("d/100/deep/page"), "PAGE 100").unwrap();
    sandbox.commit("index.html", "v4").push().ok().serves_checkout("master");

    // The release directories themselves are exchanged.
    let (sandbox, oldest) = ready_to_recycle();
    exchange(&oldest, &sandbox.site().join("releases").join(&sandbox.releases()[1]));
    sandbox.commit("index.html", "v4").push().ok().serves_checkout("master");
}

#[test]
fn a_manifest_in_an_older_format_is_ignored() {
    let (sandbox, oldest) = ready_to_recycle();
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let old = inode(&oldest.join("d/100/deep/page"));
    sandbox.commit("index.html", "v4").push().ok().serves_checkout("master");
    assert_eq!(
        inode(&sandbox.current("d/100/deep/page")),
        old,
        "it is recycled as long as nothing is touched"
    );
    let old = inode(&sandbox.site().join("releases").join(&sandbox.releases()[0]).join("d/100/deep/page"));
    let manifest = sandbox.site().join(format!(".bluegreen/releases/{}.manifest", sandbox.releases()[0]));
    let data = fs::read(&manifest).unwrap();
    let version = b"bluegreen manifest 2\n";
    fs::write(&manifest, [version, &data[version.len()..]].concat()).unwrap();
    sandbox.commit("index.html", "v5").push().ok().serves_checkout("master");
    assert_ne!(inode(&sandbox.current("d/100/deep/page")), old);
    sandbox.is_tidy();
}

#[test]
fn a_release_moved_or_removed_by_a_step_never_becomes_live() {
    for (phase, step) in [
        ("build", r#"rm -rf "$PWD""#),
        ("check", r#"mv "$PWD" ../gone; mkdir "../$BLUEGREEN_RELEASE""#),
        ("check", r#"mv "$PWD" ../gone; cp -a ../gone "../$BLUEGREEN_RELEASE""#),
        ("check", r#"mv "$PWD" ../gone; ln -s gone "../$BLUEGREEN_RELEASE""#),
        ("build", r#"mv "$PWD" ../../gone"#),
        ("check", r#"mv "${PWD%/*}" ../../../aside; mkdir "${PWD%/*}""#),
    ] {
        let sandbox = Sandbox::new();
        sandbox.commit("index.html", "v1").push().ok();
        let before = snapshot(&sandbox.live_path());
        sandbox.config_section(&format!("[steps]\n{phase} = '''{step}'''\n"));
        let told = sandbox.commit("index.html", "v2").push().not_deployed();
        told.says(REPLACED)
            .says("hint: change the steps in bluegreen.toml so that they leave `$PWD` in place");
        if step.contains("aside") {
            let live = sandbox.site().join("current").read_link().unwrap();
            assert_eq!(snapshot(&sandbox.path("aside").join(live.file_name().unwrap())), before);
            continue;
        }
        assert_eq!(snapshot(&sandbox.live_path()), before, "{step}");
        // Its state is unrecognized, so it stays.
        for gone in ["gone", "site/releases/gone"] {
            assert!(!sandbox.path(gone).exists() || sandbox.path(gone).join("index.html").exists(), "{step}");
        }
        sandbox.bluegreen(&["rollback"]).fails(1).serves("index.html", "v1");
    }
}

#[test]
fn a_rollback_skips_replaced_releases_unless_named() {
    let sandbox = Sandbox::new();
    for version in ["v1", "v2"] {
        sandbox.commit("index.html", version).push().ok();
    }
    let name = sandbox.releases()[0].clone();
    let release = sandbox.site().join("releases").join(&name);
    fs::rename(&release, sandbox.path("aside")).unwrap();
    fs::create_dir(&release).unwrap();
    sandbox
        .bluegreen(&["rollback"])
        .fails(1)
        .says("error: the directory of release <release> was replaced after the deployment")
        .says("hint: run `bluegreen rollback <release>` to use it anyway, or `bluegreen deploy REVISION` for a fresh release")
        .serves("index.html", "v2");
    fs::write(release.join("index.html"), "from a backup").unwrap();
    sandbox.bluegreen(&["rollback", &name]).warned().serves("index.html", "from a backup");
}
