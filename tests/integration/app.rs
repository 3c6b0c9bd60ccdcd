//! `[app]`: each release has its own instance and socket, is healthy before activation, and drains
//! afterwards.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::support::Sandbox;
use crate::support::run::spawn;
use crate::support::skip::{program_or_skip, root_or_skip};

/// An application that reports its version. Special first words in the version make it fail.
const SERVER: &str = r#"
import os, signal, socketserver, sys
from http.server import BaseHTTPRequestHandler
version = open("version").read()
if version.startswith("crash"):
    print("cannot start: no database", flush=True)
    sys.exit(7)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        sick = version.startswith("sick") and self.path == "/health"
        self.send_response(500 if sick else 200)
        self.end_headers()
        self.wfile.write(version.encode())
    def address_string(self): return "local"
    def log_message(self, *arguments): pass
server = socketserver.UnixStreamServer(os.environ["SOCKET"], Handler)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server.serve_forever()
"#;

struct Site {
    sandbox: Sandbox,
}

impl Site {
    fn new(site: &str, rest: &str) -> Option<Self> {
        if !program_or_skip("python3") {
            return None;
        }
        let sandbox = Sandbox::new();
        let control = sandbox.control("python3 server.py");
        sandbox.site_config(site).config_section(&format!(
            "[app]\ncontrol = '{}'\nwithin = '10s'\ndrain = '1m'\n{rest}",
            control.display()
        ));
        sandbox.commit("server.py", SERVER);
        Some(Self { sandbox })
    }

    fn version(&self, version: &str) -> &Sandbox {
        self.sandbox.commit("version", version)
    }

    /// Sends a request to the live release's instance, as the web server does.
    fn get(&self) -> String {
        let start = Instant::now();
        let mut stream = loop {
            match UnixStream::connect(self.sandbox.current(".app.sock")) {
                Ok(stream) => break stream,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(20), "{error}"),
            }
        };
        write!(stream, "GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Returns the helper's calls since the last time, with short release names.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.sandbox.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.sandbox.path("calls"));
        calls.lines().map(str::to_owned).collect()
    }

    fn running(&self) -> Vec<String> {
        let Ok(entries) = self.sandbox.path("run").read_dir() else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn control(&self, arguments: &[&str]) {
        let status = self.sandbox.command(self.sandbox.path("control")).args(arguments).status();
        assert!(status.unwrap().success());
        self.calls();
    }

    /// Kills all instances, as a power failure does.
    fn lose_power(&self) {
        for release in self.running() {
            self.control(&["stop", &release]);
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for release in self.running() {
            let _ = self.sandbox.command(self.sandbox.path("control")).args(["stop", &release]).status();
        }
    }
}

fn sorted(mut names: [String; 2]) -> Vec<String> {
    names.sort();
    names.into()
}

#[test]
fn an_instance_starts_before_the_checks_and_the_previous_one_drains_after_activation() {
    let check = "[steps]\nbuild = 'test -z \"$BLUEGREEN_SOCKET\"'\ncheck = 'test -S $BLUEGREEN_SOCKET'\nrestart = 'test -S $BLUEGREEN_SOCKET'";
    let Some(site) = Site::new("", check) else { return };
    site.version("one").push().ok().says_only(&[
        "Master ref received.  Deploying master branch to blue...",
        "Step build: test -z \"$BLUEGREEN_SOCKET\"",
        "Application started: healthy after <time>",
        "Step check: test -S $BLUEGREEN_SOCKET",
        "Step restart: test -S $BLUEGREEN_SOCKET",
        "Release <release> is live: 2 files changed, <time>",
        "Git hooks deploy complete.",
    ]);
    let first = site.sandbox.live();
    assert_eq!(site.calls(), [format!("start {first}"), format!("live {first} 60")]);
    assert_eq!(site.get(), "one");
    site.version("two").push().ok();
    let second = site.sandbox.live();
    assert_eq!(site.calls(), [format!("start {second}"), format!("live {second} 60")]);
    assert_eq!((site.get().as_str(), site.running()), ("two", sorted([first, second])));
}

#[test]
fn a_crashing_or_unhealthy_version_never_becomes_live() {
    let Some(site) = Site::new("", "") else { return };
    site.version("one").push().ok();
    let first = site.sandbox.live();
    site.calls();
    let began = Instant::now();
    site.version("crash").push().not_deployed().says("  cannot start: no database").says(
        "error: the application is unhealthy: `GET /health` got no response: the application exited during its start",
    );
    assert!(began.elapsed() < Duration::from_secs(8), "a crash must be reported immediately");
    let calls = site.calls();
    let failed = calls[0].strip_prefix("start ").unwrap();
    assert_eq!(calls[1..], [format!("log {failed} 20"), format!("stop {failed}")]);
    let config = fs::read_to_string(site.sandbox.config_path()).unwrap().replace("10s", "3s");
    site.sandbox.raw_config(&config);
    site.version("sick")
        .push()
        .not_deployed()
        .says("error: the application is unhealthy: `GET /health` responded with status 500 after 3s");
    assert_eq!((site.get().as_str(), site.running()), ("one", vec![first.clone()]));
    assert_eq!(site.sandbox.releases(), [first]);
    site.sandbox.is_tidy();
}

#[test]
fn a_failed_check_stops_only_the_new_instance() {
    let Some(site) = Site::new("", "[steps]\ncheck = 'grep -v bad version'") else { return };
    site.version("one").push().ok();
    let first = site.sandbox.live();
    site.version("bad").push().not_deployed();
    assert_eq!((site.get().as_str(), site.running()), ("one", vec![first]));
}

#[test]
fn control_characters_in_instance_output_are_escaped() {
    let Some(site) = Site::new("", "") else { return };
    site.version("one").push().ok();
    let live = site.sandbox.live();
    site.control(&["stop", &live]);
    fs::write(site.sandbox.path(format!("log-{live}")), "listening\u{1b}[2J\n").unwrap();
    assert_eq!(site.sandbox.bluegreen(&["log", "--app"]).ok().output(), "listening\\u{1b}[2J\n");
    let missing = "20261122T201500Z-1a2b3c4d5e6f";
    site.sandbox.bluegreen(&["log", "--app", missing]).fails(1);
}

#[test]
fn following_the_output_of_an_instance_ends_when_the_reader_has_gone() {
    let Some(site) = Site::new("", "") else { return };
    site.version("one").push().ok();
    let control = site.sandbox.path("control");
    let script = fs::read_to_string(&control).unwrap();
    fs::write(&control, "#!/bin/sh\necho listening; exec sleep 60\n").unwrap();
    let (mut log, reader) = spawn(&mut site.sandbox.bluegreen_command(&["log", "--app", "--follow"]));
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "listening\n");
    assert!(log.try_wait().unwrap().is_none(), "it must follow the output");
    drop(reader);
    let until = Instant::now() + Duration::from_secs(20);
    let status = loop {
        match log.try_wait().unwrap() {
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            status => break status,
        }
    };
    if status.is_none() {
        log.kill().unwrap();
    }
    // It stops the instance.
    fs::write(&control, script).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

#[test]
fn a_rollback_starts_the_old_instance_before_activation() {
    let Some(site) = Site::new("", "") else { return };
    site.version("one").push().ok();
    let first = site.sandbox.live();
    site.version("two").push().ok();
    let second = site.sandbox.live();
    site.control(&["drained"]);
    assert_eq!(site.running(), std::slice::from_ref(&second));
    site.sandbox.bluegreen(&["rollback"]).ok();
    assert_eq!(site.calls(), [format!("start {first}"), format!("live {first} 60")]);
    assert_eq!(site.get(), "one");

    // An old release that no longer starts changes nothing.
    site.sandbox.bluegreen(&["rollback", &second]).ok();
    site.control(&["drained"]);
    fs::write(site.sandbox.site().join("releases").join(&first).join("version"), "crash").unwrap();
    site.sandbox.bluegreen(&["rollback"]).fails(1).says("  cannot start: no database");
    assert_eq!((site.get().as_str(), site.running()), ("two", vec![second]));
}

#[test]
fn a_failed_verification_restores_the_previous_instance() {
    let Some(site) = Site::new("", "[steps]\nverify = 'grep -v bad version'") else { return };
    site.version("one").push().ok();
    let first = site.sandbox.live();
    site.calls();
    site.version("bad").push().not_deployed();
    assert_eq!(site.get(), "one");
    assert_eq!(site.calls()[1..], [format!("start {first}"), format!("live {first} 60")]);
}

#[test]
fn a_release_with_a_running_instance_is_neither_recycled_nor_removed() {
    let Some(site) = Site::new("keep = 0", "") else { return };
    for version in ["one", "two", "three", "four"] {
        site.version(version).push().ok();
    }
    assert_eq!((site.sandbox.releases().len(), site.running().len()), (4, 4));
    for release in &site.running() {
        let version = site.sandbox.site().join("releases").join(release).join("version");
        assert!(version.exists(), "{release}");
    }
    site.control(&["drained"]);
    site.version("five").push().ok();
    assert_eq!(site.sandbox.releases().len(), 3, "the live release, the draining one, and the spare");
}

#[test]
fn a_release_whose_instance_cannot_be_determined_is_kept() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.site_config("keep = 1").commit("version", "one").owned_by(65534).push().ok();
    let first = sandbox.live();
    sandbox.commit("version", "two").push().ok();
    let release = sandbox.site().join("releases").join(&first);
    std::os::unix::fs::symlink(sandbox.site().join("s"), release.join(".app.sock")).unwrap();
    fs::set_permissions(&release, fs::Permissions::from_mode(0o000)).unwrap();
    sandbox
        .commit("version", "three")
        .push()
        .warned()
        .says("warning: cannot read `<site>/releases/<release>/.app.sock`: permission denied");
    assert!(sandbox.releases().contains(&first));
    fs::set_permissions(&release, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(release.join("version").exists());
}

#[test]
fn a_killed_deployment_leaves_no_instance_behind() {
    let stuck = "[steps]\ncheck = 'if grep stuck version; then kill -9 $PPID; sleep 60; fi'";
    let Some(site) = Site::new("", stuck) else { return };
    site.version("one").push().ok();
    let first = site.sandbox.live();
    drop(site.version("stuck").push());
    assert_eq!(site.running().len(), 2, "the hook was killed");
    site.version("two").push().ok();
    let second = site.sandbox.live();
    assert_eq!((site.get().as_str(), site.running()), ("two", sorted([first, second])));
}

#[test]
fn the_next_run_completes_a_deployment_killed_after_activation() {
    let stuck = "[steps]\nrestart = 'if grep stuck version && test ! -e ROOT/once; then touch ROOT/once; kill -9 $PPID; sleep 60; fi'";
    let Some(site) = Site::new("", "") else { return };
    let root = site.sandbox.path("once");
    let stuck = stuck.replace("ROOT/once", root.to_str().unwrap());
    site.sandbox.config_section(&stuck);
    site.version("one").push().ok();
    drop(site.version("stuck").push());
    assert_eq!(site.get(), "stuck");
    let live = site.sandbox.live();
    assert!(!site.calls().contains(&format!("live {live} 60")));
    site.sandbox.bluegreen(&["resume"]).warned();
    assert!(site.calls().contains(&format!("live {live} 60")));
    assert_eq!(site.get(), "stuck");
}

#[test]
fn booting_starts_the_live_releases_instance() {
    let Some(site) = Site::new("", "") else { return };
    for version in ["one", "two"] {
        site.version(version).push().ok();
    }
    let live = site.sandbox.live();
    site.lose_power();
    site.sandbox.bluegreen(&["resume", "--boot"]).ok();
    assert_eq!(site.calls(), [format!("start {live}"), format!("live {live} 60")]);
    assert_eq!((site.get().as_str(), site.running()), ("two", vec![live]));
}

#[test]
fn a_failed_helper_is_reported_with_its_last_line_of_output() {
    let Some(site) = Site::new("", "") else { return };
    fs::write(site.sandbox.path("control"), "#!/bin/sh\necho 'no such unit' >&2; exit 5\n").unwrap();
    site.version("one").push().not_deployed();
    let error = site.sandbox.history()[0]["error"].as_str().unwrap().to_owned();
    assert!(error.ends_with("control start` failed: exit status: 5: no such unit"), "{error}");
}

#[test]
fn the_worker_follows_the_public_side() {
    let Some(site) = Site::new("", "") else { return };
    site.version("v1").push().ok();
    let live = site.sandbox.live();
    let hold = |requests: &str| {
        let mut hold = site.sandbox.bluegreen_command(&["hold", "--protocol", "2"]);
        let output = crate::support::sandbox::feed(&mut hold, requests.as_bytes());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        site.calls()
    };
    site.calls();
    assert_eq!(hold("leave\n"), [format!("live {live} 60 idle")]);
    // A deployment to the other side, and a boot, leave the worker idle.
    site.version("v2").push().ok();
    let second = site.sandbox.live();
    assert_eq!(site.calls().last().unwrap(), &format!("live {second} 60 idle"));
    site.sandbox.bluegreen(&["resume", "--boot"]).ok();
    assert_eq!(site.calls(), [format!("live {second} 60 idle")]);
    assert_eq!(hold("enter\n"), [format!("live {second} 60")]);
    site.sandbox.bluegreen(&["resume", "--boot"]).ok();
    assert_eq!(site.calls(), [format!("live {second} 60")]);

    // With a helper that does not support the option, the side does not leave its role.
    let control = site.sandbox.path("control");
    let text = fs::read_to_string(&control).unwrap();
    fs::write(&control, text.replace("set -eu", "set -eu; [ $# -lt 4 ] || { echo usage >&2; exit 2; }"))
        .unwrap();
    let mut leave = site.sandbox.bluegreen_command(&["hold", "--protocol", "2"]);
    let output = crate::support::sandbox::feed(&mut leave, b"leave\n");
    let replies = String::from_utf8(output.stdout).unwrap();
    assert!(replies.contains("{\"error\":\"cannot switch the application: "), "{replies}");
}
