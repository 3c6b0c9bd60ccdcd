//! Pushes of various refs, and the lines that the pusher reads.

use crate::support::{Node, Sandbox};

const RECEIVED: &str = "Master ref received.  Deploying master branch to blue...";
const COMPLETE: &str = "Git hooks deploy complete.";

#[test]
fn the_first_push_deploys_into_an_empty_site() {
    let sandbox = Sandbox::new();
    sandbox
        .commit("index.html", "v1")
        .push()
        .ok()
        .says_only(&[RECEIVED, "Release <release> is live: 1 file changed, <time>", COMPLETE])
        .serves("index.html", "v1")
        .serves_checkout("master");
    sandbox.is_tidy();
    let current = sandbox.site().join("current").read_link().unwrap();
    assert_eq!(current.to_str().unwrap(), format!("releases/{}", sandbox.live()), "a relative link");
}

#[test]
fn an_update_deploys_a_new_release() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let first = sandbox.live();
    sandbox
        .commit_nodes(&[(b"index.html", Node::file("v2")), (b"about.html", Node::file("new"))])
        .push()
        .ok()
        .says_only(&[RECEIVED, "Release <release> is live: 2 files changed, <time>", COMPLETE])
        .serves_checkout("master");
    assert_eq!(sandbox.releases(), [first.clone(), sandbox.live()], "the old release must be kept");
    let old = std::fs::read_to_string(sandbox.site().join("releases").join(first).join("index.html"));
    assert_eq!(old.unwrap(), "v1");
}

#[test]
fn a_forced_push_deploys_an_older_commit() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").commit("index.html", "v2").push().ok();
    sandbox
        .push_refs(&["+master^:refs/heads/master"])
        .ok()
        .says_only(&[RECEIVED, "Release <release> is live: 1 file changed, <time>", COMPLETE])
        .serves("index.html", "v1");
}

#[test]
fn deleting_the_branch_leaves_the_site_unchanged() {
    let sandbox = Sandbox::new();
    sandbox.git_in(&sandbox.repository(), &["config", "receive.denyDeleteCurrent", "ignore"]);
    sandbox.commit("index.html", "v1").push().ok();
    sandbox
        .push_refs(&[":master"])
        .ok()
        .says_only(&["Master ref deleted.  Doing nothing: blue still serves <commit> (release <release>)."])
        .serves("index.html", "v1");
    sandbox.commit("index.html", "v2").push().ok().says(RECEIVED).serves("index.html", "v2");
}

#[test]
fn deleting_the_branch_before_any_deployment_reports_an_empty_site() {
    let sandbox = Sandbox::new();
    let zero = "0".repeat(40);
    sandbox
        .commit("index.html", "v1")
        .as_git(format!("{} {zero} refs/heads/master\n", sandbox.id("master")))
        .ok()
        .says_only(&["Master ref deleted.  Doing nothing: blue serves nothing yet."])
        .serves_nothing();
}

#[test]
fn only_the_exact_branch_name_deploys() {
    let sandbox = Sandbox::new();
    let doing_nothing = |name: &str| {
        format!(
            "Ref {name} successfully received.  Doing nothing: only the master branch may be deployed on this server."
        )
    };
    for name in
        ["refs/heads/topic", "refs/heads/x/master", "refs/tags/master", "refs/heads/master2", "refs/x/y"]
    {
        let told = sandbox.commit("index.html", name).push_refs(&[&format!("master:{name}")]).ok();
        assert_eq!(told.lines()[0], doing_nothing(name));
        // As long as master does not exist, the pusher may have meant another branch.
        let hints = told.lines().iter().filter(|line| line.starts_with("hint: to deploy it, run ")).count();
        assert_eq!(
            (hints, told.lines().len()),
            if name.starts_with("refs/heads/") { (1, 2) } else { (0, 1) }
        );
        told.serves_nothing();
    }
    assert!(
        !sandbox.site().join("releases").exists(),
        "a push that deploys nothing must not change the site"
    );
}

#[test]
fn each_ref_of_a_push_is_reported() {
    let sandbox = Sandbox::new();
    sandbox
        .commit("index.html", "v1")
        .push_refs(&["master", "master:refs/heads/topic", "master:refs/tags/v1"])
        .ok()
        .says_only(&[
            RECEIVED,
            "Release <release> is live: 1 file changed, <time>",
            COMPLETE,
            "Ref refs/heads/topic successfully received.  Doing nothing: only the master branch may be deployed on this server.",
            "Ref refs/tags/v1 successfully received.  Doing nothing: only the master branch may be deployed on this server.",
        ])
        .serves("index.html", "v1");
}

#[test]
fn a_tag_named_master_does_not_deploy() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "tagged").git(&["update-ref", "refs/tags/master", "refs/heads/master"]);
    sandbox
        .commit("index.html", "branch")
        .push_refs(&["refs/tags/master", "refs/heads/master"])
        .ok()
        .serves("index.html", "branch");
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "branch");
}

#[test]
fn the_deployed_branch_is_configurable() {
    let sandbox = Sandbox::new();
    sandbox.config("branch = \"main\"").commit("index.html", "v1");
    sandbox
        .push_refs(&["master:refs/heads/main"])
        .ok()
        .says_only(&[
            "Main ref received.  Deploying main branch to blue...",
            "Release <release> is live: 1 file changed, <time>",
            COMPLETE,
        ])
        .serves("index.html", "v1");
    sandbox
        .push()
        .ok()
        .says_only(&["Ref refs/heads/master successfully received.  Doing nothing: only the main branch may be deployed on this server."]);
}

#[test]
fn a_branch_with_slashes_deploys_but_not_its_last_component() {
    let sandbox = Sandbox::new();
    sandbox.config("branch = \"release/blue\"").commit("index.html", "v1");
    sandbox
        .push_refs(&["master:refs/heads/release/blue"])
        .ok()
        .says("Release/blue ref received.  Deploying release/blue branch to blue...")
        .serves("index.html", "v1");
}

#[test]
fn a_live_tip_is_not_deployed_again() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let (live, id) = (sandbox.live(), sandbox.id("master"));
    sandbox.as_git(format!("{id} {id} refs/heads/master\n")).ok().says_only(&[
        RECEIVED,
        "Nothing to do: <commit> is already live (release <release>).",
        COMPLETE,
    ]);
    assert_eq!(sandbox.live(), live);
    assert_eq!(sandbox.releases().len(), 1);
    assert_eq!(sandbox.history().len(), 1, "a no-op must not be recorded");
}

#[test]
fn the_branch_tip_is_deployed_rather_than_the_pushed_commit() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1");
    let old = sandbox.id("master");
    // The ref moves on between the push and its hook.
    sandbox.commit("index.html", "v2").push().ok();
    sandbox.bluegreen(&["deploy", &old]).ok().serves("index.html", "v1");
    sandbox
        .as_git(format!("{} {old} refs/heads/master\n", "0".repeat(40)))
        .ok()
        .says_only(&[
            RECEIVED,
            "Commit <commit> is superseded by <commit>, the tip of the branch.",
            "Release <release> is live: 1 file changed, <time>",
            COMPLETE,
        ])
        .serves("index.html", "v2");
}

#[test]
fn an_empty_commit_deploys_an_empty_site() {
    let sandbox = Sandbox::new();
    sandbox
        .commit_tree(&[])
        .push()
        .ok()
        .says("Release <release> is live: 0 files changed, <time>")
        .serves_checkout("master");
}

#[test]
fn the_hook_can_be_a_copy_instead_of_a_symlink() {
    let sandbox = Sandbox::new();
    std::fs::remove_file(sandbox.hook_path()).unwrap();
    crate::support::run::copy_program(&sandbox.hook_path());
    sandbox.commit("index.html", "v1").push().ok().says(COMPLETE).serves("index.html", "v1");
}

#[test]
fn thousands_of_files_and_their_directories_are_deployed() {
    let sandbox = Sandbox::new();
    let paths: Vec<String> =
        (0..3000).map(|file| format!("d{}/e{}/file {file}.txt", file % 7, file % 31)).collect();
    let nodes: Vec<(&[u8], Node)> =
        paths.iter().map(|path| (path.as_bytes(), Node::file(path.repeat(1 + path.len() % 50)))).collect();
    sandbox
        .commit_nodes(&nodes)
        .push()
        .ok()
        .says("Release <release> is live: 3000 files changed, <time> (1.2 MB of 3000 files in all)")
        .serves_checkout("master");
}

#[test]
fn the_pushers_git_environment_is_ignored() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1");
    // Over a local path, the hook inherits the pusher's whole environment.
    let mut push = sandbox.push_command(&["master"]);
    push.env("GIT_INDEX_FILE", "/nonexistent/index").env("GIT_WORK_TREE", "/nonexistent");
    crate::support::Run::new(&sandbox, &mut push).ok().serves("index.html", "v1");
    assert!(!sandbox.repository().join("index").exists(), "the checkout must not create an index");
}

#[test]
fn the_pushers_umask_is_ignored() {
    let sandbox = Sandbox::new();
    sandbox.commit_nodes(&[(b"a/file", Node::file("1")), (b"a/run", Node::Executable(b"2".to_vec()))]);
    let mut shell = sandbox.command("sh");
    let push = format!("umask 077; exec git -C clone push {} master", sandbox.repository().display());
    crate::support::Run::new(&sandbox, shell.args(["-c", &push])).ok().serves_checkout("master");
}

#[test]
fn replaced_objects_are_not_deployed() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1");
    let first = sandbox.id("master");
    sandbox.commit("index.html", "v2").push().ok();
    let replace = format!("{first}:refs/replace/{}", sandbox.id("master"));
    sandbox.push_refs(&[&replace]).ok();
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v2");
}

#[test]
fn the_option_timing_prints_durations_that_add_up() {
    let sandbox = Sandbox::new();
    sandbox.git_in(&sandbox.repository(), &["config", "receive.advertisePushOptions", "true"]);
    sandbox.config_section("[steps]\nbuild = 'sleep 0.2'\ncheck = 'test ! -e broken'\n");
    let timed = sandbox.commit("a", "1").push_refs(&["-o", "timing", "master"]).ok();
    let rows = durations(timed.output());
    let phases: Vec<&str> = rows.iter().map(|(phase, _)| phase.as_str()).collect();
    for phase in ["git: receive the push", "check out", "build: sleep 0.2", "activate", "prune", "in all"] {
        assert!(phases.contains(&phase), "{phase}: {rows:?}");
    }
    let build = rows.iter().find(|(phase, _)| phase == "build: sleep 0.2").unwrap().1;
    let (parts, all) = (rows[..rows.len() - 1].iter().map(|row| row.1).sum::<f64>(), rows[rows.len() - 1].1);
    assert!(build >= 0.2 && (parts - all).abs() < 0.001 * rows.len() as f64, "{rows:?}");

    let failed = sandbox.commit("broken", "").push_refs(&["-o", "timing", "master"]);
    let failed = failed.not_deployed().says("Not deployed: blue still serves <commit> (release <release>).");
    assert!(durations(failed.output()).iter().any(|(phase, _)| phase == "check: test ! -e broken"));
}

/// Returns the rows that the push option `timing` printed: phases and seconds.
fn durations(output: &str) -> Vec<(String, f64)> {
    let row = |line: &str| {
        let (seconds, phase) = line.strip_prefix("remote: ")?.trim().split_once(" s  ")?;
        Some((phase.to_owned(), seconds.parse().ok()?))
    };
    output.lines().skip_while(|line| !line.starts_with("remote: Timing:")).filter_map(row).collect()
}
