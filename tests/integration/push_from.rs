//! `bluegreen push SIDE --from FOLDER`: a folder created by a build is committed and pushed, and the clone
//! does not change.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use crate::support::sandbox::BLUEGREEN;
use crate::support::snapshot::assert_same;
use crate::support::{Sandbox, snapshot};

/// Servers, and a developer's clone with a work tree, whose remote `blue` has the URLs of all servers.
struct Built {
    servers: Vec<Sandbox>,
    clone: PathBuf,
}

impl Built {
    fn new(servers: usize) -> Self {
        let servers: Vec<Sandbox> = (0..servers).map(|_| Sandbox::new()).collect();
        let first = &servers[0];
        first.commit("package.json", "{}").commit(".gitignore", "dist/\n").commit("src/app.js", "source");
        let clone = first.path("work");
        first.git_in(&first.path(""), &["clone", "--quiet", "clone", "work"]);
        let built = Self { servers, clone };
        built.git(&["remote", "add", "blue", "/nowhere"]);
        for server in &built.servers {
            let url = server.repository();
            built.git(&["remote", "set-url", "--add", "--push", "blue", url.to_str().unwrap()]);
        }
        built
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.servers[0].git_in(&self.clone, arguments)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.clone.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.servers[0].command(BLUEGREEN);
        command.args(["push", "blue"]).args(arguments).current_dir(&self.clone).stdin(Stdio::null());
        command
    }

    /// Pushes a folder, and returns the exit status and the output. Asserts that the clone does not change.
    fn push(&self, folder: &str, arguments: &[&str]) -> (i32, String) {
        let before = self.state();
        let output = self.command(&[&["--from", folder], arguments].concat()).output().unwrap();
        assert_eq!(self.state(), before, "the clone has changed");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    fn pushed(&self, folder: &str) -> &Self {
        let (status, text) = self.push(folder, &[]);
        assert_eq!(status, 0, "{text}");
        self
    }

    /// Returns a listing of everything in the clone except objects.
    fn state(&self) -> String {
        let script = "find . -path ./.git/objects -prune -o -printf '%p %y %m %s %T@ %l\\n' | sort
            find . -path ./.git/objects -prune -o -type f -print0 | sort -z | xargs -0 sha256sum";
        let output = Command::new("sh").args(["-c", script]).current_dir(&self.clone).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_folder_is_deployed_unchanged() {
    let built = Built::new(1);
    let server = &built.servers[0];
    built
        .write("dist/index.html", "one\r\ntwo\n$Id$\n")
        .write("dist/bin/run", "#!/bin/sh\n")
        .write("dist/.gitignore", "*\n")
        .write("dist/ignored.log", "log")
        .write("dist/new\nline \"q\" \\ caf\u{e9}", "odd")
        .write("dist/node_modules/a/.gitignore", "b\n")
        .write("dist/node_modules/a/b", "dependency");
    fs::set_permissions(built.clone.join("dist/bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("index.html", built.clone.join("dist/link")).unwrap();
    symlink("nowhere\n", built.clone.join("dist/dangling")).unwrap();
    // These settings would convert files that the clone itself commits.
    built.git(&["config", "core.autocrlf", "input"]);
    built.git(&["config", "core.bigFileThreshold", "1m"]);
    fs::write(built.clone.join(".git/info/attributes"), "* ident text filter=none\n").unwrap();
    built.write("dist/big", vec![b'x'; 3_000_000]);
    // The developer's uncommitted changes are kept.
    built.write("src/app.js", "changed").write("src/staged.js", "staged");
    built.git(&["add", "src/staged.js"]);
    built.pushed("dist/");
    assert_same(&snapshot(&server.live_path()), &snapshot(&built.clone.join("dist")), "dist");
    let source = built.git(&["rev-parse", "HEAD"]);
    let subject = server.git_in(&server.repository(), &["log", "-1", "--format=%s%n%an%n%b", "master"]);
    let expected =
        format!("Change the site (built from {})\nAda Developer\nBuilt-From: {source}", &source[..12]);
    assert_eq!(subject, expected);

    // Git does not track empty directories.
    fs::create_dir(built.clone.join("dist/empty")).unwrap();
    built.write("dist/index.html", "second").pushed("dist");
    server.serves("index.html", "second");
    assert!(!server.current("empty").exists());
    assert_eq!(server.git_in(&server.repository(), &["rev-list", "--count", "master"]), "2");
    // Pushing the same folder again creates the same commit, and a rollback works as for any commit.
    let (status, text) = built.push("dist", &[]);
    assert!(status == 0 && text.contains("  live "), "{text}");
    assert_eq!(server.git_in(&server.repository(), &["rev-list", "--count", "master"]), "2");
    server.bluegreen(&["rollback"]).ok();
    server.serves("index.html", "one\r\ntwo\n$Id$\n").is_tidy();
}

#[test]
fn a_folder_outside_the_clone_and_a_symlink_to_one_are_pushed() {
    let built = Built::new(1);
    let outside = built.servers[0].path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("page"), "outside").unwrap();
    built.pushed(outside.to_str().unwrap());
    built.servers[0].serves("page", "outside");
    fs::write(outside.join("page"), "by a symlink").unwrap();
    symlink(&outside, built.clone.join("dist")).unwrap();
    built.pushed("dist");
    built.servers[0].serves("page", "by a symlink");
}

#[test]
fn all_servers_get_the_same_commit_even_if_one_is_behind() {
    let built = Built::new(3);
    built.write("dist/page", "1").pushed("dist");
    let moved = built.servers[1].path("moved");
    fs::rename(built.servers[1].repository(), &moved).unwrap();
    let (status, text) = built.write("dist/page", "2").push("dist", &[]);
    assert!(status == 1 && text.contains("1 of 3 servers of blue failed"), "{text}");
    built.servers[0].serves("page", "2");
    fs::rename(&moved, built.servers[1].repository()).unwrap();
    let (status, text) = built.write("dist/page", "3").push("dist", &["--json"]);
    assert_eq!(status, 0, "{text}");
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(rows[0]["commit"].is_string(), "{text}");
    assert!(rows.iter().all(|row| row["commit"] == rows[0]["commit"] && row["result"] == "live"), "{text}");
    for server in &built.servers {
        server.serves("page", "3");
    }
    // Each diverged branch gets its own commit.
    built.servers[2].commit("page", "a hotfix");
    built.servers[2].git(&[
        "push",
        "--quiet",
        "--force",
        built.servers[2].repository().to_str().unwrap(),
        "master",
    ]);
    built.write("dist/page", "4").pushed("dist");
    assert_ne!(built.servers[0].tip(), built.servers[2].tip());
    built.servers[2].serves("page", "4");
}

#[test]
fn a_shallow_clone_without_an_identity_pushes_through_the_gate() {
    let built = Built::new(1);
    let server = &built.servers[0];
    symlink(BLUEGREEN, server.repository().join("hooks/proc-receive")).unwrap();
    server.git_in(&server.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
    let origin = format!("file://{}", server.clone_path().display());
    fs::remove_dir_all(&built.clone).unwrap();
    server.git_in(&server.path(""), &["clone", "--quiet", "--depth=1", &origin, "work"]);
    built.git(&["remote", "add", "blue", server.repository().to_str().unwrap()]);
    built.write("dist/page", "1").pushed("dist");
    built.write("dist/page", "2").pushed("dist");
    server.serves("page", "2");
    // A failed deployment fails the push, and the branch does not move.
    server.config_section("[steps]\ncheck = ['false']");
    let tip = server.tip();
    let (status, text) = built.write("dist/page", "3").push("dist", &[]);
    assert!(status == 1 && text.contains("step false exited with status 1"), "{text}");
    assert_eq!(server.tip(), tip);
    server.serves("page", "2");
}

#[test]
fn files_that_cannot_be_committed_are_an_error() {
    let built = Built::new(1);
    built.write("dist/lib/.git/config", "").write("other/.GIT", "gitdir: x").write("file", "");
    fs::create_dir_all(built.clone.join("empty/below")).unwrap();
    fs::create_dir(built.clone.join("pipe")).unwrap();
    mknodat(CWD, built.clone.join("pipe/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    for (folder, problem) in [
        ("dist", "the folder contains a git repository: `"),
        ("other", "the folder contains a git repository: `"),
        (".", "the folder contains a git repository: `"),
        ("empty", "`empty` contains no file"),
        ("missing", "cannot open `missing`"),
        ("file", "cannot read `"),
        ("pipe", "fifo` is neither a file, a folder, nor a symlink"),
    ] {
        let (status, text) = built.push(folder, &[]);
        assert!(status != 0 && text.contains(problem), "{folder}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    built.servers[0].serves_nothing();
    let output = built.command(&["master", "--from", "dist"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "a refspec and a folder exclude each other");
    // The clone passes fsck, and no FETCH_HEAD was written.
    built.git(&["fsck", "--strict"]);
    assert!(!Path::new(&built.clone).join(".git/FETCH_HEAD").exists());
}

/// A refspec would make the fetch write a ref of the clone.
#[test]
fn a_hostile_branch_name_writes_no_ref_of_the_clone() {
    let built = Built::new(1);
    built.write("dist/index.html", "one").pushed("dist");
    let server = &built.servers[0];
    let repository = server.repository();
    let tree = server.git_in(&repository, &["rev-parse", "master^{tree}"]);
    let commit = server.git_in(&repository, &["commit-tree", "-m", "Not in the clone", &tree]);
    for branch in ["master", "x"] {
        server.git_in(&repository, &["update-ref", &format!("refs/heads/{branch}"), &commit]);
    }
    let url = format!("deploy@blue:{}", repository.display());
    built.git(&["remote", "set-url", "--push", "blue", &url]);
    let ssh = server.path("fake-ssh");
    for name in ["x:refs/heads/planted", "x:refs/replace/1", "*", "-x", "../../x", "x^{}", "x y", ""] {
        let script = format!(
            "for last; do :; done\n\
             case $last in *status*) sh -c \"$last\" | sed 's|\"branch\": \"master\"|\"branch\": \"{name}\"|' ;;\n\
             *) exec sh -c \"$last\" ;; esac\n"
        );
        fs::write(&ssh, script).unwrap();
        let before = built.state();
        let folder = Path::new(BLUEGREEN).parent().unwrap().display();
        let mut command = built.command(&["--from", "dist"]);
        command.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap()));
        command.env("GIT_SSH_COMMAND", format!("sh {}", ssh.display()));
        let (status, text) = crate::promote::said(&command.output().unwrap());
        assert_eq!(built.state(), before, "{name}: the clone has changed: {text}");
        assert!(status != 0 && text.contains("it does not name the branch that deploys"), "{name}: {text}");
    }
}

#[test]
fn the_workflow_builds_and_pushes() {
    let Some(script) =
        crate::promote_fails::script_of("github-build.yml", "['jobs']['deploy']['steps'][-1]['run']")
    else {
        return;
    };
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/howto/ci.md");
    assert!(fs::read_to_string(page).unwrap().contains(&script), "the workflow is not what the page shows");
    let built = Built::new(2);
    let server = &built.servers[0];
    let tools = server.path("tools");
    fs::create_dir(&tools).unwrap();
    symlink(BLUEGREEN, tools.join("bluegreen")).unwrap();
    // A stand-in for npm, whose `npm run build` creates the folder.
    fs::write(
        tools.join("npm"),
        "#!/bin/sh\n[ \"$1\" = ci ] || { mkdir -p dist && cp src/app.js dist/bundle.js; }\n",
    )
    .unwrap();
    fs::set_permissions(tools.join("npm"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut shell = server.command("bash");
    shell.args(["-e", "-c", &script]).current_dir(&built.clone);
    shell.env("PATH", format!("{}:{}", tools.display(), std::env::var("PATH").unwrap()));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for server in &built.servers {
        server.serves("bundle.js", "source");
        assert!(!server.current("package.json").exists());
    }
}
