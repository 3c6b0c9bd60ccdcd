//! Shared paths, `[shared]`: directories and files that outlive releases.

use std::os::unix::fs::symlink;

use crate::support::skip::program_or_skip;
use crate::support::{Node, Run, Sandbox};

const DIRS: &str = "[shared]\ndirs = ['storage/uploads']";

fn write(sandbox: &Sandbox, path: &str, content: &str) {
    let path = sandbox.site().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn read(sandbox: &Sandbox, path: &str) -> String {
    std::fs::read_to_string(sandbox.site().join(path)).unwrap()
}

#[test]
fn an_empty_shared_directory_is_seeded_from_the_commit() {
    let sandbox = Sandbox::new();
    sandbox.config_section(DIRS).site_config("keep = 1");
    sandbox.commit("storage/uploads/a/seed.txt", "seed").commit("index.html", "v1");
    sandbox.push().ok().serves("index.html", "v1").serves("storage/uploads/a/seed.txt", "seed");
    let link = sandbox.current("storage/uploads").read_link().unwrap();
    assert_eq!(link.to_str().unwrap(), "../../../shared/storage/uploads");

    write(&sandbox, "current/storage/uploads/photo.jpg", "uploaded");
    write(&sandbox, "shared/storage/uploads/a/seed.txt", "edited by a visitor");
    for version in ["v2", "v3", "v4", "v5"] {
        sandbox.commit("index.html", version).commit("storage/uploads/a/seed.txt", version);
        sandbox
            .push()
            .ok()
            .serves("index.html", version)
            .serves("storage/uploads/photo.jpg", "uploaded")
            .serves("storage/uploads/a/seed.txt", "edited by a visitor");
        sandbox.is_tidy();
    }
    sandbox
        .bluegreen(&["rollback"])
        .ok()
        .serves("index.html", "v4")
        .serves("storage/uploads/photo.jpg", "uploaded");
    assert_eq!(std::fs::read_dir(sandbox.site().join("shared/storage/uploads")).unwrap().count(), 2);
}

#[test]
fn existing_shared_content_is_kept_and_not_merged() {
    let sandbox = Sandbox::new();
    sandbox.config_section(DIRS);
    write(&sandbox, "shared/storage/uploads/old.jpg", "old");
    sandbox.commit("storage/uploads/seed.txt", "seed");
    sandbox.push().ok().serves("storage/uploads/old.jpg", "old");
    assert!(!sandbox.current("storage/uploads/seed.txt").exists());
}

#[test]
fn a_shared_directory_may_be_missing_from_the_commit() {
    let sandbox = Sandbox::new();
    sandbox.config_section("[shared]\ndirs = ['logs', 'var/deep/cache']");
    sandbox.commit("index.html", "v1").push().ok();
    write(&sandbox, "current/var/deep/cache/x", "cached");
    assert_eq!(read(&sandbox, "shared/var/deep/cache/x"), "cached");
    assert!(sandbox.site().join("shared/logs").is_dir());
}

#[test]
fn a_missing_shared_file_is_reported_before_the_first_write() {
    let sandbox = Sandbox::new();
    sandbox.config_section("[shared]\nfiles = ['config/.env']");
    sandbox.commit("index.html", "v1");
    sandbox
        .push()
        .not_deployed()
        .says("error: the shared file `<site>/shared/config/.env` is missing")
        .says("hint: create it on the server: `sudo -u root sh -c 'mkdir -p <site>/shared/config && ${EDITOR:-vi} <site>/shared/config/.env'`")
        .serves_nothing();
    assert!(sandbox.releases().is_empty());
    write(&sandbox, "shared/config/.env", "SECRET=1");
    sandbox.bluegreen(&["deploy"]).ok().serves("config/.env", "SECRET=1");
    sandbox.commit("config/.env", "SECRET=in the commit").commit("config/other", "o");
    sandbox.push().ok().serves("config/.env", "SECRET=1").serves("config/other", "o");
    assert_eq!(read(&sandbox, "shared/config/.env"), "SECRET=1");
}

#[test]
fn a_shared_path_of_the_wrong_type_is_rejected() {
    let sandbox = Sandbox::new();
    sandbox.config_section("[shared]\ndirs = ['uploads']\nfiles = ['.env']");
    write(&sandbox, "shared/.env/oops", "");
    sandbox.commit("index.html", "v1");
    sandbox
        .push()
        .not_deployed()
        .says("error: `<site>/shared/.env` must be a file, as configured in bluegreen.toml");
    std::fs::remove_dir_all(sandbox.site().join("shared/.env")).unwrap();
    write(&sandbox, "shared/.env", "");
    write(&sandbox, "shared/uploads", "");
    let deploy = || sandbox.bluegreen(&["deploy", "master"]);
    deploy()
        .fails(1)
        .says("error: `<site>/shared/uploads` must be a directory, as configured in bluegreen.toml");
    std::fs::remove_file(sandbox.site().join("shared/uploads")).unwrap();
    deploy().ok();
    sandbox.commit("uploads", "a file");
    sandbox
        .push()
        .not_deployed()
        .says("error: `uploads` is a file in the commit, but `uploads` is in `dirs` of `[shared]`");
    sandbox.commit_nodes(&[(b"uploads", Node::Nothing), (b".env/x", Node::file("x"))]);
    sandbox
        .push()
        .not_deployed()
        .says("error: `.env` is a directory in the commit, but `.env` is in `files` of `[shared]`");
    sandbox.is_tidy();
}

#[test]
fn a_file_or_symlink_above_a_shared_path_is_rejected_and_not_followed() {
    let sandbox = Sandbox::new();
    sandbox.config_section(DIRS);
    sandbox.commit_nodes(&[(b"elsewhere/x", Node::file("x")), (b"storage", Node::link("elsewhere"))]);
    let line =
        "error: `storage` is not a directory in the commit, but `storage/uploads` is in `dirs` of `[shared]`";
    sandbox.push().not_deployed().says(line);
    sandbox.commit_nodes(&[(b"storage", Node::file("file"))]).push().not_deployed().says(line);
    assert!(!sandbox.site().join("shared").exists());
}

#[test]
fn symlinks_into_shared_paths_are_inside_and_symlinks_above_are_not() {
    let sandbox = Sandbox::new();
    sandbox.config_section(DIRS);
    sandbox.commit_nodes(&[
        (b"public/files", Node::link("../storage/uploads")),
        (b"public/photo", Node::link("files/2026/../photo.jpg")),
    ]);
    sandbox.push().ok();
    write(&sandbox, "shared/storage/uploads/photo.jpg", "photo");
    sandbox.serves("public/files/photo.jpg", "photo");
    for (path, target) in [
        ("public/out", "files/.."),
        ("public/up", "files/../../.env"),
        ("storage/uploads/out", "../x"),
        ("public/deep", "../storage/uploads/a/../../x"),
    ] {
        sandbox.commit_nodes(&[(path.as_bytes(), Node::link(target))]);
        sandbox
            .push()
            .not_deployed()
            .says(&format!("error: symlink `{path}` points outside the release, to `{target}`"));
        sandbox.commit_nodes(&[(path.as_bytes(), Node::Nothing)]);
    }
    sandbox.push().ok();
}

#[test]
fn a_directory_can_become_shared_and_unshared() {
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 0\nsymlinks = 'any'");
    for version in ["v1", "v2", "v3"] {
        sandbox.commit("storage/uploads/a", version).push().ok();
    }
    let config = std::fs::read_to_string(sandbox.config_path()).unwrap();
    sandbox.raw_config(&format!("{config}{DIRS}\n"));
    for version in ["v4", "v5", "v6"] {
        sandbox.commit("index.html", version).push().ok().serves("storage/uploads/a", "v3");
    }
    write(&sandbox, "current/storage/uploads/b", "uploaded");
    sandbox.raw_config(&config);
    for version in ["v7", "v8", "v9"] {
        sandbox.commit("storage/uploads/a", version).push().ok().serves_checkout("master");
        assert_eq!(read(&sandbox, "shared/storage/uploads/b"), "uploaded");
        assert_eq!(read(&sandbox, "shared/storage/uploads/a"), "v3");
    }
}

/// Vandalism in a release that is recycled: no way into `shared/` may be followed.
#[test]
fn recycling_does_not_follow_symlinks_into_shared() {
    let sandbox = Sandbox::new();
    sandbox.config_section(DIRS).site_config("keep = 0");
    sandbox.commit("storage/other/a", "a").commit("css/site.css", "v1").push().ok();
    write(&sandbox, "shared/storage/uploads/photo", "precious");
    write(&sandbox, "shared/site.css", "precious");
    for version in 2..8 {
        let release = sandbox.live_path();
        for (name, target) in
            [("css", "../../shared"), ("storage", "../../shared/storage"), ("extra", "../../shared")]
        {
            let path = release.join(name);
            let _ = std::fs::remove_dir_all(&path);
            symlink(target, &path).unwrap();
        }
        sandbox.commit("css/site.css", &format!("v{version}"));
        sandbox.push().ok().serves("css/site.css", &format!("v{version}")).serves("storage/other/a", "a");
        assert_eq!(read(&sandbox, "shared/storage/uploads/photo"), "precious");
        assert_eq!(read(&sandbox, "shared/site.css"), "precious");
    }
    assert!(sandbox.releases().len() <= 2, "releases were recycled");
}

#[test]
fn interrupted_seeding_is_completed_without_overwriting() {
    let sandbox = Sandbox::new();
    sandbox.config_section(DIRS);
    write(&sandbox, "shared/storage/uploads/one", "moved before the crash, edited since");
    let path: Vec<u8> = "storage/uploads".into();
    let file: Vec<u8> = "storage/uploads/one".into();
    let seeding = serde_json::json!({
        "release": "20200101T000000Z-111111111111",
        "paths": [path],
        "files": [{ "path": file, "inode": 1, "size": 1, "modified": [0, 0] }],
    });
    write(&sandbox, ".bluegreen/seeding", &seeding.to_string());
    sandbox.commit("storage/uploads/one", "1").commit("storage/uploads/two", "2");
    sandbox
        .push()
        .ok()
        .serves("storage/uploads/one", "moved before the crash, edited since")
        .serves("storage/uploads/two", "2");
    assert!(!sandbox.site().join(".bluegreen/seeding").exists());
}

#[test]
fn a_failed_deployment_leaves_no_seeds_in_shared() {
    let sandbox = Sandbox::new();
    sandbox.config_section(DIRS).config_section(
        "[steps]\nbuild = 'echo kept >storage/uploads/a/upload; test ! -e broken'\nverify = 'test ! -e bad'",
    );
    sandbox.commit("storage/uploads/a/seed", "of the broken commit").commit("broken", "");
    sandbox.push().not_deployed();
    assert!(!sandbox.site().join("shared/storage/uploads/a/seed").exists());
    assert_eq!(
        read(&sandbox, "shared/storage/uploads/a/upload"),
        "kept\n",
        "another process may have written it"
    );
    sandbox.commit_nodes(&[(b"broken", Node::Nothing), (b"storage/uploads/a/seed", Node::file("good"))]);
    sandbox.push().ok().serves("storage/uploads/a/seed", "good").serves("storage/uploads/a/upload", "kept\n");
    assert!(!sandbox.site().join(".bluegreen/seeding").exists());
    sandbox.commit("storage/uploads/a/seed", "later").push().ok().serves("storage/uploads/a/seed", "good");
}

#[test]
fn recycling_a_release_from_before_sharing_loses_no_upload() {
    let sandbox = Sandbox::new();
    sandbox
        .site_config("keep = 1")
        .commit("storage/uploads/seed", "seed")
        .commit("index.html", "v1")
        .push()
        .ok();
    let first = sandbox.live();
    sandbox.config_section(DIRS).commit("index.html", "v2").push().ok();
    write(&sandbox, "current/storage/uploads/photo", "precious");
    let problem = "release <release> does not share `storage/uploads`: it hides what is in there, and keeps what is \
                   written meanwhile to itself";
    sandbox.bluegreen(&["rollback"]).fails(1).says(&format!("error: {problem}")).serves("index.html", "v2");
    sandbox.bluegreen(&["rollback", &first]).warned().serves("index.html", "v1");
    write(&sandbox, "current/storage/uploads/meanwhile", "precious, too");
    for version in ["v3", "v4", "v5", "v6"] {
        let push = sandbox.commit("index.html", version).push();
        assert!(push.status.success(), "{}", push.output);
        sandbox.serves("storage/uploads/photo", "precious");
    }
    let upload = format!("releases/{first}/storage/uploads/meanwhile");
    assert_eq!(read(&sandbox, &upload), "precious, too");
    std::fs::remove_file(sandbox.site().join(&upload)).unwrap();
    sandbox.commit("index.html", "v7").push().ok();
    sandbox.commit("index.html", "v8").push().ok();
    assert!(!sandbox.releases().contains(&first));
}

#[test]
fn many_directories_in_a_surplus_release_need_few_descriptors() {
    if !program_or_skip("prlimit") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 1").commit("version", "one").push().ok();
    let first = sandbox.site().join("releases").join(sandbox.live());
    for number in 0..300 {
        std::fs::create_dir_all(first.join(format!("uploads/{number}"))).unwrap();
    }
    sandbox.commit("version", "two").push().ok();
    sandbox.config_section("[shared]\ndirs = ['uploads']").commit("version", "three");
    sandbox.push_refs(&["master:refs/heads/topic"]).ok();
    let deploy = sandbox.bluegreen_command(&["deploy", "topic"]);
    let mut limited = sandbox.command("prlimit");
    limited.arg("--nofile=128").arg(deploy.get_program()).args(deploy.get_args());
    Run::new(&sandbox, &mut limited).ok();
    sandbox.serves("version", "three");
}

#[test]
fn an_existing_symlink_in_shared_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.config_section(DIRS);
    std::fs::create_dir(sandbox.path("volume")).unwrap();
    std::fs::create_dir_all(sandbox.site().join("shared/storage")).unwrap();
    symlink(sandbox.path("volume"), sandbox.site().join("shared/storage/uploads")).unwrap();
    sandbox.commit("storage/uploads/seed", "seed").push().ok();
    write(&sandbox, "current/storage/uploads/photo", "photo");
    assert_eq!(std::fs::read_to_string(sandbox.path("volume/photo")).unwrap(), "photo");
}
