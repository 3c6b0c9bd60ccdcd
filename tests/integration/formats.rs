//! Deployments from every repository format that git supports, each created by git itself.

use std::path::Path;

use crate::support::skip::skip;
use crate::support::{Node, Sandbox};

/// Replaces the server's repository and the clone with other formats. Returns `None` if git does not support
/// them.
fn with_formats(objects: &str, refs: &str) -> Option<Sandbox> {
    let sandbox = Sandbox::new();
    for (directory, refs) in [(sandbox.repository(), refs), (sandbox.clone_path(), "files")] {
        std::fs::remove_dir_all(&directory).unwrap();
        let mut init = sandbox.command("git");
        init.args(["init", "--quiet", "--bare", "--initial-branch=master"]);
        init.arg(format!("--object-format={objects}")).arg(&directory);
        // Older versions of git support only one ref format and have no option for it.
        if refs != "files" {
            init.arg(format!("--ref-format={refs}"));
        }
        if !init.output().unwrap().status.success() {
            skip("this version of git supports only one ref format");
            return None;
        }
    }
    std::fs::create_dir_all(sandbox.repository().join("hooks")).unwrap();
    std::os::unix::fs::symlink(crate::support::sandbox::BLUEGREEN, sandbox.hook_path()).unwrap();
    sandbox.config("");
    Some(sandbox)
}

/// Pushes, deploys by revision, rolls back, and recycles a tree with a converted file and a symlink.
fn deployments_work(sandbox: &Sandbox) {
    sandbox.site_config("keep = 2");
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("*.id ident\n")),
        (b"a.id", Node::file("$Id$\n")),
        (b"dir/link", Node::link("../a.id")),
    ]);
    for round in ["1", "2", "3", "4", "5"] {
        sandbox.commit("round", round).push().ok().serves("round", round).serves_checkout("master");
    }
    sandbox.bluegreen(&["rollback"]).ok().serves("round", "4");
    sandbox.bluegreen(&["deploy", "master~3"]).ok().serves("round", "2").serves_checkout("master~3");
    sandbox.bluegreen(&["deploy"]).ok().serves("round", "5");
    sandbox.is_tidy();
}

#[test]
fn sha256() {
    let Some(sandbox) = with_formats("sha256", "files") else { return };
    deployments_work(&sandbox);
    assert_eq!(sandbox.id("master").len(), 64);
}

#[test]
fn reftable() {
    let Some(sandbox) = with_formats("sha1", "reftable") else { return };
    deployments_work(&sandbox);
    assert!(sandbox.repository().join("reftable").is_dir());
}

#[test]
fn sha256_in_reftable() {
    let Some(sandbox) = with_formats("sha256", "reftable") else { return };
    deployments_work(&sandbox);
}

/// Runs git on the server's repository.
fn server_git(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let repository = sandbox.repository();
    sandbox.git_in(&sandbox.path(""), &[&["--git-dir", repository.to_str().unwrap()], arguments].concat())
}

#[test]
fn packs_with_a_multi_pack_index_and_packed_refs() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    server_git(&sandbox, &["repack", "-q", "-d"]);
    sandbox.commit("index.html", "v2").commit("other", "x").push().ok();
    server_git(&sandbox, &["repack", "-q", "-d"]);
    server_git(&sandbox, &["multi-pack-index", "write"]);
    server_git(&sandbox, &["pack-refs", "--all"]);
    assert!(!sandbox.repository().join("refs/heads/master").exists());
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v2").serves_checkout("master");
    sandbox.bluegreen(&["deploy", "master~1"]).ok().serves("index.html", "v2").serves_checkout("master~1");
    deployments_work(&sandbox);
}

#[test]
fn many_blobs_in_packs_and_loose() {
    let sandbox = Sandbox::new();
    let names: Vec<String> = (0..600).map(|number| format!("dir{}/{number}", number % 7)).collect();
    let nodes: Vec<(&[u8], Node)> =
        names.iter().map(|name| (name.as_bytes(), Node::file(name.repeat(50)))).collect();
    sandbox.commit_nodes(&nodes).push().ok().serves_checkout("master");
    let changed: Vec<(&[u8], Node)> =
        names.iter().step_by(2).map(|name| (name.as_bytes(), Node::file(name.repeat(51)))).collect();
    sandbox.commit_nodes(&changed).push().ok();
    // Half of the blobs become deltas of the others.
    server_git(&sandbox, &["repack", "-q", "-a", "-d", "-f"]);
    sandbox.bluegreen(&["deploy"]).ok().serves_checkout("master");
    sandbox.bluegreen(&["deploy", "master~1"]).ok().serves_checkout("master~1");
}

#[test]
fn alternates() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").commit("other", "x");
    // The server's own object store is empty.
    let objects = sandbox.clone_path().join("objects");
    let alternates = sandbox.repository().join("objects/info/alternates");
    std::fs::write(&alternates, format!("{}\n", objects.display())).unwrap();
    sandbox.push().ok().serves("index.html", "v1").serves_checkout("master");
    std::fs::write(&alternates, "../../clone/objects\n").unwrap();
    deployments_work(&sandbox);
}

#[test]
fn worktree_config_and_an_unborn_head() {
    let sandbox = Sandbox::new();
    sandbox.commit("a.txt", "1\n2\n").commit(".gitattributes", "*.txt text\n");
    server_git(&sandbox, &["config", "extensions.worktreeConfig", "true"]);
    server_git(&sandbox, &["config", "--worktree", "core.eol", "crlf"]);
    sandbox.push().ok().serves("a.txt", "1\r\n2\r\n");
    for head in ["ref: refs/heads/.invalid\n", "ref: refs/heads/unborn\n"] {
        std::fs::write(sandbox.repository().join("HEAD"), head).unwrap();
        sandbox.commit("head", head).push().ok().serves("head", head);
        sandbox.bluegreen(&["rollback"]).ok();
    }
}

#[test]
fn bare_repositories_must_be_named() {
    let sandbox = Sandbox::new();
    let mut settings = sandbox.push_command(&["master"]);
    sandbox.commit(".gitattributes", "* ident\n").commit("index.html", "v1");
    settings.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.bareRepository");
    settings.env("GIT_CONFIG_VALUE_0", "explicit");
    // The developer's clone is bare as well, and is found through its directory.
    settings.arg("--quiet").env("GIT_DIR", sandbox.clone_path());
    crate::support::Run::new(&sandbox, &mut settings).ok().serves("index.html", "v1");
    let id = sandbox.id("master");
    let mut hook = sandbox.command(sandbox.hook_path());
    hook.env("GIT_DIR", ".").env("GIT_CONFIG_PARAMETERS", "'safe.bareRepository'='explicit'");
    hook.current_dir(sandbox.repository());
    sandbox.run_with_input(&mut hook, format!("{id} {id} refs/heads/master\n").as_bytes()).ok();
}

#[test]
fn replaced_objects_are_not_deployed() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").commit(".gitattributes", "*.html ident\n").push().ok();
    let blob = sandbox.git(&["rev-parse", "master:index.html"]);
    sandbox.commit_to("evil", "Replace", &[(b"index.html", Node::file("evil"))]);
    let evil = sandbox.git(&["rev-parse", "evil:index.html"]);
    let commit = sandbox.id("master");
    let refs = [format!("evil:refs/replace/{commit}"), format!("{evil}:refs/replace/{blob}")];
    sandbox.push_refs(&[&refs[0], &refs[1]]).ok();
    assert_eq!(server_git(&sandbox, &["show", "master:index.html"]), "evil");
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v1");
    sandbox.commit("other", "x").push().ok().serves("index.html", "v1");
}

#[test]
fn an_unknown_extension_is_reported_once() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let config = sandbox.repository().join("config");
    let text = std::fs::read_to_string(&config)
        .unwrap()
        .replace("repositoryformatversion = 0", "repositoryformatversion = 1");
    std::fs::write(&config, format!("{text}[extensions]\n\tfromTheFuture = yes\n")).unwrap();
    let failure = "error: `git rev-parse` failed: fatal: unknown repository extension found: fromthefuture";
    sandbox.bluegreen(&["deploy"]).fails(1).says_only(&[failure]).serves("index.html", "v1");
    sandbox.bluegreen(&["status"]).fails(1).says_only(&[failure]);
}

#[test]
fn a_non_bare_repository_deploys() {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("tree");
    sandbox.git_in(&sandbox.path(""), &["clone", "--quiet", "repository", "tree"]);
    std::fs::rename(sandbox.config_path(), tree.join(".git/bluegreen.toml")).unwrap();
    std::fs::write(tree.join("index.html"), "v1").unwrap();
    sandbox.git_in(&tree, &["add", "."]);
    sandbox.git_in(&tree, &["commit", "-q", "-m", "v1"]);
    let mut deploy = sandbox.command(Path::new(crate::support::sandbox::BLUEGREEN));
    deploy.arg("-C").arg(&tree).arg("deploy");
    crate::support::Run::new(&sandbox, &mut deploy).ok().serves("index.html", "v1");
}
