//! Submodules: left empty, rejected, or fetched from a real `git daemon` and deployed.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::objects::Objects;
use crate::support::run::spawn;
use crate::support::{Node, Run, Sandbox};

/// A git server on loopback that serves `<sandbox>/origin/`.
struct Origin<'a> {
    sandbox: &'a Sandbox,
    daemon: Child,
    port: u16,
}

impl Drop for Origin<'_> {
    fn drop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

impl<'a> Origin<'a> {
    fn of(sandbox: &'a Sandbox) -> Self {
        std::fs::create_dir_all(sandbox.path("origin")).unwrap();
        // A port that is free now, because the daemon cannot report a port that it chose itself.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = sandbox.git_in(&sandbox.path(""), &["--exec-path"]) + "/git-daemon";
        let mut daemon = sandbox.command(program);
        daemon.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")]);
        daemon.arg(format!("--base-path={}", sandbox.path("origin").display()));
        let daemon = daemon.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "git daemon does not respond");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { sandbox, daemon, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path("origin").join(name)
    }

    fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    /// Commits a tree to a repository on the server, which is created if it does not exist. Returns the
    /// commit.
    fn commit(&self, name: &str, files: &[(&str, &str)], submodules: &[(&str, &str)]) -> String {
        let (sandbox, path) = (self.sandbox, self.path(name));
        if !path.exists() {
            sandbox
                .git_in(&sandbox.path(""), &["init", "-q", "--bare", "-b", "main", path.to_str().unwrap()]);
        }
        let tree = sandbox.path("origin-tree");
        let _ = std::fs::remove_dir_all(&tree);
        std::fs::create_dir(&tree).unwrap();
        for (file, content) in files {
            std::fs::create_dir_all(tree.join(file).parent().unwrap()).unwrap();
            std::fs::write(tree.join(file), content).unwrap();
        }
        let git_dir = format!("--git-dir={}", path.display());
        let work_tree = format!("--work-tree={}", tree.display());
        let git = |arguments: &[&str]| {
            sandbox.git_in(&tree, &[&[git_dir.as_str(), work_tree.as_str()], arguments].concat())
        };
        git(&["add", "--all", "."]);
        for (path, commit) in submodules {
            git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
        }
        git(&["commit", "-q", "--allow-empty", "-m", "Change"]);
        git(&["rev-parse", "HEAD"])
    }

    /// Adds a submodule to the site, with its section in `.gitmodules`.
    fn add(&self, path: &str, url: &str, commit: &str) {
        let section = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
        self.add_with(path, &section, commit);
    }

    fn add_with(&self, path: &str, gitmodules: &str, commit: &str) {
        let sandbox = self.sandbox;
        sandbox.commit_nodes(&[(b".gitmodules", Node::file(gitmodules))]);
        let old = sandbox.id("master");
        let index = sandbox.path("index");
        let _ = std::fs::remove_file(&index);
        let git = |arguments: &[&str]| {
            let mut git = sandbox.git_command(&sandbox.clone_path());
            let output = git.env("GIT_INDEX_FILE", &index).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["read-tree", "master"]);
        git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
        let new = git(&["commit-tree", "-p", &old, "-m", "Add a submodule", &git(&["write-tree"])]);
        git(&["update-ref", "refs/heads/master", &new]);
    }
}

fn fetching() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.site_config("submodules = \"fetch\"\nkeep = 2");
    sandbox
}

#[test]
fn submodules_are_left_empty_or_rejected() {
    let sandbox = Sandbox::new();
    sandbox.commit_nodes(&[(b"lib/x", Node::Submodule), (b"index.html", Node::file("v1"))]);
    sandbox.push().warned().says("warning: 1 submodule left empty: `lib/x`").serves_checkout("master");
    sandbox.site_config("submodules = \"refuse\"").commit("index.html", "v2");
    sandbox
        .push()
        .not_deployed()
        .says("error: the commit has 1 submodule (`lib/x`) and `submodules = \"refuse\"`")
        .serves("index.html", "v1");
}

#[test]
fn a_submodule_is_fetched_once_and_recycled() {
    let sandbox = fetching();
    let origin = Origin::of(&sandbox);
    let big = "x".repeat(20_000_000);
    let first = origin.commit("lib.git", &[("a.txt", "a"), ("deep/b", "b"), ("big", &big)], &[]);
    origin.add("lib", &origin.url("lib.git"), &first);
    sandbox.push().ok().serves("lib/a.txt", "a").serves("lib/deep/b", "b").serves("lib/big", &big);
    assert!(!sandbox.current("lib/.git").exists());
    let module = sandbox.repository().join("modules/lib");
    assert!(module.join("shallow").exists(), "only the commit must be fetched");

    let second = origin.commit("lib.git", &[("a.txt", "changed"), ("c", "c")], &[]);
    origin.add("lib", &origin.url("lib.git"), &second);
    sandbox.push().ok().serves("lib/a.txt", "changed").serves("lib/c", "c");
    assert!(!sandbox.current("lib/deep").exists());
    // From here on, nothing is fetched.
    drop(origin);
    let inode = || sandbox.current("lib/c").metadata().unwrap().ino();
    for round in ["1", "2", "3", "4", "5"] {
        sandbox.commit("round", round).push().ok().serves("lib/a.txt", "changed").serves("round", round);
        assert!(inode() > 0);
    }
    // The same commit, with the submodule first left empty and then filled again.
    for (config, has) in [("warn", false), ("fetch", true), ("warn", false), ("fetch", true)] {
        let text = std::fs::read_to_string(sandbox.config_path()).unwrap();
        let text =
            text.replace("\"fetch\"", &format!("\"{config}\"")).replace("\"warn\"", &format!("\"{config}\""));
        sandbox.raw_config(&text);
        let run = sandbox.bluegreen(&["deploy"]);
        assert!(run.status.success(), "{}", run.output);
        assert_eq!(sandbox.current("lib/a.txt").exists(), has, "{config}");
        assert!(sandbox.current("lib").is_dir());
    }
    sandbox.is_tidy();
}

#[test]
fn submodules_of_submodules_and_relative_urls() {
    let sandbox = fetching();
    let origin = Origin::of(&sandbox);
    let leaf = origin.commit("group/leaf.git", &[("leaf.txt", "leaf")], &[]);
    let gitmodules = "[submodule \"the leaf\"]\n\tpath = sub/leaf\n\turl = ../leaf.git\n";
    let middle = origin.commit(
        "group/middle.git",
        &[("middle.txt", "middle"), (".gitmodules", gitmodules)],
        &[("sub/leaf", &leaf)],
    );
    origin.add("middle", "../group/middle.git", &middle);
    sandbox.push().not_deployed().says(
        "error: submodule `middle`: its URL `../group/middle.git` is relative: set `remote.origin.url` in the repository to the URL that it is relative to",
    );
    sandbox.git_in(&sandbox.repository(), &["config", "remote.origin.url", &origin.url("app.git")]);
    sandbox
        .bluegreen(&["deploy"])
        .ok()
        .serves("middle/middle.txt", "middle")
        .serves("middle/sub/leaf/leaf.txt", "leaf");
    assert!(sandbox.repository().join("modules/middle/modules/the leaf/objects").is_dir());
    for round in ["1", "2", "3", "4"] {
        sandbox.commit("round", round).push().ok().serves("middle/sub/leaf/leaf.txt", "leaf");
    }
}

#[test]
fn attributes_apply_within_their_project() {
    let sandbox = fetching();
    let origin = Origin::of(&sandbox);
    let first = origin.commit(
        "lib.git",
        &[(".gitattributes", "*.id ident\n"), ("a.id", "$Id$\n"), ("a.dos", "1\n")],
        &[],
    );
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("*.dos eol=crlf\n")),
        (b"b.id", Node::file("$Id$\n")),
        (b"b.dos", Node::file("1\n")),
    ]);
    origin.add("lib", &origin.url("lib.git"), &first);
    for round in ["1", "2", "3", "4", "5"] {
        sandbox.commit("round", round).push().ok().serves("b.id", "$Id$\n").serves("b.dos", "1\r\n");
        sandbox.serves("lib/a.dos", "1\n");
        let converted = std::fs::read_to_string(sandbox.current("lib/a.id")).unwrap();
        assert!(converted.starts_with("$Id: ") && converted.len() == 48, "{converted}");
    }
    sandbox.is_tidy();
}

#[test]
fn a_server_that_refuses_single_commits_is_fetched_completely() {
    let sandbox = fetching();
    let origin = Origin::of(&sandbox);
    let first = origin.commit("lib.git", &[("a", "1")], &[]);
    origin.commit("lib.git", &[("a", "2")], &[]);
    sandbox.git_in(&origin.path("lib.git"), &["config", "uploadpack.allowAnySHA1InWant", "false"]);
    // Protocol version 0 rejects requests for unadvertised objects.
    let module = sandbox.repository().join("modules/lib");
    sandbox.git_in(&sandbox.path(""), &["init", "-q", "--bare", module.to_str().unwrap()]);
    sandbox.git_in(&module, &["config", "protocol.version", "0"]);
    origin.add("lib", &origin.url("lib.git"), &first);
    sandbox.push().ok().serves("lib/a", "1");
    assert!(
        !sandbox.repository().join("modules/lib/shallow").exists(),
        "a single commit was given after all"
    );
}

#[test]
fn submodule_names_do_not_conflict() {
    let sandbox = fetching();
    let origin = Origin::of(&sandbox);
    let commit = origin.commit("lib.git", &[("a", "1")], &[]);
    let url = origin.url("lib.git");
    for name in ["x/objects/y", "x", "x/hooks", "x/objects/y/objects"] {
        origin.add_with("lib", &format!("[submodule \"{name}\"]\n\tpath = lib\n\turl = {url}\n"), &commit);
        sandbox.push().ok().serves("lib/a", "1");
    }
    assert!(!sandbox.repository().join("modules/x/hooks/HEAD").exists());
}

#[test]
fn an_unfetchable_submodule_is_reported_and_nothing_is_deployed() {
    let sandbox = fetching();
    let origin = Origin::of(&sandbox);
    let commit = origin.commit("lib.git", &[("a", "1")], &[]);
    let local = origin.path("lib.git");
    sandbox.commit("index.html", "v1").push().ok();
    let git = "error: submodule `lib`: `git fetch` failed: fatal: transport";
    for (url, error) in [
        (local.to_str().unwrap(), format!("{git} 'file' not allowed")),
        (&format!("file://{}", local.display()), format!("{git} 'file' not allowed")),
        ("ext::sh -c touch% /tmp/owned", format!("{git} 'ext' not allowed")),
        ("-u./x", "error: submodule `lib`: `-u./x` is not a URL".into()),
        ("", "error: submodule `lib`: `.gitmodules` gives no URL for it".into()),
    ] {
        origin.add("lib", url, &commit);
        sandbox.push_refs(&["--force", "master"]).not_deployed().says(&error).serves("index.html", "v1");
    }
    for (section, error) in [
        ("[submodule \"../../evil\"]\n\tpath = lib\n\turl = x\n", "its name in `.gitmodules` is not allowed"),
        ("[submodule \"/tmp/evil\"]\n\tpath = lib\n\turl = x\n", "its name in `.gitmodules` is not allowed"),
        (
            "[submodule \"a/../../evil\"]\n\tpath = lib\n\turl = x\n",
            "its name in `.gitmodules` is not allowed",
        ),
        ("[submodule \"x\"]\n\tpath = other\n\turl = x\n", "`.gitmodules` has no section for it"),
    ] {
        origin.add_with("lib", section, &commit);
        let error = format!("error: submodule `lib`: {error}");
        sandbox.push_refs(&["--force", "master"]).not_deployed().says(&error).serves("index.html", "v1");
    }
    origin.add("lib", &origin.url("none.git"), &commit);
    let told = sandbox.push_refs(&["--force", "master"]).not_deployed();
    assert!(told.output().contains("error: submodule `lib`: `git fetch` failed: "), "{}", told.output());
    origin.add("lib", &origin.url("lib.git"), &"2".repeat(40));
    let told = sandbox.push_refs(&["--force", "master"]).not_deployed();
    assert!(told.output().contains("error: submodule `lib`: "), "{}", told.output());
    assert!(!sandbox.path("evil").exists() && !sandbox.repository().join("evil").exists());
    sandbox.is_tidy();
}

#[test]
fn a_fetch_from_an_unresponsive_server_times_out() {
    let sandbox = fetching();
    sandbox.site_config("submodule-timeout = \"1s\"");
    let origin = Origin::of(&sandbox);
    let commit = origin.commit("lib.git", &[("a", "1")], &[]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/lib.git", silent.local_addr().unwrap());
    origin.add("lib", &url, &commit);
    let begun = Instant::now();
    sandbox.push().not_deployed().says("error: submodule `lib`: `git fetch` failed: gave up after 1s");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn cancel_stops_a_fetch() {
    let sandbox = fetching();
    let origin = Origin::of(&sandbox);
    let commit = origin.commit("lib.git", &[("a", "1")], &[]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    origin.add("lib", &format!("git://{}/lib.git", silent.local_addr().unwrap()), &commit);
    let (push, reader) = spawn(&mut sandbox.push_command(&["master"]));
    let _connection = silent.accept().unwrap();
    let begun = Instant::now();
    sandbox.bluegreen(&["cancel"]).ok();
    Run::finish(&sandbox, push, reader).not_deployed().says("error: cancelled").serves_nothing();
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    sandbox.is_tidy();
}

#[test]
fn a_hostile_submodule_is_rejected() {
    let sandbox = fetching();
    let origin = Origin::of(&sandbox);
    origin.commit("lib.git", &[("a", "1")], &[]);
    let objects = Objects::of(&origin.path("lib.git"));
    let blob = objects.blob(b"owned");
    for (name, problem) in [
        ("../owned", "name contains `/`"),
        (".git", "names equivalent to `.git` are reserved"),
        ("..", "`.` and `..` are reserved"),
    ] {
        let tree = objects.tree(&[("100644", name.as_bytes(), blob)]);
        let commit = objects.commit(tree).to_string();
        sandbox.git_in(&origin.path("lib.git"), &["update-ref", "refs/heads/main", &commit]);
        origin.add("lib", &origin.url("lib.git"), &commit);
        let error = format!("error: cannot check out `lib/{name}`: {problem}");
        sandbox.push_refs(&["--force", "master"]).not_deployed().says(&error).serves_nothing();
    }
    assert!(!sandbox.site().join("releases/owned").exists());
    sandbox.is_tidy();
}

#[test]
fn a_submodule_of_the_deployed_folder_is_fetched() {
    let sandbox = fetching();
    sandbox.site_config("subdirectory = \"apps/web\"");
    let origin = Origin::of(&sandbox);
    let commit = origin.commit("lib.git", &[("a.txt", "a"), ("b.id", "$Id$\n")], &[]);
    sandbox.commit(".gitattributes", "*.id eol=crlf\n").commit("apps/web/index.html", "page");
    sandbox.commit("apps/web/.gitmodules", "not read").commit("apps/web/c.id", "1\n");
    origin.add("apps/web/lib", &origin.url("lib.git"), &commit);
    // Attributes in the parent folders belong to another project.
    sandbox.push().ok().serves("lib/a.txt", "a").serves("lib/b.id", "$Id$\n").serves("c.id", "1\r\n");
    // A submodule outside the folder is not fetched.
    sandbox.commit("apps/web/index.html", "new");
    origin.add("other", "git://127.0.0.1:1/no", &commit);
    sandbox.commit(".gitmodules", "");
    let run = sandbox.push();
    assert!(run.output.contains("`.gitmodules` has no section for it"), "{}", run.output);
}
