//! Invalid hook input and system failures: each ends with a message that names the cause, and leaves the live
//! release unchanged.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::process::Stdio;

use crate::support::mount::Mounted;
use crate::support::sandbox::NOBODY;
use crate::support::skip::root_or_skip;
use crate::support::{Node, Run, Sandbox};

const RECEIVED: &str = "Master ref received.  Deploying master branch to blue...";
const STILL: &str = "Not deployed: blue still serves <commit> (release <release>).";

/// A sandbox that serves v1.
fn deployed() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    sandbox
}

#[test]
fn malformed_hook_lines_are_rejected_and_nothing_is_deployed() {
    let sandbox = deployed();
    let (id, one) = (sandbox.id("master"), "1".repeat(40));
    for line in [
        "garbage",
        "\0\0\0",
        &id,
        &format!("{one} {id}"),
        &format!("{one} {id} "),
        &format!("{one} {} refs/heads/master", &id[..39]),
        &format!("{one} {id}0 refs/heads/master"),
        &format!("{one} {} refs/heads/master", "1".repeat(64)),
        &format!("{one}  {id} refs/heads/master"),
        &format!("{one}\t{id}\trefs/heads/master"),
        &format!("{one} {id} master"),
        &format!("{one} {} refs/heads/master", id.replace(|_| true, "g")),
        &format!("{one} {id} refs/heads/master\n\n"),
        // A truncated line after a valid one: neither is deployed.
        &format!("{one} {id} refs/heads/master\n{one} {}", &id[..7]),
    ] {
        let run = sandbox.as_git(line).fails(2);
        let said = run.lines();
        assert!(
            said[0].starts_with("error: expected `<old> <new> <ref>` on standard input, got `"),
            "{said:?}"
        );
        run.says("hint: run `bluegreen --help`").says(STILL);
        sandbox.by_hand(line).fails(2).serves("index.html", "v1");
    }
    assert_eq!(sandbox.releases().len(), 1);
    sandbox.by_hand("garbage").fails(2).says_only(&[
        "error: expected `<old> <new> <ref>` on standard input, got `garbage`",
        "hint: run `bluegreen --help`",
        STILL,
    ]);
}

#[test]
fn empty_hook_input_is_a_no_op() {
    let sandbox = deployed();
    sandbox.as_git("").ok().says_only(&[]);
    sandbox.by_hand("").ok().says_only(&[]);
}

#[test]
fn ten_thousand_hook_lines_are_processed() {
    let sandbox = deployed();
    let id = sandbox.id("master");
    let lines: Vec<String> = (0..10_000).map(|number| format!("{id} {id} refs/tags/{number}")).collect();
    assert_eq!(sandbox.as_git(lines.join("\n")).ok().lines().len(), 10_000);
}

#[test]
fn a_non_utf8_ref_is_reported_and_ignored() {
    let sandbox = deployed();
    let id = sandbox.id("master");
    let line = [format!("{id} {id} refs/heads/").as_bytes(), b"caf\xe9\n"].concat();
    sandbox.as_git(&line).ok().says_only(&[
        "Ref refs/heads/caf\\xe9 successfully received.  Doing nothing: only the master branch may be deployed on this server.",
    ]);
}

#[test]
fn nonexistent_commits_are_rejected() {
    let sandbox = deployed();
    let id = sandbox.id("master");
    for unknown in ["1".repeat(40), "1".repeat(64)] {
        let zero = "0".repeat(unknown.len());
        let run = sandbox.by_hand(format!("{zero} {unknown} refs/heads/master\n")).fails(1);
        let said = run.lines();
        assert!(said[1].starts_with("error: cannot read commit <commit>: "), "{said:?}");
        run.says("hint: check the repository with `git fsck`, then push again").says(STILL);
    }
    let tree = sandbox.id("master^{tree}");
    let run = sandbox.by_hand(format!("{id} {tree} refs/heads/master\n")).fails(1);
    run.says("error: cannot read commit <commit>: it is a tree").says(STILL);
}

#[test]
fn a_missing_or_damaged_object_fails_the_deployment() {
    for damage in ["lost", "truncated", "garbage"] {
        let sandbox = deployed();
        sandbox.commit_nodes(&[(b"index.html", Node::file("v2")), (b"other", Node::file("other"))]);
        let blob = sandbox.id("master:other");
        sandbox.push_refs(&["master:refs/heads/topic"]).ok();
        let object = sandbox.repository().join("objects").join(&blob[..2]).join(&blob[2..]);
        fs::set_permissions(&object, Permissions::from_mode(0o644)).unwrap();
        match damage {
            "lost" => fs::remove_file(&object).unwrap(),
            "truncated" => fs::write(&object, "").unwrap(),
            _ => fs::write(&object, "garbage").unwrap(),
        }
        let run = sandbox.bluegreen(&["deploy", "topic"]).fails(1);
        assert!(run.lines()[1].starts_with("error: cannot read blob <commit>: "), "{}", run.output());
        run.says(STILL).serves("index.html", "v1");
        sandbox.is_tidy();
    }
}

#[test]
fn a_missing_site_is_reported() {
    let sandbox = Sandbox::new();
    fs::remove_dir(sandbox.site()).unwrap();
    sandbox.commit("index.html", "v1").push().not_deployed().says_only(&[
        RECEIVED,
        "error: the site `<site>` does not exist",
        "hint: create it for the repository's owner: `sudo -u root mkdir -p <site>`",
        "Not deployed: blue still serves what it served before.",
    ]);
    for command in ["status", "releases", "history", "rollback"] {
        sandbox.bluegreen(&[command]).fails(1).says("error: the site `<site>` does not exist");
    }
}

#[test]
fn a_site_that_is_a_file_is_rejected() {
    let sandbox = Sandbox::new();
    fs::remove_dir(sandbox.site()).unwrap();
    fs::write(sandbox.site(), "").unwrap();
    sandbox
        .commit("index.html", "v1")
        .push()
        .not_deployed()
        .says("error: cannot open `<site>`: not a directory");
}

#[test]
fn a_read_only_site_is_rejected() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.owned_by(NOBODY).commit("index.html", "v1");
    lchown(sandbox.site(), Some(0), Some(0)).unwrap();
    sandbox.push().not_deployed().says_only(&[
        RECEIVED,
        "error: cannot create `<site>/.bluegreen`: permission denied",
        "hint: let nobody own `<site>`",
        "Not deployed: blue serves nothing yet.",
    ]);
}

#[test]
fn another_users_repository_is_rejected() {
    if !root_or_skip() {
        return;
    }
    let sandbox = deployed();
    let id = sandbox.id("master");
    sandbox.owned_by(NOBODY);
    lchown(sandbox.repository(), Some(0), Some(0)).unwrap();
    let lines = [
        "error: the repository `<repository>` is owned by root, and you are nobody",
        "hint: run it as root: `sudo -u root bluegreen ...`",
    ];
    sandbox.bluegreen(&["deploy"]).fails(2).says_only(&lines).serves("index.html", "v1");
    sandbox.by_hand(format!("{id} {id} refs/heads/master\n")).fails(2).says(lines[0]);
}

#[test]
fn an_unreadable_home_directory_is_ignored() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.owned_by(NOBODY).commit("index.html", "v1");
    let closed = sandbox.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let line = format!("{} {} refs/heads/master\n", "0".repeat(40), sandbox.id("master"));
    sandbox.push_refs(&["master:refs/heads/topic"]).ok();
    let mut hook = sandbox.command(sandbox.hook_path());
    hook.env("HOME", &closed).env_remove("GIT_CONFIG_GLOBAL");
    sandbox.run_with_input(&mut hook, line.as_bytes()).ok().serves("index.html", "v1");
    let mut deploy = sandbox.bluegreen_command(&["deploy", "topic"]);
    Run::new(&sandbox, deploy.env("HOME", &closed).env_remove("GIT_CONFIG_GLOBAL")).ok();
}

#[test]
fn user_git_settings_do_not_affect_the_checkout() {
    let sandbox = Sandbox::new();
    fs::write(
        sandbox.path("home/.gitconfig"),
        "[core]\nautocrlf = true\nsymlinks = false\nfilemode = false\n",
    )
    .unwrap();
    sandbox.commit_nodes(&[
        (b"text", Node::file("one\ntwo\n")),
        (b"link", Node::link("text")),
        (b"run", Node::Executable(b"x\n".to_vec())),
    ]);
    let mut push = sandbox.push_command(&["master"]);
    Run::new(&sandbox, push.env_remove("GIT_CONFIG_GLOBAL")).ok().serves_checkout("master");
}

#[test]
fn a_directory_without_a_repository_is_rejected() {
    let sandbox = deployed();
    let mut elsewhere = sandbox.command(crate::support::sandbox::BLUEGREEN);
    Run::new(&sandbox, elsewhere.args(["status", "-C"]).arg(sandbox.site())).fails(2).says_only(&[
        "error: `<site>` is not a git repository",
        "hint: name the bare repository, as in `bluegreen -C /home/deploy/sample_app status`",
    ]);
    let mut nowhere = sandbox.command(crate::support::sandbox::BLUEGREEN);
    Run::new(&sandbox, nowhere.arg("status").stdin(Stdio::null()))
        .fails(2)
        .says("error: no repository found")
        .says(
            "hint: run it on a server, as in `ssh deploy@blue status`, or name the bare repository with `-C`",
        );
    // A developer's clone is not a server's repository: `check` would advise to make it bare.
    let worktree = sandbox.path("worktree");
    assert!(sandbox.command("git").args(["init", "--quiet"]).arg(&worktree).status().unwrap().success());
    let mut clone = sandbox.command(crate::support::sandbox::BLUEGREEN);
    let said = Run::new(&sandbox, clone.arg("check").current_dir(worktree).stdin(Stdio::null()));
    said.fails(2).says("error: no repository found");
}

#[test]
fn a_full_disk_is_detected_before_the_first_write() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let _site = Mounted::tmpfs(&sandbox.site(), "size=1m");
    sandbox.commit("index.html", "v1").push().ok();
    let run = sandbox.commit_nodes(&[(b"big", Node::File(vec![7; 2_000_000]))]).push().not_deployed();
    let said = run.lines();
    assert!(
        said[1].starts_with("error: not enough space in `<site>/releases`: the release needs 2.0 MB, "),
        "{said:?}"
    );
    assert!(said[1].ends_with(" are free"), "{said:?}");
    run.says("hint: free some space, or lower `keep` in bluegreen.toml")
        .says(STILL)
        .serves("index.html", "v1");
    assert_eq!(sandbox.releases().len(), 1);
    sandbox.commit_nodes(&[(b"big", Node::Nothing)]).push().ok().serves_checkout("master");
    sandbox.is_tidy();
}

#[test]
fn a_disk_that_fills_up_at_any_time_leaves_the_site_unchanged() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let _site = Mounted::tmpfs(&sandbox.site(), "size=1m");
    sandbox.commit("index.html", "v1").push().ok();
    let nodes: Vec<(Vec<u8>, Node)> =
        (0..20).map(|file| (format!("d/{file}").into_bytes(), Node::File(vec![file; 4000]))).collect();
    let nodes: Vec<(&[u8], Node)> =
        nodes.iter().map(|(path, node)| (path.as_slice(), node.clone())).collect();
    sandbox.commit_nodes(&nodes).push_refs(&["master:refs/heads/topic"]).ok();
    let ballast = sandbox.site().join("ballast");
    let mut outcomes = [0, 0];
    for blocks in 0..40 {
        // Fill the file system until exactly this many blocks are free.
        let _ = fs::remove_file(&ballast);
        let free = rustix::fs::statvfs(sandbox.site()).unwrap();
        let size = (free.f_bavail - blocks.min(free.f_bavail)) * free.f_frsize;
        fs::write(&ballast, vec![0; usize::try_from(size).unwrap()]).unwrap();
        let run = sandbox.bluegreen(&["deploy", "topic"]);
        if run.status.success() {
            outcomes[0] += 1;
            let _ = fs::remove_file(&ballast);
            sandbox.serves_checkout("master");
            sandbox.bluegreen(&["rollback"]).ok().serves("index.html", "v1");
            sandbox.bluegreen(&["deploy", "master"]).ok();
            continue;
        }
        outcomes[1] += 1;
        let run = run.fails(1);
        assert!(run.output().contains("space"), "{}", run.output());
        run.says(STILL).serves("index.html", "v1");
        let _ = fs::remove_file(&ballast);
        sandbox.bluegreen(&["deploy", "master"]).ok().serves("index.html", "v1");
        sandbox.is_tidy();
    }
    assert!(outcomes[0] > 5 && outcomes[1] > 5, "{outcomes:?}");
}

#[test]
fn exhausted_inodes_are_detected() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let _site = Mounted::tmpfs(&sandbox.site(), "size=20m,nr_inodes=60");
    sandbox.commit("index.html", "v1").push().ok();
    let names = |count: usize, directory: &str| -> Vec<(Vec<u8>, Node)> {
        (0..count).map(|file| (format!("{directory}{file}/f").into_bytes(), Node::file("x"))).collect()
    };
    let commit = |nodes: &[(Vec<u8>, Node)]| {
        let nodes: Vec<(&[u8], Node)> =
            nodes.iter().map(|(path, node)| (path.as_slice(), node.clone())).collect();
        sandbox.commit_tree(&nodes);
    };
    commit(&names(100, "a"));
    let run = sandbox.push().not_deployed();
    let said = run.lines();
    assert!(
        said[1].starts_with("error: not enough space in `<site>/releases`: the release needs "),
        "{said:?}"
    );
    assert!(said[1].ends_with(" inodes are free"), "{said:?}");
    run.says(STILL).serves("index.html", "v1");
    // Enough space for the files, but not for their directories.
    commit(&names(30, "b"));
    let run = sandbox.push().not_deployed();
    assert!(run.output().contains("space"), "{}", run.output());
    run.says(STILL).serves("index.html", "v1");
    sandbox.is_tidy();
    sandbox.commit_tree(&[(b"index.html", Node::file("v2"))]).push().ok().serves("index.html", "v2");
}

#[test]
fn a_read_only_file_system_is_reported() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let site = Mounted::tmpfs(&sandbox.site(), "size=1m");
    sandbox.commit("index.html", "v1").push().ok();
    site.remount("ro");
    let run = sandbox.commit("index.html", "v2").push().not_deployed();
    assert!(
        run.lines()[1].ends_with(": read-only filesystem or storage medium")
            || run.lines()[1].ends_with(": read-only file system"),
        "{}",
        run.output()
    );
    run.says("hint: mount the file system writable, then push again").says(STILL).serves("index.html", "v1");
    for command in ["status", "releases", "history"] {
        sandbox.bluegreen(&[command]).ok();
    }
    sandbox.bluegreen(&["rollback"]).fails(1);
    site.remount("rw");
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v2");
}

#[test]
fn a_missing_git_is_reported() {
    let sandbox = deployed();
    let mut deploy = sandbox.bluegreen_command(&["deploy", "master"]);
    Run::new(&sandbox, deploy.env("PATH", "/nonexistent")).fails(1).says_only(&[
        "error: cannot run `git`: no such file or directory",
        "hint: install git: `sudo apt-get install git`",
    ]);
}

#[test]
fn a_failed_flush_after_activation_exits_with_3() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let sandbox = deployed();
    sandbox.commit("index.html", "v2").push_refs(&["master:refs/heads/topic"]).ok();
    let run = |inject: &str| {
        let mut strace = sandbox.command("strace");
        strace.args(["-qqq", "-f", "-o", "/dev/null", "-e", inject]).arg(sandbox.hook_path());
        Run::new(&sandbox, strace.args(["deploy", "topic"]))
    };
    // A release that cannot be flushed to disk must not become live.
    run("inject=fsync:error=EIO:when=1").fails(1).says(STILL).serves("index.html", "v1");
    let repository = sandbox.repository().join("bluegreen.toml");
    let config = std::fs::read_to_string(&repository).unwrap();
    sandbox.config_section("[steps]\nbuild = 'echo built >built'");
    run("inject=syncfs:error=EIO").fails(1).says(STILL).serves("index.html", "v1");
    std::fs::write(repository, config).unwrap();
    let before = sandbox.releases();
    // The last fsync follows activation, so the release is live by then.
    let flushes = (1..20).find(|number| {
        let run = run(&format!("inject=fsync:error=EIO:when={number}"));
        run.status.code() == Some(3)
    });
    assert!(flushes > Some(2), "{flushes:?}");
    sandbox.serves("index.html", "v2");
    assert_ne!(sandbox.releases(), before);
}
