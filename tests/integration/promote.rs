//! Promotions between two local sides, with a file as the switch and a front end in the test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::sandbox::{BLUEGREEN, Sandbox};

/// Two servers, a front end, and a config.
pub(crate) struct Pair {
    pub blue: Sandbox,
    pub green: Sandbox,
    folder: tempfile::TempDir,
}

/// Serves HTTP. `answer` returns the status and the server's name, or `nobody` to omit the name. The file
/// `SIDE.delay` contains the response time in milliseconds, and `SIDE.body` the page.
fn serve(folder: PathBuf, answer: impl Fn() -> (String, String) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let (status, name) = answer();
            let delay = read(&folder.join(format!("{name}.delay")), "0").parse().unwrap();
            thread::sleep(Duration::from_millis(delay));
            let body = read(&folder.join(format!("{name}.body")), "");
            let name = if name == "nobody" { String::new() } else { format!("X-Served-By: {name}\r\n") };
            let _ = write!(
                &stream,
                "HTTP/1.1 {status} x\r\n{name}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

fn read(path: &Path, default: &str) -> String {
    fs::read_to_string(path).map_or(default.to_owned(), |text| text.trim().to_owned())
}

/// Every sandbox is configured as `blue`, so this replaces the config.
pub(crate) fn green_config(green: &Sandbox, site: &str) {
    green.raw_config(&format!("server = \"green\"\n[site]\nroot = \"{}\"\n{site}\n", green.site().display()));
}

impl Pair {
    pub fn new() -> Self {
        let (blue, green) = (Sandbox::new(), Sandbox::new());
        green_config(&green, "");
        blue.commit("index.html", "v1").push().ok();
        green.commit("index.html", "v1").push().ok();
        let folder = tempfile::tempdir().unwrap();
        let pair = Self { blue, green, folder };
        let server = |side: &'static str, folder: PathBuf| {
            let status = folder.join(format!("{side}.status"));
            serve(folder, move || (read(&status, "200"), side.into()))
        };
        let ports = ["blue", "green"].map(|side| server(side, pair.file("")));
        let folder = pair.file("");
        let front = serve(folder.clone(), move || {
            let side = read(&folder.join("serves"), &read(&folder.join("public"), ""));
            let status = read(&folder.join("front.status"), "200");
            (read(&folder.join(format!("front.{side}")), &status), side)
        });
        pair.switch("printf '%s\\n' \"$2\" >\"$here/.next\"; mv \"$here/.next\" \"$here/public\"");
        let side = |sandbox: &Sandbox, port| {
            format!("{{ ssh = \"{}\", address = \"127.0.0.1:{port}\" }}", sandbox.repository().display())
        };
        let config = format!(
            "[sides]\nblue = {}\ngreen = {}\n[public]\nurl = \"http://127.0.0.1:{front}/\"\nswitch = \"./switch\"\n\
             [check]\nhealthy = 1\nwithin = \"1s\"\nwatch = \"0.4s\"\n",
            side(&pair.blue, ports[0]),
            side(&pair.green, ports[1])
        );
        fs::write(pair.file("promote.toml"), config).unwrap();
        fs::write(pair.file("public"), "blue\n").unwrap();
        pair
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the script that the switch runs for `set`.
    pub fn switch(&self, set: &str) {
        let text = format!(
            "#!/bin/sh\nhere=$(dirname \"$0\")\ncase $1 in show) cat \"$here/public\" ;; set) {set} ;; esac\n"
        );
        fs::write(self.file("switch.new"), text).unwrap();
        executable(&self.file("switch.new"));
        fs::rename(self.file("switch.new"), self.file("switch")).unwrap();
    }

    pub fn write(&self, name: &str, text: &str) -> &Self {
        fs::write(self.file(name), text).unwrap();
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.blue.command(BLUEGREEN);
        command.args(arguments).arg("--config").arg(self.file("promote.toml"));
        if self.file("fake-ssh").exists() {
            let folder = Path::new(BLUEGREEN).parent().unwrap().display();
            command.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap()));
            command.env("GIT_SSH_COMMAND", format!("sh {}", self.file("fake-ssh").display()));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Replaces text in the config.
    pub fn configure(&self, from: &str, to: &str) -> &Self {
        let text = fs::read_to_string(self.file("promote.toml")).unwrap();
        assert!(text.contains(from), "{text}");
        self.write("promote.toml", &text.replace(from, to))
    }

    /// Reaches blue and green through a stand-in for ssh, which runs its last argument, as sshd does for an
    /// account with a shell. `script` runs first, with the variables `$host` and `$last`.
    pub fn by_ssh(&self, script: &str) -> &Self {
        let text = format!(
            "host=$1; for last; do :; done; here=${{0%/*}}; echo \"$*\" >>\"$0.log\"\n{script}\nexec sh -c \"$last\"\n"
        );
        for (name, side) in [("blue", &self.blue), ("green", &self.green)] {
            let repository = side.repository().display().to_string();
            self.configure(&format!("\"{repository}\""), &format!("\"deploy@{name}:{repository}\""));
        }
        self.write("fake-ssh", &text)
    }

    /// Promotes, and returns the exit status and all output.
    pub fn promote(&self, arguments: &[&str]) -> (i32, String) {
        said(&self.command(&[&["promote", "--yes"], arguments].concat()).output().unwrap())
    }

    pub fn public(&self) -> String {
        read(&self.file("public"), "")
    }

    pub fn marks(&self) -> [Option<bool>; 2] {
        [&self.blue, &self.green].map(|side| {
            let text = fs::read(side.site().join(".bluegreen/public")).ok()?;
            serde_json::from_slice::<serde_json::Value>(&text).unwrap()["public"].as_bool()
        })
    }

    /// Asserts that a promotion fails for this reason before the switch.
    pub fn fails(&self, arguments: &[&str], problem: &str) -> String {
        self.fails_with(arguments, problem, "blue is public.")
    }

    /// Asserts that a promotion fails for this reason and that blue is public afterwards.
    pub fn fails_with(&self, arguments: &[&str], problem: &str, last: &str) -> String {
        let (status, text) = self.promote(arguments);
        assert_eq!(status, 1, "{text}");
        assert!(text.contains(problem), "{problem}: {text}");
        assert!(text.contains("hint: "), "{text}");
        assert!(text.contains(&format!("Not promoted: {last}\n")), "{last}: {text}");
        assert_eq!(self.public(), "blue");
        text
    }
}

pub(crate) fn executable(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(crate) fn said(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text.into_owned())
}

#[test]
fn sides_are_promoted_back_and_forth() {
    let pair = Pair::new();
    assert_eq!(pair.blue.bluegreen(&["public"]).ok().output(), "blue has not been part of a promotion yet\n");
    let (status, text) = pair.promote(&[]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("green is public instead of blue: 2 requests, 0 failed"), "{text}");
    assert_eq!((pair.public().as_str(), pair.marks()), ("green", [Some(false), Some(true)]));
    let entry = pair.green.history().pop().unwrap();
    assert_eq!((&entry["action"], &entry["promotion"]["from"]), (&"promote".into(), &"blue".into()));
    assert_eq!(entry["promotion"]["requests"], 2);

    let of_server = |side: &Sandbox| side.bluegreen(&["public"]).ok().output().to_owned();
    assert!(of_server(&pair.blue).starts_with("blue is not public, since 20"));
    assert!(of_server(&pair.green).starts_with("green is public, since 20"));

    let output = pair.command(&["promote", "--yes", "--json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["to"], &json["failures"]), (&"blue".into(), &0.into()));
    assert_eq!(pair.marks(), [Some(true), Some(false)]);
    let (status, text) = said(&pair.command(&["public"]).output().unwrap());
    assert_eq!(status, 0, "{text}");
    assert!(text.lines().any(|line| line.starts_with("blue   blue    yes")), "{text}");
}

#[test]
fn the_promoted_side_sends_one_notice_after_all_locks_are_released() {
    let pair = Pair::new();
    let locks = [&pair.blue, &pair.green].map(|side| side.site().join(".bluegreen/lock"));
    for side in [&pair.blue, &pair.green] {
        let free = locks.each_ref().map(|lock| format!("flock -n {} true", lock.display())).join(" && ");
        let text = fs::read_to_string(side.config_path()).unwrap();
        let notify = format!("[notify]\nrun = ['cat >>told', '{free}', 'echo no host; false']\n");
        side.raw_config(&(text + &notify));
    }
    let told = |side: &Sandbox| read(&side.site().join("told"), "");
    let (status, text) = pair.promote(&[]);
    assert_eq!(status, 0, "{text}");
    assert_eq!(text.matches("warning: ").count(), 1, "{text}");
    assert!(text.contains("warning: notice `echo no host; false` exited with status 1: no host\n"), "{text}");
    let entry: serde_json::Value = serde_json::from_str(&told(&pair.green)).unwrap();
    assert_eq!(entry, pair.green.history().pop().unwrap());
    assert_eq!((&entry["action"], &entry["outcome"]), (&"promote".into(), &"live".into()));
    assert_eq!(told(&pair.blue), "");

    // A promotion that goes back must also be reported.
    pair.write("front.status", "502");
    assert_eq!(pair.promote(&[]).0, 1);
    let entry: serde_json::Value = serde_json::from_str(&told(&pair.blue)).unwrap();
    assert_eq!((&entry["outcome"], &entry["promotion"]["to"]), (&"failed".into(), &"blue".into()));
    assert_eq!(told(&pair.green).lines().count(), 1);
}

#[test]
fn public_reports_the_state_after_a_crash() {
    let pair = Pair::new();
    pair.green.commit("index.html", "v2").push_refs(&["master:refs/heads/landed"]).ok();
    let repository = pair.green.repository();
    pair.green.git_in(&repository, &["update-ref", "refs/heads/master", "refs/heads/landed"]);
    let tip = &pair.green.id("master")[..12];
    let table = || said(&pair.command(&["public"]).output().unwrap()).1;
    let told = table();
    let line = format!("warning: green: master is at {tip}, which was never deployed\n");
    assert!(told.contains(&line), "{told}");
    let hint = format!("hint: `bluegreen -C {} resume`\n", repository.display());
    assert!(told.contains(&hint), "{told}");
    pair.green.bluegreen(&["resume"]).ok();
    assert!(!table().contains("warning"));
}

#[test]
fn a_failed_check_prevents_the_switch() {
    let pair = Pair::new();
    let (status, text) = pair.promote(&["--dry-run"]);
    assert_eq!((status, pair.public().as_str(), pair.marks()), (0, "blue", [None, None]), "{text}");
    let (status, text) = said(&pair.command(&["promote"]).output().unwrap());
    assert_eq!(status, 2, "{text}");
    assert!(
        text.contains("cannot ask for confirmation: standard input is not a terminal\nhint: add `--yes`"),
        "{text}"
    );
    assert_eq!(pair.promote(&["red"]).0, 2);

    pair.write("green.status", "500").fails(&[], "returned 500");
    fs::remove_file(pair.file("green.status")).unwrap();
    let lock = crate::support::lock::HeldLock::take(&pair.green);
    pair.fails(&[], "is busy");
    drop(lock);
    pair.switch(
        "echo 'curl: (7) no route' >&2; printf 'error: cannot ask\\nhint: curl says why\\n' >&2; exit 1",
    );
    pair.fails(&[], "the switch's `set green` exited with status 1: curl: (7) no route: cannot ask\nhint: curl says why\n");
    pair.switch("exit 0");
    pair.fails(&[], "the switch reported success, but the front end shows blue");
}

#[test]
fn a_failed_watch_reverts_the_promotion() {
    let pair = Pair::new();
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let front = config.split('"').find(|word| word.starts_with("http:")).unwrap();
    let still = format!("blue is public again, but {front} returned 502.");
    pair.write("front.status", "502").fails_with(&[], "returned 502", &still);
    fs::remove_file(pair.file("front.status")).unwrap();
    // Only green fails.
    let answers = "blue is public again, and healthy.";
    pair.write("front.green", "503").fails_with(&[], "returned 503", answers);
    fs::remove_file(pair.file("front.green")).unwrap();
    pair.write("serves", "blue").fails_with(&[], "was served by blue, which is on the other side", answers);
    fs::remove_file(pair.file("serves")).unwrap();
    assert_eq!(pair.marks(), [Some(true), Some(false)]);
    assert_eq!(pair.blue.history().pop().unwrap()["outcome"], "failed");
    // Nothing listens on this port.
    pair.configure(front, "http://127.0.0.1:1/");
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (1, "blue"), "{text}");
    let last = "Not promoted: blue is public again, but http://127.0.0.1:1/ does not respond: exited with status 7: curl";
    assert!(text.contains(last), "{text}");
    assert_eq!(pair.write("promote.toml", &config).promote(&[]).0, 0);
}

#[test]
fn a_hold_ends_with_its_client_and_rejects_pushes() {
    let pair = Pair::new();
    let mut command = pair.green.bluegreen_command(&["hold"]);
    let mut hold = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(hold.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"held\""));
    pair.fails(&[], "is busy: a promotion by");
    let mut input = hold.stdin.take().unwrap();
    writeln!(input, "beat\npublic yes\nnonsense").unwrap();
    let answers: Vec<String> = lines.by_ref().take(3).map(Result::unwrap).collect();
    assert_eq!(answers[..2], ["{\"beat\":true}", "{\"marked\":\"yes\"}"]);
    assert!(answers[2].contains("unknown request `nonsense`"), "{answers:?}");
    drop(input);
    let asked = Instant::now();
    assert!(hold.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(10));
    pair.green
        .commit("index.html", "v2")
        .push()
        .warned()
        .says("warning: green is public: visitors see this at once");
    green_config(&pair.green, "when-public = \"refuse\"");
    pair.green.commit("index.html", "v3");
    pair.green.push().not_deployed().says("error: green is public").serves("index.html", "v2");
}

#[test]
fn a_promotion_killed_at_any_time_leaves_one_side_public_and_no_lock() {
    let pair = Pair::new();
    let times =
        std::env::var("BLUEGREEN_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10u64);
    for round in 0..times {
        let mut child = pair.command(&["promote", "--yes"]).spawn().unwrap();
        thread::sleep(Duration::from_millis(1000 * round / times));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(["blue", "green"].contains(&pair.public().as_str()), "{}", pair.public());
        let deadline = Instant::now() + Duration::from_secs(20);
        while [&pair.blue, &pair.green].iter().any(|side| {
            let status = side.bluegreen_command(&["status", "--json"]).output().unwrap();
            !String::from_utf8_lossy(&status.stdout).contains("\"running\": null")
        }) {
            assert!(Instant::now() < deadline, "a hold outlived its client");
        }
    }
    let (status, text) = pair.promote(&[]);
    assert_eq!(status, 0, "{text}");
    let public = pair.public() == "green";
    assert_eq!(pair.marks(), [Some(!public), Some(public)]);
}

#[test]
fn ssh_is_called_as_git_does() {
    let pair = Pair::new();
    pair.by_ssh("");
    let (status, text) = pair.promote(&[]);
    assert_eq!(status, 0, "{text}");
    assert_eq!((pair.public().as_str(), pair.marks()), ("green", [Some(false), Some(true)]));
    let log = fs::read_to_string(pair.file("fake-ssh.log")).unwrap();
    for host in ["deploy@blue", "deploy@green"] {
        let hold = format!("{host} bluegreen hold -C /");
        assert_eq!(log.lines().filter(|line| line.starts_with(&hold)).count(), 1, "{log}");
    }
}

#[test]
fn a_server_without_standby_is_locked_by_a_second_connection() {
    let pair = Pair::new();
    pair.by_ssh(
        "case $last:$host in *--standby*:*@green) echo \"error: unexpected argument '--standby' found\" >&2; exit 2 ;; esac",
    );
    let (status, text) = pair.promote(&[]);
    assert_eq!(
        (status, pair.public().as_str(), pair.marks()),
        (0, "green", [Some(false), Some(true)]),
        "{text}"
    );
    let log = fs::read_to_string(pair.file("fake-ssh.log")).unwrap();
    let commands = |host: &str| {
        let commands = log.lines().filter_map(|line| line.strip_prefix(host)?.split(' ').nth(2));
        commands.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(commands("deploy@blue"), ["hold"], "{log}");
    assert_eq!(commands("deploy@green"), ["hold", "status", "hold"], "{log}");
}

#[test]
fn a_connection_that_is_lost_before_the_lock_is_replaced() {
    let pair = Pair::new();
    // As ssh does after the operator's machine was suspended.
    pair.by_ssh(
        "case $last:$host in *--standby*:*@green)
            while read -r line && [ \"$line\" != lock ]; do echo \"$line\"; done | sh -c \"$last\"
            exit 255 ;;
        esac",
    );
    let (status, text) = pair.promote(&[]);
    assert_eq!(
        (status, pair.public().as_str(), pair.marks()),
        (0, "green", [Some(false), Some(true)]),
        "{text}"
    );
}

#[test]
fn a_hold_in_standby_does_not_lock_and_reads_the_config_again() {
    let pair = Pair::new();
    let mut command = pair.green.bluegreen_command(&["hold", "--protocol", "2", "--standby"]);
    let mut hold = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(hold.stdout.take().unwrap()).lines();
    let mut input = hold.stdin.take().unwrap();
    assert!(lines.next().unwrap().unwrap().starts_with("{\"status\":{\"server\":\"green\","));
    let mut next = || lines.next().unwrap().unwrap();
    pair.green.commit("index.html", "v2");
    // Each step has the time of a lease.
    writeln!(input, "beat").unwrap();
    pair.green.push().ok().serves("index.html", "v2");
    writeln!(input, "beat").unwrap();
    green_config(&pair.green, "when-public = \"refuse\"");
    let text = fs::read_to_string(pair.green.config_path()).unwrap();
    pair.green.raw_config(&text.replace("\"green\"", "\"verde\""));
    // The second `lock` arrives with the first one.
    writeln!(input, "public yes\nlock\nlock\nstatus").unwrap();
    assert_eq!([next(), next()], ["{\"beat\":true}"; 2]);
    assert!(next().contains("the site is not locked yet"));
    assert!(next().starts_with("{\"held\":{\"server\":\"verde\","));
    assert!(next().contains("the site is locked already"));
    assert!(next().starts_with("{\"status\":{\"server\":\"verde\","));
    drop(input);
    assert!(hold.wait().unwrap().success());
}
