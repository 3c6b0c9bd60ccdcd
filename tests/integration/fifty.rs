//! Sides of fifty servers, of which one hangs: a program in place of ssh stands for the servers.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::promote::{executable, said};
use crate::support::Sandbox;
use crate::support::sandbox::BLUEGREEN;
use rustix::process::{Pid, Signal, kill_process};

const SERVERS: usize = 50;

/// Each call is a file while it runs. `b7` is reached, and never responds.
const SSH: &str = r#"#!/bin/sh
host=${1#*@}; for last; do :; done; here=${0%/*}
: >"$here/running/$$"; ls "$here/running" | wc -l >>"$here/counts"
trap 'rm -f "$here/running/$$"' EXIT
[ "$host" != b7 ] || { : >"$here/begun/$host"; exec sleep 300; }
status() {
    commit=$(cat "$here/commit")
    printf '{"server":"%s","branch":"master","good":true,"commit":"%s","tip":"%s"}' "$host" "$commit" "$commit"
}
case $last in
    'bluegreen status'*) status ;;
    'bluegreen hold'*' --standby'*)
        echo "{\"status\":$(status)}"
        while read -r verb rest; do
            case $verb in
                lock) echo "{\"held\":$(status)}" ;;
                status) echo "{\"status\":$(status)}" ;;
                public) echo '{"marked":"yes"}' ;;
                record) echo '{"recorded":true}' ;;
                notify) echo '{"notified":[]}' ;;
                *) echo '{"beat":true}' ;;
            esac
        done ;;
    *)
        # Each push waits until all have begun.
        : >"$here/begun/$host"
        flock -s "$here/gate" true
        [ "$host" != b9 ] || { echo "error: no space left" >&2; exit 1; }
        sh -c "$last" ;;
esac
"#;

struct Fleet {
    sandbox: Sandbox,
}

impl Fleet {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.commit("index.html", "v1");
        for name in ["running", "begun"] {
            fs::create_dir(sandbox.path(name)).unwrap();
        }
        fs::write(sandbox.path("commit"), sandbox.id("master")).unwrap();
        fs::write(sandbox.path("fake-ssh"), SSH).unwrap();
        executable(&sandbox.path("fake-ssh"));
        Self { sandbox }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    /// Writes the config of both sides, whose pages a listener of the test serves.
    fn configure(&self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let _ = write!(&stream, "HTTP/1.1 200 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        let side = |letter: char| {
            let server = |at| {
                let path = self.file("repositories").join(format!("{letter}{at}"));
                format!("{{ ssh = 'deploy@{letter}{at}:{}', address = '127.0.0.1:{port}' }}", path.display())
            };
            (1..=SERVERS).map(server).collect::<Vec<_>>().join(",\n")
        };
        let text = format!(
            "[sides]\nblue = [{}]\ngreen = [{}]\n[public]\nurl = 'http://127.0.0.1:{port}/'\nswitch = './switch'\n\
             [check]\nhealthy = 1\nwatch = '0.2s'\n",
            side('b'),
            side('g')
        );
        fs::write(self.file("promote.toml"), text).unwrap();
        let switch = "#!/bin/sh\nhere=${0%/*}\ncase $1 in show) cat $here/public ;; set) echo $2 >$here/public ;; esac\n";
        fs::write(self.file("switch"), switch).unwrap();
        executable(&self.file("switch"));
        fs::write(self.file("public"), "green\n").unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.command(BLUEGREEN);
        command.args(arguments).arg("--config").arg(self.file("promote.toml"));
        // Otherwise git probes the program with `-G`.
        command.env("GIT_SSH_VARIANT", "simple");
        command.env("GIT_SSH_COMMAND", self.file("fake-ssh")).current_dir(self.sandbox.clone_path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The number of connections.
    fn calls(&self) -> usize {
        fs::read_to_string(self.file("counts")).unwrap().lines().count()
    }

    /// The largest number of connections that existed at the same time.
    fn most(&self) -> usize {
        let counts = fs::read_to_string(self.file("counts")).unwrap();
        counts.lines().map(|line| line.trim().parse::<usize>().unwrap()).max().unwrap()
    }

    /// Asserts that all connections end, except for the one whose program was killed.
    fn ends(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.file("running").read_dir().unwrap().count() > 1 {
            assert!(Instant::now() < deadline, "connections are left");
            sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_push_to_fifty_servers_takes_as_long_as_the_slowest_and_names_the_one_that_hangs() {
    let fleet = Fleet::new();
    fleet.configure();
    let template = fleet.file("repositories/b1");
    fleet.sandbox.git(&["clone", "--quiet", "--bare", ".", template.to_str().unwrap()]);
    fleet.sandbox.git_in(&template, &["update-ref", "-d", "refs/heads/master"]);
    for at in 2..=SERVERS {
        let copy = fleet.file(&format!("repositories/b{at}"));
        assert!(Command::new("cp").arg("-r").args([&template, &copy]).status().unwrap().success());
    }
    let gate = File::create(fleet.file("gate")).unwrap();
    gate.lock().unwrap();
    let mut child = fleet.command(&["push", "blue", "master"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while fleet.file("begun").read_dir().unwrap().count() < SERVERS {
        assert!(Instant::now() < deadline, "a push waits for another one to finish");
        sleep(Duration::from_millis(50));
    }
    drop(gate);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    // All but the one that hangs have finished, and each has its line.
    while !text.contains(&format!("({} of {SERVERS})", SERVERS - 1)) {
        assert_ne!(lines.read_line(&mut text).unwrap(), 0, "{text}");
    }
    assert_eq!(text.lines().filter(|line| line.contains(" | live, ")).count(), SERVERS - 2, "{text}");
    assert!(text.contains("b9  | error: no space left"), "the reason of a failure is printed: {text}");
    assert!(text.lines().count() < SERVERS + 25, "the output stays readable: {text}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    lines.read_to_string(&mut text).unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{text}{errors}");
    assert!(text.contains("b7      failed  -"), "{text}");
    assert!(text.contains(&format!("50 servers of blue: {} live, 2 failed", SERVERS - 2)), "{text}");
    assert!(errors.starts_with("error: 2 of 50 servers of blue failed\nhint: "), "{errors}");
    assert!((SERVERS..=2 * SERVERS).contains(&fleet.most()), "{}", fleet.most());
}

#[test]
fn a_promotion_and_an_overview_continue_without_the_server_of_fifty_that_hangs() {
    // The one that hangs takes 30 s in both commands, so they run at the same time.
    let (fleet, shown) = (Fleet::new(), Fleet::new());
    for fleet in [&fleet, &shown] {
        fleet.configure();
    }
    let public = shown.command(&["public"]).spawn().unwrap();
    let (status, text) = said(&fleet.command(&["promote", "--yes", "--force", "blue"]).output().unwrap());
    assert_eq!(status, 0, "{text}");
    assert_eq!(fs::read_to_string(fleet.file("public")).unwrap(), "blue\n");
    assert!(text.contains("Waiting for b7 to respond, "), "{text}");
    assert!(text.contains("warning: `bluegreen status` failed on"), "{text}");
    assert_eq!(text.matches("timed out after 30s").count(), 1, "it costs its time once: {text}");
    assert!(text.lines().count() < 20, "the output stays readable: {text}");
    assert!((SERVERS..=2 * SERVERS).contains(&fleet.most()), "{}", fleet.most());
    assert_eq!(fleet.calls(), 100, "one connection to each server");
    fleet.ends();

    let (status, text) = said(&public.wait_with_output().unwrap());
    assert_eq!(status, 1, "{text}");
    let rows = text.lines().filter(|line| line.starts_with("blue ") || line.starts_with("green "));
    assert_eq!(rows.clone().count(), 2 * SERVERS, "{text}");
    let hanging: Vec<_> = rows.filter(|row| !row.ends_with("  well")).collect();
    let [row] = hanging[..] else { panic!("{text}") };
    assert!(row.contains("b7") && row.contains("well, but `bluegreen status` failed on"), "{row}");
    assert_eq!(shown.calls(), 100, "one status of each server");
}
