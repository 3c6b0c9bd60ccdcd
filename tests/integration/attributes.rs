//! Files that git attributes convert: identical to `git checkout`, in new and in recycled releases.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::{Node, Sandbox};

/// Sets a config key in the server's repository and in the clone that `git checkout` runs in.
fn configure(sandbox: &Sandbox, key: &str, value: &str) {
    for directory in [sandbox.repository(), sandbox.clone_path()] {
        sandbox.git_in(&directory, &["config", key, value]);
    }
}

fn info_attributes(sandbox: &Sandbox, text: &str) {
    for directory in [sandbox.repository(), sandbox.clone_path()] {
        std::fs::create_dir_all(directory.join("info")).unwrap();
        std::fs::write(directory.join("info/attributes"), text).unwrap();
    }
}

/// Pushes often enough that the last pushes recycle releases.
fn recycling(sandbox: &Sandbox) {
    sandbox.site_config("keep = 2");
    for round in ["one", "two", "three", "four", "five"] {
        sandbox.commit("round", round).push().ok().serves_checkout("master");
    }
    assert_eq!(sandbox.releases().len(), 4, "the live release, two others, and the next to be recycled");
}

const TEXT: &str = "one\ntwo\r\nthree $Id$ $Id: old $\n";

#[test]
fn attributes_apply_from_every_level() {
    let sandbox = Sandbox::new();
    info_attributes(&sandbox, "*.info ident\n");
    sandbox.commit_nodes(&[
        (
            b".gitattributes",
            Node::file(
                "[attr]dos text eol=crlf\n*.dos dos\n*.id ident\n*.u16 text working-tree-encoding=UTF-16LE\n",
            ),
        ),
        (
            b"deep/er/.gitattributes",
            Node::file("*.id -ident\n/only.txt ident\n*.dos !eol\n\"q \\\"x.txt\" ident\n"),
        ),
        (b"bom/.gitattributes", Node::file("\u{feff}*.x ident\n")),
        (b"bom/a.x", Node::file(TEXT)),
        (b"a.dos", Node::file(TEXT)),
        (b"a.id", Node::Executable(TEXT.into())),
        (b"a.u16", Node::file("h\u{e9}llo\n")),
        (b"a.info", Node::file(TEXT)),
        (b"plain", Node::file(TEXT)),
        (b"deep/er/a.id", Node::file(TEXT)),
        (b"deep/er/a.dos", Node::file("1\n2\n")),
        (b"deep/er/only.txt", Node::file(TEXT)),
        (b"deep/er/below/only.txt", Node::file(TEXT)),
        (b"deep/er/q \"x.txt", Node::file(TEXT)),
        (b"deep/new\nline.id", Node::file(TEXT)),
        (b"deep/ leading.id", Node::file(TEXT)),
        (b"deep/latin\xe9.id", Node::file(TEXT)),
        (b"link.id", Node::link("a.id")),
    ]);
    sandbox.push().ok().serves_checkout("master");
    assert!(std::fs::read(sandbox.current("a.dos")).unwrap().starts_with(b"one\r\n"));
    assert!(std::fs::read(sandbox.current("a.u16")).unwrap().starts_with(b"h\0\xe9\0"));
    assert!(!std::fs::read_to_string(sandbox.current("a.id")).unwrap().contains("$Id$"));
    recycling(&sandbox);
    sandbox.is_tidy();
}

#[test]
fn attribute_files_are_converted_by_their_own_attributes() {
    let sandbox = Sandbox::new();
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("# $Id$\n* text eol=crlf ident\n")),
        (b"sub/.gitattributes", Node::file("# $Id$\n*.txt -text\n")),
        (b"sub/a.txt", Node::file(TEXT)),
        (b"a.txt", Node::file(TEXT)),
        (b"links/.gitattributes", Node::link("* -ident")),
        (b"links/a", Node::file(TEXT)),
    ]);
    sandbox.push().ok().serves_checkout("master");
    recycling(&sandbox);
}

#[test]
fn only_the_repositorys_line_ending_settings_apply() {
    let sandbox = Sandbox::new();
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("*.txt text\n*.lf text eol=lf\n*.auto text=auto\n*.bin -text\n")),
        (b"a.txt", Node::file("1\n2\n")),
        (b"a.lf", Node::file("1\n2\n")),
        (b"a.auto", Node::file("1\n2\n")),
        (b"mixed.auto", Node::file("1\r\n2\n")),
        (b"binary.auto", Node::file("1\n\0\n")),
        (b"a.bin", Node::file("1\n2\n")),
        (b"none", Node::file("1\n2\n")),
    ]);
    sandbox.push().ok().serves("a.txt", "1\n2\n");
    configure(&sandbox, "core.eol", "crlf");
    sandbox
        .bluegreen(&["deploy"])
        .ok()
        .serves("a.txt", "1\r\n2\r\n")
        .serves("none", "1\n2\n")
        .serves_checkout("master");
    configure(&sandbox, "core.autocrlf", "true");
    sandbox.bluegreen(&["deploy"]).ok().serves("none", "1\r\n2\r\n").serves_checkout("master");
    configure(&sandbox, "core.autocrlf", "input");
    sandbox.bluegreen(&["deploy"]).ok().serves("a.txt", "1\n2\n").serves_checkout("master");
    // The settings change between a release and its recycling.
    sandbox.site_config("keep = 2");
    for value in ["true", "false", "true", "input", "true", "false"] {
        configure(&sandbox, "core.autocrlf", value);
        sandbox.bluegreen(&["deploy"]).ok().serves_checkout("master");
    }
}

#[test]
fn core_attributesfile_of_the_repository_applies() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("attributes");
    std::fs::write(&file, "*.html ident\n").unwrap();
    configure(&sandbox, "core.attributesFile", file.to_str().unwrap());
    sandbox.commit("index.html", TEXT).push().ok().serves_checkout("master");
    assert_ne!(std::fs::read_to_string(sandbox.current("index.html")).unwrap(), TEXT);
    recycling(&sandbox);
    std::fs::write(&file, "*.css ident\n").unwrap();
    sandbox.commit("round", "four").push().ok().serves_checkout("master").serves("index.html", TEXT);
}

#[test]
fn filters_from_the_repositorys_config_run() {
    let sandbox = Sandbox::new();
    configure(&sandbox, "filter.shout.smudge", "tr a-z A-Z && echo of %f");
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("*.txt filter=shout\n*.md filter=unknown\n")),
        (b"dir/it's.txt", Node::file("loud\n")),
        (b"a.md", Node::file("quiet\n")),
    ]);
    sandbox.push().ok().serves("dir/it's.txt", "LOUD\nof dir/it's.txt\n").serves("a.md", "quiet\n");
    sandbox.serves_checkout("master");
    recycling(&sandbox);
    configure(&sandbox, "filter.shout.smudge", "rev");
    sandbox.commit("round", "four").push().ok().serves("dir/it's.txt", "duol\n").serves_checkout("master");
}

#[test]
fn a_failed_required_filter_fails_the_deployment() {
    let sandbox = Sandbox::new();
    configure(&sandbox, "filter.broken.smudge", "false");
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.commit(".gitattributes", "*.txt filter=broken\n").commit("a.txt", "as it is\n");
    sandbox.push().warned().serves("a.txt", "as it is\n").serves_checkout("master");
    configure(&sandbox, "filter.broken.required", "true");
    sandbox
        .commit("index.html", "v3")
        .push()
        .not_deployed()
        .says("error: git cannot convert a file: fatal: a.txt: smudge filter broken failed")
        .serves("index.html", "v1");
    sandbox.is_tidy();
}

#[test]
fn an_invalid_encoding_is_reported() {
    let sandbox = Sandbox::new();
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("*.txt working-tree-encoding=no-such\n")),
        (b"a.txt", Node::file("as it is\n")),
    ]);
    sandbox.push().warned().serves("a.txt", "as it is\n").serves_checkout("master");
    sandbox.commit(".gitattributes", "*.txt working-tree-encoding\n");
    sandbox
        .push()
        .not_deployed()
        .says("error: git cannot convert a file: fatal: true/false are no valid working-tree-encodings");
    sandbox.is_tidy();
}

#[test]
fn export_attributes_have_no_effect() {
    let sandbox = Sandbox::new();
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("*.txt export-ignore\n*.md export-subst\n")),
        (b"a.txt", Node::file("here")),
        (b"a.md", Node::file("$Format:%H$")),
    ]);
    sandbox.push().ok().serves("a.txt", "here").serves("a.md", "$Format:%H$").serves_checkout("master");
}

#[test]
fn recycling_writes_only_changed_files() {
    let sandbox = Sandbox::new();
    // Enough files that most are older than the last clock tick. Files written in that tick count as
    // modified.
    let names: Vec<String> = (0..1500).map(|number| format!("{number}.id")).collect();
    let mut nodes: Vec<(&[u8], Node)> =
        names.iter().map(|name| (name.as_bytes(), Node::file(TEXT))).collect();
    nodes.push((b".gitattributes", Node::file("*.id ident\n")));
    nodes.push((b"plain", Node::file(TEXT)));
    sandbox.commit_nodes(&nodes).site_config("keep = 2").push().ok();
    let inode = |path: &str| sandbox.current(path).metadata().unwrap().ino();
    let (first, plain) = (names.iter().map(|name| inode(name)).collect::<Vec<_>>(), inode("plain"));
    // Modify a converted file in the release that is next to be recycled, without changing its size.
    let touched = sandbox.current("0.id");
    let mut content = std::fs::read(&touched).unwrap();
    content[0] ^= 1;
    std::fs::write(&touched, content).unwrap();
    sandbox.commit("round", "two").push().ok();
    sandbox.commit("round", "three").push().ok();
    sandbox.commit("round", "four").push().ok();
    sandbox.commit("round", "five").push().ok().serves_checkout("master");
    let kept = names.iter().zip(&first).filter(|(name, first)| inode(name) == **first).count();
    assert_eq!(plain, inode("plain"));
    assert!(kept > 0 && kept < names.len(), "{kept} kept");
    assert_eq!(plain, inode("plain"));
    assert_ne!(first[0], inode("0.id"));

    for attributes in
        ["*.id -ident\nplain ident\n", "", "", "*.id ident\n", "", "* ident\n", "* ident eol=crlf\n"]
    {
        sandbox.commit(".gitattributes", attributes).push().ok().serves_checkout("master");
    }
    sandbox.is_tidy();
}

#[test]
fn converted_files_get_the_usual_modes_and_umask() {
    let sandbox = Sandbox::new();
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("* ident\n")),
        (b"run", Node::Executable(TEXT.into())),
        (b"read", Node::file(TEXT)),
    ]);
    configure(&sandbox, "core.sharedRepository", "0600");
    let mut push = sandbox.command("sh");
    push.args(["-c", "umask 077; exec git -C \"$0\" push \"$1\" master"]);
    push.arg(sandbox.clone_path()).arg(sandbox.repository());
    crate::support::Run::new(&sandbox, &mut push).ok();
    let mode = |path: &str| sandbox.current(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("run"), mode("read"), mode("")), (0o755, 0o644, 0o755));
}

/// Runs a push with a wrapper around git that logs each call.
fn git_calls(sandbox: &Sandbox) -> Vec<String> {
    let (bin, log) = (sandbox.path("bin"), sandbox.path("calls"));
    let path = std::env::var("PATH").unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\nPATH='{path}'\n[ -z \"$GIT_NO_REPLACE_OBJECTS\" ] || echo \"$*\" >>'{}'\nexec git \"$@\"\n",
        log.display()
    );
    std::fs::write(bin.join("git"), script).unwrap();
    std::fs::set_permissions(bin.join("git"), PermissionsExt::from_mode(0o755)).unwrap();
    let _ = std::fs::remove_file(&log);
    let id = sandbox.id("master");
    sandbox.push().ok();
    let mut hook = sandbox.command(sandbox.hook_path());
    hook.env("PATH", format!("{}:{path}", bin.display()));
    sandbox.run_with_input(&mut hook, format!("{id} {id} refs/heads/master\n").as_bytes()).ok();
    std::fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn a_tree_that_converts_nothing_starts_no_git() {
    let sandbox = Sandbox::new();
    sandbox.commit(".gitattributes", "* text=auto\n*.png binary\n*.sh text eol=lf\n").commit("a.sh", "x");
    assert_eq!(git_calls(&sandbox), [""; 0]);
    sandbox.commit(".gitattributes", "*.sh filter=nobody-defined-it\n");
    let calls = git_calls(&sandbox);
    assert!(calls.len() == 1 && calls[0].contains(" config --list "), "{calls:#?}");
}

#[test]
fn small_trees_without_filters_start_no_git_for_attributes() {
    let sandbox = Sandbox::new();
    sandbox.commit(".gitattributes", "*.sh ident\n").commit("a.sh", "x");
    let calls = git_calls(&sandbox);
    assert!(calls.len() == 3 && !calls.iter().any(|call| call.contains("check-attr")), "{calls:#?}");
    sandbox.commit(".gitattributes", "*.sh filter=upper\n");
    sandbox.git_in(&sandbox.path("repository"), &["config", "filter.upper.smudge", "tr a-z A-Z"]);
    let calls = git_calls(&sandbox);
    assert!(calls.iter().any(|call| call.contains("check-attr")), "{calls:#?}");
}

/// Of the deploy user's own settings, only filters apply, as documented. Needs a mount of its own.
#[test]
fn only_filters_apply_from_the_users_settings() {
    if !crate::support::skip::root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let settings = "[core]\n\tautocrlf = true\n\teol = crlf\n\tattributesFile = /root/attributes\n\
                    [filter \"shout\"]\n\tsmudge = tr a-z A-Z\n";
    sandbox.commit_nodes(&[
        (b".gitattributes", Node::file("*.txt text\n*.loud filter=shout\n")),
        (b"a.txt", Node::file("1\n2\n")),
        (b"a.loud", Node::file("loud\n")),
        (b"a.id", Node::file("$Id$\n")),
    ]);
    std::fs::write(sandbox.path("settings"), settings).unwrap();
    let script = "mount -t tmpfs none /root && cp settings /root/.gitconfig && echo '*.id ident' >/root/attributes && \
                  mkdir -p /root/.config/git && cp /root/attributes /root/.config/git/ && exec git -C clone push ../repository master";
    let mut push = sandbox.command("unshare");
    push.args(["--mount", "sh", "-c", script]);
    let run = crate::support::Run::new(&sandbox, &mut push).ok();
    run.serves("a.txt", "1\n2\n").serves("a.loud", "LOUD\n").serves("a.id", "$Id$\n");
}
