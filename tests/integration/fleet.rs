//! `bluegreen push`: pushes to all servers of a side in parallel, and handles those that fail.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Sandbox;
use crate::support::lock::HeldLock;
use crate::support::sandbox::BLUEGREEN;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Several servers, and a clone whose remote `blue` has the URLs of all of them.
struct Side(Vec<Sandbox>);

impl Side {
    fn new(servers: usize) -> Self {
        let side = Self((0..servers).map(|_| Sandbox::new()).collect());
        side.clone().git(&["remote", "add", "blue", "/nowhere"]);
        for server in &side.0 {
            let url = server.repository();
            side.clone().git(&["remote", "set-url", "--add", "--push", "blue", url.to_str().unwrap()]);
        }
        side.clone().commit("index.html", "v1");
        side
    }

    fn clone(&self) -> &Sandbox {
        &self.0[0]
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.clone().command(BLUEGREEN);
        command.args(["push", "blue"]).args(arguments).current_dir(self.clone().clone_path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Pushes, and returns the exit status, standard output, and standard error.
    fn push(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Pushes, and returns the exit status and, in order, each server's result and problem.
    fn results(&self, arguments: &[&str]) -> (i32, Vec<[String; 2]>) {
        let (status, out, _) = self.push(&[arguments, &["--json"]].concat());
        let rows: Vec<Value> = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}"));
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        (status, rows.iter().map(|row| [text(row, "result"), text(row, "problem")]).collect())
    }

    fn name(&self, server: usize) -> String {
        self.0[server].repository().display().to_string()
    }
}

#[test]
fn all_servers_are_pushed_to_in_parallel_without_mixing_lines() {
    let side = Side::new(3);
    // Each build finishes only after all have started.
    let meeting = side.clone().path("meeting");
    fs::create_dir(&meeting).unwrap();
    for (at, server) in side.0.iter().enumerate() {
        let run = format!(
            "touch {0}/{at}; until test $(ls {0} | wc -l) = 3; do sleep 0.05; done; seq -f '{at} says %g' 500",
            meeting.display()
        );
        server.config_section(&format!("[steps]\nbuild = {{ run = \"{run}\", timeout = '30s' }}"));
    }
    let (status, out, errors) = side.push(&["master"]);
    assert_eq!((status, errors.as_str()), (0, ""), "{out}");
    let id = side.clone().id("master");
    for (at, server) in side.0.iter().enumerate() {
        server.serves("index.html", "v1");
        let begin = format!("{} | ", side.name(at));
        let lines: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix(&begin)).collect();
        let said: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("remote:   ")).collect();
        let expected: Vec<String> = (1..=500).map(|number| format!("{at} says {number}")).collect();
        assert_eq!(said, expected);
        assert_eq!(lines.last().unwrap(), &"remote: Git hooks deploy complete.", "{lines:?}");
        let row = out.lines().find(|line| line.starts_with(&format!("{}  live", side.name(at)))).unwrap();
        assert!(row.contains(&id[..12]), "{row}");
    }
    let (status, out, _) = side.push(&["master"]);
    assert_eq!(status, 0);
    assert!(!out.contains("remote: "), "the tip is already on the server: {out}");
    assert_eq!(out.lines().filter(|line| line.contains("  live ")).count(), 3, "{out}");
}

#[test]
fn an_unreachable_server_does_not_hold_up_the_others() {
    let side = Side::new(3);
    let (there, gone) = (side.0[1].repository(), side.0[1].path("gone"));
    fs::rename(&there, &gone).unwrap();
    let (status, out, errors) = side.push(&["master"]);
    assert_eq!(status, 1, "{out}");
    assert!(
        errors.starts_with("error: 1 of 3 servers of blue failed\nhint: fix it, then `bluegreen push blue`")
    );
    let row = out.lines().find(|line| line.starts_with(&format!("{}  failed", side.name(1)))).unwrap();
    assert!(row.contains("does not appear to be a git repository"), "{row}");
    side.0[0].serves("index.html", "v1");
    side.0[2].serves("index.html", "v1");
    side.0[1].serves_nothing();

    fs::rename(&gone, &there).unwrap();
    let (status, out, _) = side.push(&["master"]);
    assert_eq!(status, 0, "{out}");
    assert_eq!(out.matches("is live: ").count(), 1, "only the outdated server deploys: {out}");
    side.0[1].serves("index.html", "v1");
}

#[test]
fn a_failed_deployment_is_reported_with_and_without_the_gate() {
    let side = Side::new(3);
    for server in &side.0[1..] {
        server.config_section("[steps]\ncheck = { name = 'health', run = 'test -e ../../well' }");
    }
    let gated = side.0[2].repository();
    symlink(BLUEGREEN, gated.join("hooks/proc-receive")).unwrap();
    side.0[2].git_in(&gated, &["config", "receive.procReceiveRefs", "refs/heads/master"]);
    let (status, results) = side.results(&["master"]);
    assert_eq!(status, 1);
    assert_eq!(results[0], ["live", ""]);
    let failed = "step `health` exited with status 1";
    let again = |server: usize| format!("`bluegreen -C {} deploy` tries again", side.name(server));
    assert_eq!(results[1], ["failed".into(), format!("{failed}: {} without a push", again(1))]);
    assert_eq!(results[2], ["failed", "[remote rejected] (step health exited with status 1)"]);

    // Without the gate the branch has moved, so git has nothing left to push.
    for server in &side.0[1..] {
        fs::write(server.site().join("well"), "").unwrap();
    }
    let (status, results) = side.results(&["master"]);
    assert_eq!(status, 1);
    let there =
        format!("master is up to date, but not live: {}", again(1).replace("tries again", "deploys it"));
    assert_eq!(results[1..], [["failed".into(), there], ["live".into(), String::new()]]);
    side.0[1].bluegreen(&["deploy"]).ok();
    assert_eq!(side.results(&["master"]).0, 0);

    // A first release that fails its verification stays live but unhealthy.
    let side = Side::new(1);
    side.clone().config_section("[steps]\nverify = 'false'");
    let (status, results) = side.results(&["master"]);
    assert_eq!((status, &results[0]), (3, &["bad".into(), "step `false` exited with status 1".into()]));
}

#[test]
fn refs_and_options_are_passed_to_git() {
    let side = Side::new(2);
    for server in &side.0 {
        server.git_in(&server.repository(), &["config", "receive.advertisePushOptions", "true"]);
    }
    assert_eq!(side.results(&["master:topic"]), (0, vec![["pushed", ""].map(String::from); 2]));
    assert_eq!(side.results(&["master", "-o", "skip"]), (0, vec![["pushed", ""].map(String::from); 2]));
    side.0[1].serves_nothing();
    // Without a refspec, the current branch is pushed.
    side.clone().commit("index.html", "v2");
    assert_eq!(side.results(&[]).0, 0);
    side.0[1].serves("index.html", "v2");
    side.clone().git(&["update-ref", "refs/heads/master", "master^"]);
    let (status, results) = side.results(&["master"]);
    assert_eq!((status, results[1][1].as_str()), (1, "[rejected] (non-fast-forward)"));
    assert_eq!(side.results(&["+master"]).0, 0);
    side.0[1].serves("index.html", "v1");
}

#[test]
fn a_side_is_defined_by_the_config_or_the_remotes() {
    let side = Side::new(2);
    let (status, _, errors) = side.push(&["--config", "/nowhere.toml"]);
    assert_eq!(status, 2, "{errors}");
    let mut red = side.command(&[]);
    let output = red.args(["--json"]).env("GIT_DIR", side.0[1].clone_path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.starts_with("error: unknown side `blue`: neither `.promote.toml` nor a git remote"),
        "{said}"
    );

    let file = side.clone().path("promote.toml");
    let text = format!(
        "[sides]\nblue = ['{}', {{ ssh = '{}', address = '127.0.0.1:1' }}]\ngreen = 'deploy@green:app'\n\
         [public]\nurl = 'http://127.0.0.1/'\nswitch = 'haproxy'\n",
        side.name(0),
        side.name(1)
    );
    fs::write(&file, text).unwrap();
    assert_eq!(side.results(&["master", "--config", file.to_str().unwrap()]).0, 0);
    side.0[1].serves("index.html", "v1");
}

#[test]
fn ctrl_c_stops_the_client_and_servers_finish_their_deployments() {
    let side = Side::new(2);
    assert_eq!(side.results(&["master"]).0, 0);
    let id = side.clone().commit("index.html", "v2").id("master");
    let locks: Vec<_> = side.0.iter().map(HeldLock::take).collect();
    let push = side.command(&["master"]).spawn().unwrap();
    let start = Instant::now();
    let has_moved = |server: &Sandbox| {
        let branch = server.repository().join("refs/heads/master");
        fs::read_to_string(branch).is_ok_and(|text| text.trim() == id)
    };
    while !side.0.iter().all(has_moved) {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    // The hook starts shortly after that.
    std::thread::sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&push), Signal::INT).unwrap();
    let output = push.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert_eq!(out.matches("cancelled; the server finishes what it has received").count(), 2, "{out}");
    drop(locks);
    for server in &side.0 {
        while fs::read_to_string(server.current("index.html")).is_ok_and(|text| text == "v1") {
            assert!(start.elapsed() < Duration::from_secs(30), "the hook exited with its client");
            std::thread::sleep(Duration::from_millis(20));
        }
        server.serves("index.html", "v2");
    }
}
