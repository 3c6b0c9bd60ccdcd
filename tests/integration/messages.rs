//! Messages after typical mistakes: each says what failed, what is live, and what to type.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;

use crate::support::sandbox::{BLUEGREEN, NOBODY};
use crate::support::skip::{program_or_skip, root_or_skip};
use crate::support::{Run, Sandbox};

#[test]
fn an_unreadable_home_directory_hints_at_sudo() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    fs::set_permissions(sandbox.repository(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut status = sandbox.bluegreen_command(&["status"]);
    Run::new(&sandbox, status.uid(NOBODY).gid(NOBODY))
        .fails(2)
        .says("error: cannot open the repository `<repository>`: permission denied")
        .says("hint: run it as the repository's owner: `sudo bluegreen -C <repository> ...`");
}

#[test]
fn a_missing_current_is_reported_and_repaired_by_a_rollback() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    fs::remove_file(sandbox.site().join("current")).unwrap();
    sandbox
        .bluegreen(&["status"])
        .ok()
        .says("Live:     nothing")
        .says("Pending:  `current` is missing, so nothing is served: `bluegreen rollback`")
        .never_says("never deployed");
    sandbox.bluegreen(&["check"]).warned().says("hint: `bluegreen rollback`");
    sandbox.bluegreen(&["rollback"]).ok().serves("index.html", "v1");
    sandbox.bluegreen(&["check"]).warned().never_says("`current` is missing");
}

#[test]
fn a_directory_owned_by_another_user_is_reported_with_a_command() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").owned_by(NOBODY).push().ok();
    let releases = sandbox.site().join("releases");
    std::os::unix::fs::chown(&releases, Some(0), Some(0)).unwrap();
    let run = sandbox.commit("index.html", "v2").push().not_deployed();
    run.says("hint: let nobody own `<site>/releases`").serves("index.html", "v1");
}

#[test]
fn a_missing_shared_file_is_created_as_the_owner() {
    let sandbox = Sandbox::new();
    sandbox.config_section("[shared]\nfiles = ['.env']");
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).unwrap().unwrap().name;
    let command = "'mkdir -p <site>/shared && ${EDITOR:-vi} <site>/shared/.env'";
    let hint = format!("hint: create it on the server: `sudo -u {user} sh -c {command}`");
    let run = sandbox.commit("index.html", "v1").push().not_deployed();
    run.says("error: the shared file `<site>/shared/.env` is missing").says(&hint);
    // `check` reports it before the first push fails.
    sandbox
        .bluegreen(&["check"])
        .fails(1)
        .says("error: the shared file `<site>/shared/.env` is missing")
        .says(&hint);
}

#[test]
fn the_first_push_to_another_branch_prints_how_to_deploy_it() {
    let sandbox = Sandbox::new();
    let line = "Ref refs/heads/main successfully received.  Doing nothing: only the master branch may be deployed on this server.";
    let hint = "hint: to deploy it, run `git push blue main:master`, or set `branch = \"main\"` in <repository>/bluegreen.toml on blue";
    sandbox.commit("index.html", "v1").push_refs(&["master:main"]).ok().says_only(&[line, hint]);
    sandbox
        .bluegreen(&["check"])
        .warned()
        .says("warning: `main` was pushed, but only `master` deploys, and it does not exist")
        .says("hint: set `branch = \"main\"` in <repository>/bluegreen.toml, or push main:master");
    sandbox.push_refs(&["master:refs/tags/v1"]).ok().never_says("hint:");
    sandbox.push_refs(&["master:one", "master:two"]).ok().never_says("hint:");
    sandbox.push().ok().serves("index.html", "v1");
    // Once the branch exists, pushes to other branches print no hint.
    sandbox.push_refs(&["master:topic"]).ok().never_says("hint:");
}

#[test]
fn a_failed_health_check_names_the_address_and_the_journal() {
    if !program_or_skip("curl") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    // Bind a port and close it, so that nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/health");
    sandbox.config_section(&format!(
        "[steps]\nrestart = 'true # systemctl restart app'\nverify = {{ name = 'health', run = 'curl -fsS {url}' }}"
    ));
    sandbox
        .commit("index.html", "v2")
        .push()
        .not_deployed()
        .says(&format!("error: step `health` exited with status 7: no response from {url}"))
        .says("hint: run `journalctl -u app -n 50` on blue, fix it, and push again")
        .says("Not deployed: blue still serves <commit> (release <release>).")
        .serves("index.html", "v1");
}

#[test]
fn check_reports_what_would_fail_a_deployment() {
    let sandbox = Sandbox::new();
    sandbox.config_section(
        "[steps]\nbuild = ['no-such-program install', \"cd . && no-such-builder | cat\", 'echo \"a; no-such-word b\"']\n\
         restart = 'sudo /usr/bin/systemctl restart no-such-unit.service'\n[notify]\nrun = 'no-such-notifier'",
    );
    sandbox.commit("index.html", "v1");
    let check = sandbox
        .bluegreen(&["check"])
        .fails(1)
        .says("error: step `no-such-program install`: `no-such-program` is not installed")
        .says("error: step `cd . && no-such-builder | cat`: `no-such-builder` is not installed")
        .says("warning: notice `no-such-notifier`: `no-such-notifier` is not installed")
        .never_says("no-such-word b`:")
        .never_says("All is well");
    if std::path::Path::new("/usr/lib/systemd/system").exists() {
        let step = "step `sudo /usr/bin/systemctl restart no-such-unit.service`";
        check.says(&format!("error: {step}: the unit `no-such-unit.service` does not exist"));
    }
    // A directory that the web server cannot enter.
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    fs::set_permissions(sandbox.site(), fs::Permissions::from_mode(0o700)).unwrap();
    sandbox
        .bluegreen(&["check"])
        .warned()
        .says("warning: `<site>` is closed to other users, so a web server cannot serve the site")
        .says("hint: `sudo -u root chmod o+x <site>`");
}

#[test]
fn shells_complete_releases_and_sides() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let repository = sandbox.repository().display().to_string();
    let complete = |words: &[&str]| {
        let mut command = sandbox.command(BLUEGREEN);
        let index = (words.len() - 1).to_string();
        command.env("BLUEGREEN_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index).env("_CLAP_IFS", "\n");
        command.current_dir(sandbox.clone_path()).arg("--").args(words);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    for command in ["rollback", "log"] {
        let found = complete(&["bluegreen", "-C", &repository, command, ""]);
        assert!(found.lines().any(|line| line == sandbox.live()), "{command}: {found}");
    }
    assert!(complete(&["bluegreen", "hist"]).contains("history"));
    sandbox.git(&["remote", "add", "blue", &repository]);
    for command in ["push", "promote"] {
        let found = complete(&["bluegreen", command, ""]);
        assert!(found.lines().any(|line| line == "blue"), "{command}: {found}");
    }
    let script = sandbox.bluegreen(&["generate", "bash"]).ok().output().to_owned();
    assert!(script.contains("BLUEGREEN_COMPLETE") && script.contains("\"bluegreen\" --"), "{script}");
}

#[test]
fn the_man_page_is_complete_and_self_contained() {
    let sandbox = Sandbox::new();
    let page = sandbox.bluegreen(&["generate", "man"]).ok().output().to_owned();
    assert!(!page.contains("(1)") && !page.contains("[\\fB\\-C\\fR ]") && !page.contains("flip"), "{page}");
    assert!(
        page.contains("\\fB\\-C\\fR \\fIREPOSITORY\\fR") && page.contains("\\-\\-limit\\fR \\fI<NUMBER>\\fR"),
        "{page}"
    );
    assert!(page.contains("Exit status"), "{page}");
    for command in ["push", "promote", "public"] {
        let help = sandbox.bluegreen(&[command, "--help"]).ok().output().to_owned();
        assert!(!help.contains("hook"), "{help}");
    }
}

#[test]
fn history_shows_ages_and_accepts_a_limit() {
    let sandbox = Sandbox::new();
    for version in ["v1", "v2", "v3"] {
        sandbox.commit("index.html", version).push().ok();
    }
    let history = sandbox.bluegreen(&["history", "--limit", "2"]).ok().output().to_owned();
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("TIME                  AGE       ACTION"), "{history}");
    assert!(lines[1].contains("Z  just now  deployment"), "{history}");
    assert!(sandbox.bluegreen(&["status"]).ok().output().contains("(just now)"));
    let json = sandbox.bluegreen(&["history", "-n", "1", "--json"]).ok().output().to_owned();
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&json).unwrap().len(), 1);
}

#[test]
fn a_dangling_hook_symlink_is_reported() {
    let sandbox = Sandbox::new();
    fs::remove_file(sandbox.hook_path()).unwrap();
    symlink("/nowhere/bluegreen", sandbox.hook_path()).unwrap();
    sandbox
        .bluegreen_command(&["check"])
        .output()
        .map(|output| assert!(String::from_utf8_lossy(&output.stdout).contains("is a dangling symlink")))
        .unwrap();
}
