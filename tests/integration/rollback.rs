//! Manual commands: rollback, redeployment, and inspection.

use crate::support::{Node, Sandbox};
use serde_json::Value;

/// Deploys three versions of one file, and returns the names of their releases.
fn three_versions() -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new();
    for version in ["v1", "v2", "v3"] {
        sandbox.commit_to("master", &format!("Write {version}"), &[(b"index.html", Node::file(version))]);
        sandbox.push().ok();
    }
    let releases = sandbox.releases();
    (sandbox, releases)
}

#[test]
fn rollback_goes_back_step_by_step_to_the_first_release() {
    let (sandbox, releases) = three_versions();
    sandbox
        .bluegreen(&["rollback"])
        .ok()
        .says_only(&["Release <release> is live again, instead of <release>: <time>"])
        .serves("index.html", "v2");
    assert_eq!(sandbox.live(), releases[1]);
    sandbox.bluegreen(&["rollback"]).ok().serves("index.html", "v1");
    sandbox
        .bluegreen(&["rollback"])
        .fails(1)
        .says_only(&[
            "error: no good release is older than the live one",
            "hint: run `bluegreen releases` to list them",
            "Not rolled back: blue still serves <commit> (release <release>).",
        ])
        .serves("index.html", "v1");
    assert_eq!(sandbox.releases(), releases, "a rollback must not remove releases");
}

#[test]
fn rollback_activates_the_given_release() {
    let (sandbox, releases) = three_versions();
    sandbox.bluegreen(&["rollback", &releases[0]]).ok().serves("index.html", "v1");
    sandbox.bluegreen(&["rollback", &releases[2]]).ok().serves("index.html", "v3");
    sandbox
        .bluegreen(&["rollback", &releases[2]])
        .ok()
        .says_only(&["Nothing to do: <commit> is already live (release <release>)."]);
}

#[test]
fn rollback_to_a_nonexistent_release_fails() {
    let (sandbox, _) = three_versions();
    for name in ["20200101T000000Z-000000000000", "v1", "../../etc", ".bluegreen", ""] {
        let told = sandbox.bluegreen(&["rollback", name]).fails(1);
        let said = told.lines();
        assert!(said[0].starts_with("error: unknown release `"), "{said:?}");
        told.says("hint: run `bluegreen releases` to list them").serves("index.html", "v3");
    }
}

#[test]
fn rollback_skips_bad_releases() {
    let (sandbox, releases) = three_versions();
    let record = |name: &str| sandbox.site().join(format!(".bluegreen/releases/{name}.toml"));
    let text = std::fs::read_to_string(record(&releases[1])).unwrap();
    std::fs::write(record(&releases[1]), text.replace("ready", "bad")).unwrap();
    sandbox
        .bluegreen(&["rollback", &releases[1]])
        .fails(1)
        .says("error: cannot roll back to release <release>: it is marked bad");
    sandbox.bluegreen(&["rollback"]).ok().serves("index.html", "v1");
    std::fs::remove_file(record(&releases[2])).unwrap();
    sandbox.bluegreen(&["rollback", &releases[2]]).fails(1).serves("index.html", "v1");
}

#[test]
fn deploy_accepts_any_revision_that_git_resolves() {
    let (sandbox, _) = three_versions();
    sandbox.git(&["tag", "first", "master~2"]);
    sandbox.git(&["-c", "user.name=x", "tag", "-a", "-m", "annotated", "second", "master~1"]);
    sandbox.git(&["update-ref", "refs/heads/topic", "master~2"]);
    sandbox.push_refs(&["first", "second", "topic"]).ok();
    let id = sandbox.id("master~2");
    for (revision, version) in [
        ("first", "v1"),
        ("second", "v2"),
        ("topic", "v1"),
        ("master~1", "v2"),
        (&id, "v1"),
        (&sandbox.id("master~1")[..8], "v2"),
        ("refs/heads/master", "v3"),
    ] {
        sandbox.bluegreen(&["deploy", revision]).ok().serves("index.html", version);
    }
}

#[test]
fn deploy_without_a_revision_creates_a_new_release_of_the_branch() {
    let (sandbox, releases) = three_versions();
    std::fs::write(sandbox.current("index.html"), "changed in place").unwrap();
    sandbox
        .bluegreen(&["deploy"])
        .ok()
        .says_only(&[
            "Master ref received.  Deploying master branch to blue...",
            "Release <release> is live: 0 files changed, <time>",
            "Git hooks deploy complete.",
        ])
        .serves("index.html", "v3");
    assert!(!releases.contains(&sandbox.live()));
}

#[test]
fn an_unresolvable_revision_is_rejected() {
    let (sandbox, _) = three_versions();
    let tree = sandbox.id("master^{tree}");
    for revision in ["nowhere", "master~7", "--help-me", "master:index.html", &tree, "", "0000000000"] {
        let told = sandbox.bluegreen(&["deploy", "--", revision]).fails(1);
        told.says(&format!("error: unknown revision `{}`", crate::support::normalize::normalize(revision)))
            .serves("index.html", "v3");
    }
    let empty = Sandbox::new();
    empty
        .bluegreen(&["deploy"])
        .fails(1)
        .says_only(&["error: branch `master` does not exist", "hint: push it first"]);
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let (sandbox, releases) = three_versions();
    sandbox.site_config("keep = 1");
    let before = crate::support::snapshot(&sandbox.site());
    sandbox.bluegreen(&["deploy", "--dry-run", "master~1"]).ok().says_only(&[
        "Would deploy <commit> (Write v2) to <site>: 1 file, 1 file changed, recycling <release>",
    ]);
    sandbox.site_config("symlinks = \"inside\"");
    sandbox.commit_nodes(&[(b"out", Node::link("/etc/passwd"))]).push().not_deployed();
    sandbox
        .bluegreen(&["deploy", "--dry-run"])
        .fails(1)
        .says("error: symlink `out` points outside the release, to `/etc/passwd`");
    sandbox.bluegreen(&["deploy", "--dry-run", "nowhere"]).fails(1);
    assert_eq!(sandbox.releases(), releases);
    let after = crate::support::snapshot(&sandbox.site());
    let state = |path: &&std::ffi::OsString| path.to_string_lossy().contains(".bluegreen");
    assert!(before.keys().filter(|path| !state(path)).eq(after.keys().filter(|path| !state(path))));
}

#[test]
fn a_dry_run_in_an_empty_site_leaves_it_empty() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push_refs(&["master:refs/heads/topic"]).ok();
    sandbox
        .bluegreen(&["deploy", "--dry-run", "topic"])
        .ok()
        .says_only(&["Would deploy <commit> (Change the site) to <site>: 1 file, 1 file changed"]);
    assert_eq!(sandbox.site().read_dir().unwrap().count(), 0);
}

#[test]
fn manual_hook_input_redeploys_a_live_revision() {
    let (sandbox, releases) = three_versions();
    let (zero, old, tip) = ("0".repeat(40), sandbox.id("master~2"), sandbox.id("master"));
    sandbox.by_hand(format!("{zero} {old} refs/heads/master\n")).ok().serves("index.html", "v1");
    sandbox.by_hand(format!("{old} {tip} refs/heads/master")).ok().serves("index.html", "v3");
    let live = sandbox.live();
    sandbox.by_hand(format!("{old} {tip} refs/heads/master\n")).ok();
    assert_ne!(sandbox.live(), live, "a manual deployment of a live commit must create a new release");
    assert_eq!(sandbox.releases().len(), releases.len() + 3);
}

#[test]
fn the_repository_is_found_through_the_hook_git_dir_or_the_working_directory() {
    let (sandbox, releases) = three_versions();
    let run = |command: &mut std::process::Command| {
        crate::support::Run::new(&sandbox, command.stdin(std::process::Stdio::null())).ok();
        let live = sandbox.live();
        sandbox.bluegreen(&["rollback", &releases[2]]).ok();
        assert_eq!(live, releases[1]);
    };
    run(sandbox.command(sandbox.hook_path()).arg("rollback").current_dir("/"));
    run(sandbox
        .command(crate::support::sandbox::BLUEGREEN)
        .arg("rollback")
        .current_dir(sandbox.repository()));
    let mut by_environment = sandbox.command(crate::support::sandbox::BLUEGREEN);
    run(by_environment.arg("rollback").env("GIT_DIR", sandbox.repository()).current_dir("/"));
    run(sandbox
        .command(crate::support::sandbox::BLUEGREEN)
        .arg("rollback")
        .arg("-C")
        .arg(sandbox.repository()));
}

#[test]
fn releases_lists_the_newest_first() {
    let (sandbox, releases) = three_versions();
    sandbox.bluegreen(&["rollback"]).ok();
    let told = sandbox.bluegreen(&["releases"]).ok();
    let width = releases.iter().map(String::len).max().unwrap();
    let mut expected = vec![format!("{:width$}  STATE  COMMIT        SUBJECT", "RELEASE")];
    for (release, state, version) in [(2, "ready", "v3"), (1, "live ", "v2"), (0, "ready", "v1")] {
        let name = &releases[release];
        expected.push(format!("{name:width$}  {state}  {}  Write {version}", &name[17..29]));
    }
    assert_eq!(told.output().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn json_keeps_its_field_names() {
    let (sandbox, releases) = three_versions();
    let json = |command: &str| -> Value {
        serde_json::from_str(sandbox.bluegreen(&[command, "--json"]).ok().output()).unwrap()
    };
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let rows = json("releases");
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert_eq!(keys(&rows[0]), "commit files live name sealed state subject");
    assert_eq!(rows[0]["name"], releases[2]);
    assert_eq!((&rows[0]["live"], &rows[1]["live"]), (&true.into(), &false.into()));
    assert_eq!((&rows[0]["state"], &rows[0]["files"]), (&"ready".into(), &1.into()));
    assert_eq!(rows[0]["commit"], sandbox.id("master"));

    let status = json("status");
    assert_eq!(
        keys(&status),
        "branch commit elsewhere good live lock pending protocol public role running sealed server since site subject tip unchanged why"
    );
    assert_eq!(status["live"], releases[2]);
    let second = |value: &Value| humantime::parse_rfc3339(value.as_str().unwrap()).unwrap();
    assert!(second(&status["since"]) >= second(&status["sealed"]));
    assert_eq!((&status["running"], &status["elsewhere"]), (&Value::Null, &Value::Null));

    sandbox.bluegreen(&["rollback"]).ok();
    let history = json("history");
    assert_eq!(keys(&history[0]), "action by new old outcome release seconds time");
    assert_eq!(keys(&history[0]["by"]), "user");
    assert_eq!((&history[0]["action"], &history[0]["outcome"]), (&"rollback".into(), &"live".into()));
    assert_eq!(
        (&history[0]["old"], &history[0]["new"]),
        (&sandbox.id("master").into(), &sandbox.id("master~1").into())
    );
    assert!(history[0]["seconds"].is_f64());
    assert_eq!((&history[3]["action"], &history[3]["old"]), (&"deploy".into(), &Value::Null));
}

#[test]
fn status_reports_the_live_release_and_pending_work() {
    let sandbox = Sandbox::new();
    let ends = |lines: &[&'static str], last: [&'static str; 2]| [lines, &last].concat();
    let site = "Site:     <site>";
    sandbox.bluegreen(&["status"]).ok().says_only(&[
        "Server:   blue",
        site,
        "Live:     nothing",
        "Branch:   master does not exist yet",
        "Running:  nothing",
    ]);
    sandbox.commit("index.html", "v1").push().ok();
    let live = [
        "Server:   blue",
        site,
        "Live:     <release>",
        "Commit:   <commit> Change the site",
        "Since:    <time> (just now)",
    ];
    sandbox
        .bluegreen(&["status"])
        .ok()
        .says_only(&ends(&live, ["Branch:   master is live", "Running:  nothing"]));
    sandbox.config("lock-timeout = \"0s\"").commit("index.html", "v2");
    {
        let _lock = crate::support::lock::HeldLock::take(&sandbox);
        sandbox.push().not_deployed();
    }
    sandbox.bluegreen(&["status"]).ok().says_only(
        &[
            &live[..],
            &[
                "Branch:   master is at <commit>, which is not live",
                "Pending:  master is at <commit>, which was never deployed: `bluegreen resume`",
                "Running:  nothing",
            ],
        ]
        .concat(),
    );
}

#[test]
fn history_records_action_user_and_outcome() {
    let sandbox = Sandbox::new();
    let mut push = sandbox.commit("index.html", "v1").push_command(&["master"]);
    push.env("SSH_CONNECTION", "192.0.2.7 50000 192.0.2.1 22");
    crate::support::Run::new(&sandbox, &mut push).ok();
    sandbox.commit_nodes(&[(b"out", Node::link("../.."))]).push().not_deployed();
    let mut deploy = sandbox.bluegreen_command(&["deploy", "master~1"]);
    crate::support::Run::new(&sandbox, deploy.env("SUDO_USER", "alice")).ok();
    let history = sandbox.history();
    let outcomes: Vec<_> = history.iter().map(|entry| entry["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["live", "failed", "live"]);
    assert_eq!(history[0]["by"]["ssh"], "192.0.2.7");
    assert_eq!(history[2]["by"]["sudo"], "alice");
    assert_eq!(history[1]["error"], "symlink `out` points outside the release, to `../..`");
    assert_eq!(
        (&history[1]["old"], &history[1]["new"]),
        (&sandbox.id("master~1").into(), &sandbox.id("master").into())
    );
    let told = sandbox.bluegreen(&["history"]).ok();
    let lines = told.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with("TIME"));
    assert!(lines[1].contains("deployment  alice"), "{lines:?}");
    assert!(lines[2].ends_with("failed: symlink `out` points outside the release, to `../..`"), "{lines:?}");
    assert!(lines[3].contains("from 192.0.2.7"), "{lines:?}");
}

#[test]
fn wrong_usage_exits_with_2() {
    let sandbox = Sandbox::new();
    for arguments in [&["frobnicate"][..], &["deploy", "a", "b"], &["status", "--xml"], &["hook", "pre-push"]]
    {
        let run = sandbox.bluegreen(arguments);
        assert_eq!(run.status.code(), Some(2), "{}", run.output);
        let _ = run.fails(2);
    }
    sandbox.bluegreen(&["--version"]).ok();
    sandbox.bluegreen(&["--help"]).ok().says("Usage: bluegreen [OPTIONS] <COMMAND>");
}
