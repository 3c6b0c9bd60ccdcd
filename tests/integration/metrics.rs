//! `metrics`: the metrics that Prometheus scrapes from a server.

use std::process::Command;

use crate::support::Sandbox;
use crate::support::lock::HeldLock;
use crate::support::sandbox::feed;
use crate::support::skip::program_or_skip;

/// Returns the samples of a metric, without the labels that all samples share.
fn samples(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let run = sandbox.bluegreen(&["metrics"]).ok();
    let common = format!("server=\"blue\",site=\"{}\"", sandbox.site().display());
    run.output()
        .lines()
        .filter(|line| line.starts_with(&format!("bluegreen_{name}{{")))
        .map(|line| line.replace(&format!("{common},"), "").replace(&common, ""))
        .collect()
}

#[test]
fn an_empty_site_has_metrics() {
    let sandbox = Sandbox::new();
    assert!(samples(&sandbox, "live_info").is_empty());
    let counted = samples(&sandbox, "changes_total");
    assert_eq!(counted.len(), 8);
    assert!(counted.iter().all(|line| line.ends_with("} 0")), "{counted:?}");
}

#[test]
fn metrics_show_deployments_the_live_commit_the_lock_and_pending_work() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.config_section("[steps]\ncheck = \"false\"").commit("index.html", "v2").push().not_deployed();
    let counted = samples(&sandbox, "changes_total");
    assert_eq!(counted[0], "bluegreen_changes_total{action=\"deploy\",outcome=\"live\"} 1");
    assert_eq!(counted[1], "bluegreen_changes_total{action=\"deploy\",outcome=\"failed\"} 1");
    let count = samples(&sandbox, "change_duration_seconds_count");
    assert_eq!(count[0], "bluegreen_change_duration_seconds_count{action=\"deploy\"} 2");
    let live = format!("commit=\"{}\"}} 1", sandbox.id("master~1"));
    assert!(samples(&sandbox, "live_info")[0].ends_with(&live));
    assert_eq!(samples(&sandbox, "branch_live"), ["bluegreen_branch_live{branch=\"master\"} 0"]);
    assert_eq!(samples(&sandbox, "live_good"), ["bluegreen_live_good{} 1"]);
    assert!(samples(&sandbox, "side_public").is_empty(), "no promotion has marked the side yet");
    assert_eq!(samples(&sandbox, "pending")[2], "bluegreen_pending{kind=\"tip\"} 0");

    // A tip that no deployment has examined, as after a crash.
    let clone = sandbox.commit("index.html", "v3").clone_path();
    let fetch = ["fetch", "--quiet", clone.to_str().unwrap(), "master:master"];
    sandbox.git_in(&sandbox.repository(), &fetch);
    assert_eq!(samples(&sandbox, "pending")[2], "bluegreen_pending{kind=\"tip\"} 1");
    std::fs::write(
        sandbox.site().join(".bluegreen/public"),
        r#"{"public":true,"since":"2026-11-22T20:15:00Z"}"#,
    )
    .unwrap();
    assert_eq!(samples(&sandbox, "side_public"), ["bluegreen_side_public{} 1"]);

    let held = |sandbox| samples(sandbox, "lock_held").iter().filter(|line| line.ends_with(" 1")).count();
    assert_eq!(held(&sandbox), 0);
    let _lock = HeldLock::take(&sandbox);
    assert_eq!((held(&sandbox), samples(&sandbox, "lock_since_timestamp_seconds").len()), (1, 1));
}

#[test]
fn prometheus_accepts_the_metrics() {
    if !program_or_skip("promtool") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    let _lock = HeldLock::take(&sandbox);
    let text = sandbox.bluegreen(&["metrics"]).ok().output().to_owned();
    let checked = feed(Command::new("promtool").args(["check", "metrics"]), text.as_bytes());
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.is_empty(), "{said}\n{text}");
}
