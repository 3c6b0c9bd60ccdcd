//! Cloud addresses: DigitalOcean and Hetzner against a server that responds as their documentation says, and
//! AWS against `moto`, with the real client.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::front;
use crate::lab::Lab;
use crate::machine::{Machine, Ran};
use crate::skip::skip;

/// A switch with its settings, as `promote` passes them.
pub(super) struct Cloud<'a> {
    pub machine: &'a Machine,
    pub name: &'a str,
    port: u16,
    pub settings: String,
}

impl<'a> Cloud<'a> {
    /// Starts a server for the switch on a machine from [`machine`].
    pub fn start(machine: &'a Machine, name: &'a str, port: u16, settings: &str) -> Self {
        machine
            .sh(&format!(
                "setsid python3 /test/cloud.py {port} </dev/null >/tmp/{port}.log 2>&1 &
                until curl -s -o /dev/null 127.0.0.1:{port}/seen; do sleep 0.1; done"
            ))
            .ok();
        // Enough time for a busy machine. A test of a timeout sets its own.
        let settings = format!("SWITCH_API=http://127.0.0.1:{port} SWITCH_WITHIN=120 {settings}");
        let cloud = Self { machine, name, port, settings };
        cloud.faults("{}");
        cloud
    }

    pub fn run(&self, more: &str, arguments: &str) -> Ran {
        self.machine.sh(&format!(
            ". /test/token; {} {more} timeout 300 /switches/{} {arguments}",
            self.settings, self.name
        ))
    }

    pub fn shows(&self, side: &str) {
        assert_eq!(self.run("", "show").ok().text().trim(), side);
    }

    pub fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the requests received since the last reset.
    pub fn seen(&self) -> Ran {
        self.machine.sh(&format!("curl -sS 127.0.0.1:{}/seen", self.port)).ok()
    }

    /// Resets the server, and makes it inject these faults.
    pub fn faults(&self, faults: &str) {
        self.machine.sh(&format!("curl -sS --data '{faults}' 127.0.0.1:{}/fault", self.port)).ok();
    }
}

/// Returns a machine with the server, and with the token in a file, because the server searches command lines for it.
pub(super) fn machine(lab: &Lab) -> Option<Machine> {
    let front = front(lab, &["jq", "curl"])?;
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/switches/cloud.py");
    front.bring(&server, "/test/cloud.py");
    front.write("/test/token", "export DIGITALOCEAN_ACCESS_TOKEN=good-token HCLOUD_TOKEN=good-token\n");
    Some(front)
}

#[test]
fn digitalocean_and_hetzner_switch_and_report_errors() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = machine(&lab) else { return };
    // Each part has its own server, for which it mostly waits.
    let parts = [goes_back_and_forth, waits, gives_up, reports_invalid_setup];
    std::thread::scope(|scope| {
        for (name, own, first) in
            [("digitalocean", "SWITCH_IP=203.0.113.10", 8100), ("hetzner", "SWITCH_FLOATING_IP=77", 8110)]
        {
            for (port, part) in (first..).zip(parts) {
                let machine = &front;
                scope.spawn(move || {
                    let sides = "SWITCH_BLUE=1 SWITCH_GREEN=2 SWITCH_OFF=3 SWITCH_GONE_ONE=4";
                    part(&Cloud::start(machine, name, port, &format!("{sides} {own}")));
                });
            }
        }
    });
}

fn goes_back_and_forth(cloud: &Cloud) {
    cloud.shows("blue");
    for side in ["green", "green", "blue"] {
        cloud.run("", &format!("set {side}")).ok();
        cloud.shows(side);
    }
    let seen = cloud.seen();
    assert_eq!(
        seen.text().matches("POST").count(),
        2,
        "a second `set green` asks for nothing: {}",
        seen.text()
    );
    assert!(!seen.lacks("token in sight").text().is_empty());
}

fn waits(cloud: &Cloud) {
    let pending = if cloud.name == "hetzner" { "[423, 0], [409, 0]" } else { "[422, 0], [422, 0]" };
    for faults in [
        format!("{{\"answers\": [{pending}]}}"),
        // The pending event was this move itself.
        "{\"answers\": [[422, \"done\"]]}".into(),
        "{\"answers\": [[429, 1], [500, 0]]}".into(),
    ] {
        cloud.faults(&faults);
        cloud.run("", "set green").ok();
        cloud.shows("green");
    }
    cloud.faults("{\"answers\": [[429, 2]]}");
    let took = std::time::Instant::now();
    cloud.shows("blue");
    assert!(took.elapsed().as_secs() >= 2, "`retry-after` was ignored");
}

fn gives_up(cloud: &Cloud) {
    cloud.faults("{\"answers\": [[429, 60]]}");
    cloud
        .run("SWITCH_WITHIN=10", "set green")
        .fails()
        .says("returned 429: API rate limit exceeded.")
        .says("try again later");
    cloud.faults("{\"end\": \"errored\"}");
    cloud.run("", "set green").fails().says("could not assign").says("check with `show`");
    cloud.shows("blue");
    for faults in ["{\"end\": \"never\"}", "{\"lies\": true}"] {
        cloud.faults(faults);
        cloud.run("SWITCH_WITHIN=2", "set green").fails().says("is not at green after 2 s");
        cloud.shows("blue");
    }
    let pending = if cloud.name == "hetzner" { 423 } else { 422 };
    cloud.faults(&format!("{{\"answers\": {:?}}}", [[pending, 0]; 30]));
    let said = if cloud.name == "hetzner" { "the item is locked" } else { "already has a pending event" };
    cloud.run("SWITCH_WITHIN=5", "set green").fails().says("is not at green after 5 s").says(said);
    cloud.run("SWITCH_API=http://127.0.0.1:1", "set green").fails().says("cannot reach http://127.0.0.1:1");
    cloud.run("SWITCH_API=http://127.0.0.1:8001", "show").fails().says("error: ");
}

fn reports_invalid_setup(cloud: &Cloud) {
    cloud.faults("{}");
    let wrong = "DIGITALOCEAN_ACCESS_TOKEN=secret HCLOUD_TOKEN=secret";
    cloud.run(wrong, "set green").fails().says("returned 401: Unable to authenticate you.").lacks("secret");
    for token in ["", "a\"b", "'a b'"] {
        let token = format!("DIGITALOCEAN_ACCESS_TOKEN={token} HCLOUD_TOKEN={token}");
        cloud.run(&token.replace("a\"b", "'a\"b'"), "show").fails().says("error: the API token is missing");
    }
    cloud.run("", "set off").fails().says("of `off` is off: nothing is switched");
    cloud.run("", "set gone-one").fails().says("could not be found");
    cloud.run("", "set pink").fails().says("is set for `pink`");
    cloud.run("SWITCH_BLUE='1; id'", "set blue").fails().says("is set for `blue`");
    cloud.run("SWITCH_IP=1.2.3.4 SWITCH_FLOATING_IP=1", "set green").fails().says("could not be found");
    cloud
        .run("SWITCH_IP=../x SWITCH_FLOATING_IP=../x", "show")
        .fails()
        .says("error: invalid ")
        .says(": `../x`");
    for side in ["", "'gre en'", "'green\"'", "../green"] {
        cloud.run("", &format!("set {side}")).fails().says("error: ");
    }
    // If the address is assigned to neither side, no side is public, which is not an error.
    cloud.run("SWITCH_BLUE=8", "show").ok().lacks("e");
    let seen = cloud.seen();
    assert!(!seen.text().contains("POST"), "nothing is asked for: {}", seen.text());
}

/// `moto`, which simulates AWS, and a switch.
pub(super) struct Moto {
    server: Child,
    programs: PathBuf,
    environment: Vec<(String, String)>,
    switch: &'static str,
}

impl Moto {
    /// Starts `moto` with what the script creates.
    pub fn start(script: &str, switch: &'static str) -> Option<Self> {
        // The directory where `tests/run` installs it.
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin");
        if !programs.join("moto_server").exists() || !programs.join("aws").exists() {
            skip("`moto` and `aws` are not installed in target/python");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/switches").join(script);
        let mut server = Command::new(programs.join("python3"))
            .arg("-B")
            .arg(script)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let environment = lines
            .by_ref()
            .map(Result::unwrap)
            .take_while(|line| line != "up")
            .map(|line| line.split_once('=').map(|(key, value)| (key.into(), value.into())).unwrap())
            .collect();
        Some(Self { server, programs, environment, switch })
    }

    pub fn value(&self, key: &str) -> &str {
        &self.environment.iter().find(|(name, _)| name == key).unwrap().1
    }

    pub fn run(&self, more: &[(&str, &str)], arguments: &[&str]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.programs.display());
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("share/switches").join(self.switch))
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .envs(more.iter().copied())
            .output()
            .unwrap()
    }

    pub fn shows(&self, side: &str) {
        let output = self.run(&[], &["show"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), side);
    }

    pub fn sets(&self, more: &[(&str, &str)], side: &str) {
        let output = self.run(more, &["set", side]);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }

    pub fn refuses(&self, more: &[(&str, &str)], side: &str, reason: &str) {
        let output = self.run(more, &["set", side]);
        assert!(!output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason) && said.contains("error: ") && said.contains("hint: "), "{said}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

#[test]
fn aws_moves_an_elastic_ip_without_losing_another() {
    let Some(moto) = Moto::start("aws.py", "aws") else { return };
    moto.shows("");
    for side in ["green", "blue"] {
        moto.sets(&[], side);
        moto.shows(side);
    }
    moto.sets(&[], "blue");
    // The instance's own Elastic IP would be lost.
    moto.refuses(&[], "own", "would lose its own Elastic IP");
    moto.refuses(&[], "stopped", "is stopped: nothing is switched");
    moto.refuses(&[], "gone", "InvalidInstanceID.NotFound");
    moto.refuses(&[], "pink", "no instance is set for `pink`");
    moto.refuses(&[], "bl ue", "invalid name of a side");
    moto.refuses(&[("SWITCH_BLUE", "i-1; id")], "blue", "no instance is set for `blue`");
    moto.refuses(&[("SWITCH_ALLOCATION", "eipalloc-0")], "green", "AllocationID");
    moto.refuses(&[("SWITCH_ALLOCATION", "203.0.113.10")], "green", "invalid Elastic IP");
    moto.refuses(
        &[("SWITCH_API", "http://127.0.0.1:1"), ("AWS_MAX_ATTEMPTS", "1")],
        "green",
        "Could not connect",
    );
    moto.refuses(&[("PATH", "/usr/bin:/bin"), ("HOME", "/")], "green", "error: ");
    moto.shows("blue");
    // The address moves to a private address other than that of the instance's own Elastic IP.
    let with_second = format!("{} {}", moto.value("SWITCH_OWN"), moto.value("SECOND"));
    moto.sets(&[("SWITCH_OWN", &with_second)], "own");
    moto.sets(&[("SWITCH_OWN", &with_second)], "own");
    let output = moto.run(&[("SWITCH_OWN", &with_second)], &["show"]);
    assert_eq!(output.stdout, b"own\n", "{output:?}");
}
