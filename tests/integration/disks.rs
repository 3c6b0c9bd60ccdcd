//! Sites with `releases/` on a separate disk, a group for the web server, shell limits, and trees deeper than
//! the limit of open descriptors.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use bluegreen_sys::dir::Dir;

use crate::support::mount::Mounted;
use crate::support::sandbox::{BLUEGREEN, NOBODY};
use crate::support::skip::{program_or_skip, root_or_skip};
use crate::support::{Node, Run, Sandbox};

/// The web server's group on Debian, which is not the deploy user's.
const WEB: u32 = 33;

#[test]
fn free_space_is_measured_where_the_releases_are() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.site().join("releases")).unwrap();
    let _releases = Mounted::tmpfs(&sandbox.site().join("releases"), "size=1m");
    sandbox.commit("index.html", "v1").push().ok().serves("index.html", "v1");
    let run = sandbox.commit_nodes(&[(b"big", Node::File(vec![7; 2_000_000]))]).push().not_deployed();
    assert!(run.output().contains("site/releases`: the release needs 2.0 MB, "), "{}", run.output());
    sandbox.commit_tree(&[(b"kept", Node::file("kept"))]);
    // A separate disk is not a foreign mount: surplus releases on it are recycled and removed.
    sandbox.site_config("keep = 2");
    for version in ["v2", "v3", "v4", "v5"] {
        sandbox.commit("index.html", version).push().ok().serves_checkout("master");
    }
    assert_eq!(sandbox.releases().len(), 4);
    sandbox.is_tidy();
}

#[test]
fn a_full_site_disk_does_not_block_a_separate_releases_disk() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let _site = Mounted::tmpfs(&sandbox.site(), "size=1m");
    fs::create_dir(sandbox.site().join("releases")).unwrap();
    let _releases = Mounted::tmpfs(&sandbox.site().join("releases"), "size=20m");
    sandbox.commit_nodes(&[(b"big", Node::File(vec![7; 4_000_000]))]).push().ok().serves_checkout("master");
}

#[test]
fn a_symlinked_releases_directory_is_rejected_with_a_hint() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("disk")).unwrap();
    symlink(sandbox.path("disk"), sandbox.site().join("releases")).unwrap();
    sandbox
        .commit("index.html", "v1")
        .push()
        .not_deployed()
        .says("error: `<site>/releases` is a symlink to `<sandbox>/disk`, not a directory")
        .says(
            "hint: replace the symlink by a directory, or set `root` of `[site]` to a directory on that disk",
        );
    assert_eq!(fs::read_dir(sandbox.path("disk")).unwrap().count(), 0);
    if root_or_skip() {
        fs::remove_file(sandbox.site().join("releases")).unwrap();
        fs::create_dir(sandbox.site().join("releases")).unwrap();
        let _bound = Mounted::bind(&sandbox.path("disk"), &sandbox.site().join("releases"));
        sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v1");
    }
}

#[test]
fn releases_inherit_the_sites_group() {
    if !root_or_skip() {
        return;
    }
    // The deploy user is not a member of the web server's group.
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 2").owned_by(NOBODY);
    chown(sandbox.site(), None, Some(WEB)).unwrap();
    fs::set_permissions(sandbox.site(), Permissions::from_mode(0o2755)).unwrap();
    let nodes: Vec<(Vec<u8>, Node)> =
        (0..9).map(|n| (format!("d/{n}/page").into_bytes(), Node::file("page"))).collect();
    let nodes: Vec<(&[u8], Node)> =
        nodes.iter().map(|(path, node)| (path.as_slice(), node.clone())).collect();
    sandbox.commit_nodes(&nodes);
    let mut pages = Vec::new();
    for version in 1..=8 {
        let new = format!("new{version}/page");
        sandbox
            .commit_nodes(&[(new.as_bytes(), Node::file("page"))])
            .commit("index.html", &version.to_string());
        sandbox.push().ok();
        for path in ["", "d", "d/3", &format!("new{version}")] {
            let found = sandbox.current(path).metadata().unwrap();
            assert_eq!((found.mode() & 0o7777, found.gid()), (0o2755, WEB), "{path} of version {version}");
        }
        for path in ["index.html", "d/3/page", &new] {
            let found = sandbox.current(path).metadata().unwrap();
            assert_eq!((found.mode() & 0o7777, found.gid()), (0o644, WEB), "{path} of version {version}");
        }
        pages.push(sandbox.current("d/3/page").metadata().unwrap().ino());
    }
    pages.sort_unstable();
    pages.dedup();
    assert!(pages.len() < 8, "releases must be recycled anyway");
    // Without the setgid bit and the group, existing releases can no longer be recycled.
    fs::set_permissions(sandbox.site().join("releases"), Permissions::from_mode(0o755)).unwrap();
    sandbox.commit("index.html", "8").push().ok();
    let found = sandbox.current("d").metadata().unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o755, NOBODY));
}

#[test]
fn deep_trees_are_removed_with_few_descriptors() {
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 2");
    let deploy = |version: &str| {
        // A build step may leave this behind.
        for release in sandbox.releases() {
            let release = Dir::open(&sandbox.site().join("releases").join(release)).unwrap();
            (0..10_000).fold(release, |at, _| at.open_or_create_dir(b"d", 0o755).unwrap());
        }
        sandbox.commit("index.html", version).push_refs(&["master:topic"]).ok();
        let mut shell = sandbox.command("sh");
        shell.args(["-c", "ulimit -n 64; exec \"$0\" -C repository deploy topic", BLUEGREEN]);
        Run::new(&sandbox, &mut shell).ok().serves("index.html", version);
    };
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        deploy(version);
    }
    assert_eq!(sandbox.releases().len(), 4);
    sandbox.is_tidy();
    // The remaining tree is too deep for the test's own cleanup.
    let releases = Dir::open(&sandbox.site()).unwrap();
    releases.remove(b"releases").unwrap();
}

#[test]
fn unstable_inode_numbers_are_not_relied_on() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| {
        fs::create_dir(sandbox.path(name)).unwrap();
        sandbox.path(name).display().to_string()
    });
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "overlay", "-o", &options, "overlay"]).arg(sandbox.site());
    assert!(mount.status().unwrap().success());
    let _site = Mounted::adopt(&sandbox.site());
    for version in ["v1", "v2"] {
        sandbox.commit("index.html", version).push().ok().serves("index.html", version);
    }
    let record = sandbox.site().join(format!(".bluegreen/releases/{}.toml", sandbox.live()));
    assert!(!fs::read_to_string(record).unwrap().contains("inode"));
    sandbox.bluegreen(&["rollback"]).ok().serves("index.html", "v1");
}

#[test]
fn recycling_and_removal_work_without_openat2() {
    if !program_or_skip("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 2").commit("kept/page", "kept");
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        sandbox.commit(&format!("only/{version}/page"), version).push_refs(&["master:topic"]).ok();
        for name in sandbox.releases() {
            fs::create_dir_all(sandbox.site().join("releases").join(name).join("left/by/a/build")).unwrap();
        }
        let mut strace = sandbox.command("strace");
        strace.args(["-qqq", "-f", "-o", "/dev/null", "-e", "inject=openat2:error=ENOSYS"]);
        strace.arg(sandbox.hook_path()).args(["deploy", "topic"]);
        Run::new(&sandbox, &mut strace).ok().serves_checkout("master");
    }
    assert_eq!(sandbox.releases().len(), 4);
    sandbox.is_tidy();
}

#[test]
fn a_file_size_limit_is_an_error_not_a_crash() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let big = vec![b'x'; 3_000_000];
    sandbox.commit_nodes(&[(b"big", Node::File(big))]).push_refs(&["master:topic"]).ok();
    let mut shell = sandbox.command("sh");
    shell.args(["-c", "ulimit -f 1000; exec \"$0\" -C repository deploy topic", BLUEGREEN]);
    Run::new(&sandbox, &mut shell)
        .fails(1)
        .says("error: cannot write `big`: file too large")
        .says("hint: raise the limit of file sizes: `ulimit -f unlimited`")
        .serves("index.html", "v1");
    sandbox.is_tidy();
}

#[test]
fn an_invalid_byte_in_the_history_hides_one_line() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let file = sandbox.site().join(".bluegreen/history.jsonl");
    let text = fs::read(&file).unwrap();
    fs::write(&file, [&text[..], b"\xff\xfe\n{\"time\": \"\xc3\"}\n"].concat()).unwrap();
    sandbox.commit("index.html", "v2").push().ok();
    let run = sandbox.bluegreen(&["history"]).ok();
    assert_eq!(run.lines().iter().filter(|line| line.contains("deployment")).count(), 2, "{}", run.output());
}

#[test]
fn current_through_another_path_to_the_site_is_a_rollback_target() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let release = sandbox.live();
    symlink(sandbox.site(), sandbox.path("www")).unwrap();
    sandbox.config_section("[steps]\nverify = 'grep -q v1 index.html'\n");
    for target in [
        sandbox.path("www/releases"),
        sandbox.site().join("releases/../releases"),
        "./releases".into(),
        "../www/releases".into(),
    ] {
        let current = sandbox.site().join("current");
        fs::remove_file(&current).unwrap();
        symlink(target.join(&release), &current).unwrap();
        sandbox.commit("index.html", &format!("broken {}", target.display()));
        sandbox.push().not_deployed().serves("index.html", "v1");
        assert_eq!(sandbox.live(), release, "{}", target.display());
    }
}
