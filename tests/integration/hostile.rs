//! Invalid trees, written object by object: the program follows no symlink in them and leaves nothing
//! half-written.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bluegreen_object_store::ObjectId;

use crate::support::objects::Objects;
use crate::support::skip::root_or_skip;
use crate::support::{Node, Sandbox};

/// A site that serves v1, and an object writer for its repository.
fn served() -> (Sandbox, Objects) {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let objects = Objects::of(&sandbox.repository());
    (sandbox, objects)
}

/// Deploys a tree that must be rejected with exactly this error, without changing anything else.
#[track_caller]
fn refused(sandbox: &Sandbox, objects: &Objects, tree: ObjectId, error: &str) {
    let commit = objects.commit(tree).to_string();
    let before = (
        crate::support::snapshot(&sandbox.site().join("releases")),
        crate::support::snapshot(&sandbox.path("home")),
    );
    sandbox
        .bluegreen(&["deploy", &commit])
        .fails(1)
        .says(&format!("error: {error}"))
        .serves("index.html", "v1");
    let after = (
        crate::support::snapshot(&sandbox.site().join("releases")),
        crate::support::snapshot(&sandbox.path("home")),
    );
    assert!(before == after, "{error}");
    sandbox.is_tidy();
}

#[test]
fn names_that_escape_the_release_are_rejected() {
    let (sandbox, objects) = served();
    let blob = objects.blob(b"owned");
    let long = "x".repeat(256);
    for (name, shown, problem) in [
        (&b""[..], "", "empty name"),
        (b".", ".", "`.` and `..` are reserved"),
        (b"..", "..", "`.` and `..` are reserved"),
        (b"../../home/owned", "../../home/owned", "name contains `/`"),
        (b"/etc/passwd", "/etc/passwd", "name contains `/`"),
        (b".git", ".git", "names equivalent to `.git` are reserved"),
        (b".GIT", ".GIT", "names equivalent to `.git` are reserved"),
        (b"git~1", "git~1", "names equivalent to `.git` are reserved"),
        (b".git ", ".git ", "names equivalent to `.git` are reserved"),
        (b".git...", ".git...", "names equivalent to `.git` are reserved"),
        (b".git::$INDEX_ALLOCATION", ".git::$INDEX_ALLOCATION", "names equivalent to `.git` are reserved"),
        (b".g\xe2\x80\x8cit", ".g\u{200c}it", "names equivalent to `.git` are reserved"),
        (long.as_bytes(), &long, "name longer than 255 bytes"),
    ] {
        for (mode, id) in [("100644", blob), ("40000", objects.tree(&[("100644", b"x", blob)]))] {
            let tree = objects.tree(&[(mode, name, id)]);
            let below = objects.tree(&[("40000", b"dir", tree)]);
            // Joining a path with an absolute path returns the absolute path.
            let (top, deep) = match name {
                b"" => (String::new(), "dir/".into()),
                [b'/', ..] => (shown.into(), shown.into()),
                _ => (shown.into(), format!("dir/{shown}")),
            };
            refused(&sandbox, &objects, tree, &format!("cannot check out `{top}`: {problem}"));
            refused(&sandbox, &objects, below, &format!("cannot check out `{deep}`: {problem}"));
        }
    }
}

#[test]
fn printed_names_are_escaped() {
    let (sandbox, objects) = served();
    let blob = objects.blob(b"");
    let bell =
        objects.tree(&[("100644", b"\x07\x1b[2J\nremote: all is well\xff", blob), ("100644", b"\x01", blob)]);
    refused(&sandbox, &objects, bell, "cannot check out `\\u{1}`: entries are not sorted");
    let device = objects.tree(&[("20644", b"\x1b[2J\nremote: all is well\xff", blob)]);
    refused(
        &sandbox,
        &objects,
        device,
        "cannot check out `\\u{1b}[2J\\nremote: all is well\\xff`: invalid mode",
    );
}

#[test]
fn invalid_modes_and_entry_orders_are_rejected() {
    let (sandbox, objects) = served();
    let blob = objects.blob(b"/etc");
    let dir = objects.tree(&[("100644", b"passwd", blob)]);
    let kind = "invalid mode";
    for (entries, path, problem) in [
        (vec![("20644", &b"device"[..], blob)], "device", kind),
        (vec![("60644", b"device", blob)], "device", kind),
        (vec![("10644", b"fifo", blob)], "fifo", kind),
        (vec![("140644", b"socket", blob)], "socket", kind),
        (vec![("0", b"nothing", blob)], "nothing", kind),
        (vec![("100644", b"b", blob), ("100644", b"a", blob)], "a", "entries are not sorted"),
        (vec![("100644", b"a", blob), ("100644", b"a", blob)], "a", "duplicate entry"),
        (vec![("120000", b"a", blob), ("40000", b"a", dir)], "a", "duplicate entry"),
        (
            vec![("120000", b"a", blob), ("100644", b"a.b", blob), ("40000", b"a", dir)],
            "a",
            "duplicate entry",
        ),
        (vec![("120000", b".gitmodules", blob)], ".gitmodules", "`.gitmodules` is a symlink"),
        (vec![("120000", b"empty", objects.blob(b""))], "empty", "the link has no target"),
        (vec![("120000", b"nul", objects.blob(b"a\0b"))], "nul", "the link's target contains a NUL byte"),
        (vec![("120000", b"long", objects.blob(&[b'x'; 4096]))], "long", "the link's target is too long"),
    ] {
        let tree = objects.tree(&entries);
        refused(&sandbox, &objects, tree, &format!("cannot check out `{path}`: {problem}"));
    }
    let entries = |id| objects.tree(&[("100644", b"a", id)]);
    let absent = "3".repeat(40).parse::<ObjectId>().unwrap();
    refused(&sandbox, &objects, entries(dir), "cannot read blob <commit>: it is a tree");
    let commit = objects.commit(entries(absent)).to_string();
    sandbox.bluegreen(&["deploy", &commit]).fails(1).serves("index.html", "v1");
    sandbox.is_tidy();
}

#[test]
fn only_the_executable_bit_of_a_mode_is_kept() {
    let (sandbox, objects) = served();
    let blob = objects.blob(b"#!/bin/sh\n");
    let tree = objects.tree(&[
        ("104755", b"a", blob),
        ("102777", b"b", blob),
        ("101666", b"c", blob),
        ("107777", b"d", blob),
        ("100000", b"e", blob),
        ("40777", b"f", objects.tree(&[("100777", b"g", blob)])),
    ]);
    sandbox.bluegreen(&["deploy", &objects.commit(tree).to_string()]).ok();
    let mode = |path: &str| sandbox.current(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        ["a", "b", "c", "d", "e", "f", "f/g"].map(mode),
        [0o755, 0o755, 0o644, 0o755, 0o644, 0o755, 0o755]
    );
}

#[test]
fn a_push_of_a_hostile_tree_is_rejected() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let objects = Objects::of(&sandbox.clone_path());
    let blob = objects.blob(b"x");
    let commit =
        objects.commit(objects.tree(&[("40000", b".GIT", objects.tree(&[("100644", b"config", blob)]))]));
    sandbox.git(&["update-ref", "refs/heads/master", &commit.to_string()]);
    sandbox
        .push_refs(&["--force", "master"])
        .not_deployed()
        .says("error: cannot check out `.GIT`: names equivalent to `.git` are reserved")
        .serves("index.html", "v1");
    sandbox.is_tidy();
}

#[test]
fn path_depth_and_length_are_bounded() {
    let (sandbox, objects) = served();
    let blob = objects.blob(b"deep");
    let nest = |depth: usize, name: &[u8]| {
        (0..depth)
            .fold(objects.tree(&[("100644", b"f", blob)]), |tree, _| objects.tree(&[("40000", name, tree)]))
    };
    let commit = |tree| objects.commit(tree).to_string();
    for tree in [nest(2048, b"d"), nest(20, &[b'n'; 255])] {
        let run = sandbox.bluegreen(&["deploy", &commit(tree)]);
        let run = run.fails(1);
        assert!(run.output().contains("the path is too long or too deep"), "{}", run.output());
    }
    sandbox.serves("index.html", "v1").is_tidy();
    let deep = commit(nest(2000, b"d"));
    sandbox.bluegreen(&["deploy", &deep]).ok();
    // Deep trees are recycled and removed.
    sandbox.site_config("keep = 2");
    for round in ["2", "3", "4", "5"] {
        sandbox
            .commit("index.html", round)
            .push_refs(&["--force", "master"])
            .ok()
            .serves("index.html", round);
    }
    sandbox.is_tidy();
}

#[test]
fn symlinks_out_of_the_release_are_rejected_before_the_first_write() {
    let (sandbox, objects) = served();
    let blob = objects.blob(b"x");
    let link = |target: &str| objects.blob(target.as_bytes());
    let dir = objects.tree(&[("120000", b"up", link(".."))]);
    for (entries, path, target) in [
        (vec![("120000", &b"out"[..], link("/etc/passwd"))], "out", "/etc/passwd"),
        (vec![("120000", b"out", link("../../../x"))], "out", "../../../x"),
        (vec![("120000", b"out", link("a/../../x"))], "out", "a/../../x"),
        (vec![("40000", b"dir", dir), ("120000", b"out", link("dir/up/../x"))], "out", "dir/up/../x"),
        (vec![("120000", b"a", link("b")), ("120000", b"b", link("/tmp"))], "a", "b"),
        (vec![("120000", b"a", link("b")), ("120000", b"b", link("a"))], "a", "b"),
    ] {
        let tree = objects.tree(&entries);
        refused(
            &sandbox,
            &objects,
            tree,
            &format!("symlink `{path}` points outside the release, to `{target}`"),
        );
    }
    let inside = objects.tree(&[
        (
            "40000",
            b"dir",
            objects.tree(&[("120000", b"dangling", link("x/../y")), ("120000", b"in", link("../file"))]),
        ),
        ("100644", b"file", blob),
        ("120000", b"through", link("dir/in")),
    ]);
    sandbox.bluegreen(&["deploy", &objects.commit(inside).to_string()]).ok().serves("through", "x");
    sandbox.site_config("symlinks = \"any\"");
    let outside = objects.tree(&[("120000", b"out", link("/etc/passwd"))]);
    sandbox.bluegreen(&["deploy", &objects.commit(outside).to_string()]).ok();
    assert_eq!(sandbox.current("out").read_link().unwrap().to_str(), Some("/etc/passwd"));
}

#[test]
fn a_git_bomb_is_rejected_quickly_in_bounded_memory() {
    let (sandbox, objects) = served();
    let mut tree = objects.tree(&[("100644", b"f", objects.blob(b"boom"))]);
    let names: Vec<String> = (0..10).map(|number| format!("{number}")).collect();
    for _ in 0..10 {
        let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_bytes(), tree)).collect();
        tree = objects.tree(&entries);
    }
    let commit = objects.commit(tree).to_string();
    let start = Instant::now();
    let mut limited = sandbox.command("sh");
    limited.args(["-c", "ulimit -v 400000; exec \"$@\"", "sh", crate::support::sandbox::BLUEGREEN, "-C"]);
    limited.arg(sandbox.repository()).args(["deploy", &commit]);
    crate::support::Run::new(&sandbox, &mut limited)
        .fails(1)
        .says("error: the commit has more than 1000000 files and directories")
        .says("hint: raise `max-files` in bluegreen.toml if this is intended")
        .serves("index.html", "v1");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    sandbox.is_tidy();

    sandbox.site_config("max-files = 3");
    let three = objects.tree(&[
        ("100644", b"1", objects.blob(b"")),
        ("40000", b"2", objects.tree(&[("100644", b"3", objects.blob(b""))])),
    ]);
    sandbox.bluegreen(&["deploy", &objects.commit(three).to_string()]).ok();
}

#[test]
fn repeated_blobs_count_toward_the_size_limit() {
    let (sandbox, objects) = served();
    let blob = objects.blob(&vec![b'x'; 100_000]);
    let names: Vec<String> = (0..1000).map(|number| format!("{number:04}")).collect();
    let entries: Vec<_> = names.iter().map(|name| ("100644", name.as_bytes(), blob)).collect();
    let tree = objects.tree(&entries);
    sandbox.site_config("max-size = \"99 MB\"");
    refused(&sandbox, &objects, tree, "the commit has more than 99.0 MB of files");
}

/// Runs a deployment with a small file system mounted as the site.
fn on_a_small_disk<'a>(sandbox: &'a Sandbox, options: &str) -> crate::support::Run<'a> {
    let script = "mount -t tmpfs -o \"$1\" none site && \"$0\" -C repository deploy; status=$?; ls -A site/releases; exit $status";
    let mut run = sandbox.command("unshare");
    run.args(["--mount", "sh", "-c", script, crate::support::sandbox::BLUEGREEN, options]);
    crate::support::Run::new(sandbox, &mut run)
}

#[test]
fn a_release_larger_than_the_disk_is_rejected_before_the_first_write() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let big = vec![b'x'; 60_000_000];
    sandbox.commit_nodes(&[(b"big", Node::File(big)), (b"a", Node::file("a"))]).push().ok();
    let start = Instant::now();
    let run = on_a_small_disk(&sandbox, "size=40m,mode=755").fails(1);
    let lines = run.lines();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(
        lines.iter().any(|line| line
            .starts_with("error: not enough space in `<site>/releases`: the release needs 60.0 MB, ")),
        "{lines:?}"
    );
    assert!(lines.last().unwrap().starts_with("Not deployed: "), "releases/ is not empty: {lines:?}");

    let names: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let nodes: Vec<(&[u8], Node)> = names.iter().map(|name| (name.as_bytes(), Node::file(""))).collect();
    sandbox.commit_tree(&nodes).push().ok();
    let run = on_a_small_disk(&sandbox, "size=40m,nr_inodes=200,mode=755").fails(1);
    assert!(run.output().contains("the release needs 300 inodes, "), "{}", run.output());
}

/// Repeatedly swaps directories below `releases/` for symlinks to `victim` and back, as fast as possible.
fn attack(releases: &Path, victim: &Path, stop: &AtomicBool) -> usize {
    let mut swaps = 0;
    while !stop.load(Relaxed) {
        for release in releases.read_dir().unwrap().flatten() {
            for name in ["d", "d/e"] {
                let path = release.path().join(name);
                // The attack continues even if a directory cannot be restored.
                let aside = releases.join(format!(".aside-{swaps}"));
                // Through a leftover symlink, the attack itself would modify the victim.
                let is_direct = path.canonicalize().is_ok_and(|real| path == real);
                if !is_direct || !path.is_dir() || std::fs::rename(&path, &aside).is_err() {
                    continue;
                }
                let linked = symlink(victim, &path).is_ok();
                swaps += usize::from(linked);
                std::thread::yield_now();
                if linked {
                    let _ = std::fs::remove_file(&path);
                }
                let _ = std::fs::rename(&aside, &path);
            }
        }
    }
    swaps
}

#[test]
fn swapped_directories_do_not_redirect_writes_out_of_the_site() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("victim/e")).unwrap();
    std::fs::write(sandbox.path("victim/0"), "precious").unwrap();
    let victim = || crate::support::snapshot(&sandbox.path("victim"));
    let before = victim();
    let names: Vec<String> =
        (0..200).map(|n| ["d/", "d/e/", ""][n % 3].to_owned() + &n.to_string()).collect();
    let commit = |round: &str| {
        let nodes: Vec<(&[u8], Node)> =
            names.iter().map(|name| (name.as_bytes(), Node::file(round))).collect();
        sandbox.commit_nodes(&nodes);
    };
    sandbox.site_config("keep = 2\ndurable = false");
    commit("first");
    sandbox.push().ok();
    let (stop, releases, directory) =
        (AtomicBool::new(false), sandbox.site().join("releases"), sandbox.path("victim"));
    let swaps = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| attack(&releases, &directory, &stop));
        for round in 0..30 {
            commit(&format!("round {round}"));
            let run = sandbox.push();
            assert!(run.status.success() && !run.output.contains("panicked"), "{}", run.output);
        }
        stop.store(true, Relaxed);
        attacker.join().unwrap()
    });
    assert!(swaps > 100, "only {swaps} swaps: too few to be meaningful");
    assert_eq!(victim(), before);
}

#[test]
fn served_file_modes_do_not_depend_on_the_umask() {
    for umask in ["000", "022", "077", "777"] {
        let sandbox = Sandbox::new();
        sandbox
            .commit_nodes(&[(b"dir/run", Node::Executable("x".into())), (b"read", Node::file("x"))])
            .push()
            .ok();
        let mut deploy = sandbox.command("sh");
        deploy.args([
            "-c",
            "umask \"$1\"; exec \"$0\" -C repository deploy",
            crate::support::sandbox::BLUEGREEN,
            umask,
        ]);
        crate::support::Run::new(&sandbox, &mut deploy).ok();
        let mode = |path: &str| sandbox.site().join(path).metadata().unwrap().permissions().mode() & 0o7777;
        let modes = ["current/dir", "current/dir/run", "current/read", "current/", "releases", ".bluegreen"]
            .map(mode);
        assert_eq!(modes, [0o755, 0o755, 0o644, 0o755, 0o755, 0o700], "umask {umask}");
    }
}
