//! Promotions that are interrupted or killed at each step, including the marks, and pushes that run at the
//! same time.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::promote::{Pair, said};
use crate::promote_fails::{begin, interrupt, wait_for};
use crate::support::Sandbox;

/// A shell function that pauses at the step named in the file `stall`: the connection, or a request to a hold.
pub(crate) const STALLS: &str =
    "stall() { [ \"$1\" != \"$(cat \"$here/stall\")\" ] || { touch \"$here/at\"; sleep 0.5; [ ! -e \"$here/lose\" ] || exit; }; }
case $last in
    'bluegreen hold'*)
        stall hold
        while read -r line; do stall \"${line%% *}\"; printf '%s\\n' \"$line\"; done | sh -c \"$last\"
        exit ;;
esac";

/// The steps before the switch, and those after the watch.
const BEFORE: [&str; 3] = ["hold", "lock", "status"];
const AFTER: [&str; 3] = ["public", "record", "notify"];

/// A pair whose promotions pause at a step.
fn stalling() -> Pair {
    let pair = Pair::new();
    pair.by_ssh(STALLS);
    pair
}

/// Starts a promotion of green and waits until it reaches the step.
fn begin_at(pair: &Pair, step: &str) -> Child {
    pair.write("public", "blue\n").write("stall", step);
    let _ = fs::remove_file(pair.file("at"));
    let child = pair.command(&["promote", "--yes", "green"]).spawn().unwrap();
    wait_for(pair, "at");
    child
}

#[test]
fn ctrl_c_at_each_step_completes_or_cancels_the_promotion() {
    let pair = stalling();
    for step in BEFORE {
        let mut child = begin_at(&pair, step);
        let out = BufReader::new(child.stdout.take().unwrap());
        let (status, text) = interrupt((child, out, String::new()));
        assert_eq!(
            (status, pair.public().as_str(), pair.marks()),
            (1, "blue", [None, None]),
            "{step}: {text}"
        );
        assert!(text.contains("Not promoted: blue is public.\n"), "{step}: {text}");
    }
    // The switch is confirmed, so it is too late to stop.
    for step in AFTER {
        let mut child = begin_at(&pair, step);
        let out = BufReader::new(child.stdout.take().unwrap());
        let (status, text) = interrupt((child, out, String::new()));
        assert_eq!((status, pair.public().as_str()), (0, "green"), "{step}: {text}");
        assert_eq!(pair.marks(), [Some(false), Some(true)], "{step}: {text}");
    }
}

#[test]
fn a_hold_lost_before_the_switch_aborts_the_promotion() {
    let pair = stalling();
    // The connection closes during the last request to the holds.
    let child = begin_at(pair.write("lose", ""), "status");
    let (status, text) = said(&child.wait_with_output().unwrap());
    assert_eq!((status, pair.public().as_str(), pair.marks()), (1, "blue", [None, None]), "{text}");
    assert!(
        text.contains("` is no longer locked") && text.contains("Not promoted: blue is public.\n"),
        "{text}"
    );
}

#[test]
fn a_promotion_killed_at_each_step_leaves_no_lock_and_repairable_marks() {
    let pair = stalling();
    let switch = fs::read_to_string(pair.file("switch")).unwrap();
    let set = switch.split("set) ").nth(1).unwrap().split(" ;;").next().unwrap();
    pair.switch(&format!(
        "[ set != \"$(cat \"$here/stall\")\" ] || {{ touch \"$here/at\"; sleep 0.5; }}; {set}"
    ));
    for step in BEFORE.iter().chain(&["set"]).chain(&AFTER) {
        let mut child = begin_at(&pair, step);
        child.kill().unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while [&pair.blue, &pair.green].iter().any(|side| {
            let status = side.bluegreen_command(&["status", "--json"]).output().unwrap();
            !String::from_utf8_lossy(&status.stdout).contains("\"running\": null")
        }) {
            assert!(Instant::now() < deadline, "{step}: a hold outlived its client");
        }
        // The switch itself continues and selects one side or the other.
        pair.write("stall", "");
        thread::sleep(Duration::from_millis(if *step == "set" { 700 } else { 0 }));
        let public = if BEFORE.contains(step) { "blue" } else { "green" };
        assert_eq!(pair.public(), public, "{step}");
        let (status, text) = said(&pair.command(&["public"]).output().unwrap());
        assert_eq!(status, 0, "{step}: {text}");
        let marks = [Some(public == "blue"), Some(public == "green")];
        assert!([[None, None], marks].contains(&pair.marks()), "{step}: {:?}", pair.marks());
    }
    // A power failure between two marks leaves only one. Simulate that.
    fs::remove_file(pair.green.site().join(".bluegreen/public")).unwrap();
    // A key that may not promote reads, and changes nothing.
    for role in ["read", "push", "unknown"] {
        let (status, text) = said(&pair.command(&["public"]).env("BLUEGREEN_ROLE", role).output().unwrap());
        assert!(status == 0 && !text.contains("corrected"), "{role}: {text}");
        assert_eq!(pair.marks(), [Some(false), None], "{role}");
    }
    let (_, text) = said(&pair.command(&["public"]).output().unwrap());
    assert!(
        text.contains("warning: corrected the mark of green, which was wrong or missing: green is public"),
        "{text}"
    );
    assert_eq!(pair.marks(), [Some(false), Some(true)]);
    assert_eq!(pair.promote(&[]).0, 0);
}

/// A deterministic pseudorandom generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Parses the timestamps in a log of the test, in nanoseconds. Each line may begin with a word.
fn instants(text: &str) -> Vec<(String, u128)> {
    let parse = |line: &str| {
        let (word, instant) = line.rsplit_once(' ').unwrap_or(("", line));
        (word.to_owned(), instant.parse().unwrap())
    };
    text.lines().map(parse).collect()
}

/// Creates commits, and a push for each of them.
fn pushes(side: &Sandbox) -> Vec<Command> {
    let push = |version: u64| {
        side.commit("index.html", &version.to_string());
        side.push_command(&[&format!("{}:refs/heads/master", side.id("master"))])
    };
    (0..60).map(push).collect()
}

/// Pushes until it is stopped. Returns the number of pushes that became live, and of those rejected by a
/// hold.
fn push_at_random(pushes: Vec<Command>, mut dice: Dice, stop: &AtomicBool) -> (u64, u64) {
    let (mut live, mut held) = (0, 0);
    for mut push in pushes {
        thread::sleep(Duration::from_millis(dice.roll(500)));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (status, text) = said(&push.output().unwrap());
        assert_eq!(status, 0, "{text}");
        let gave_up = text
            .contains("error: timed out after 300ms: the site is still locked by a promotion by ")
            && text.contains("Not deployed: ");
        let went_live = text.contains(" is live: ");
        assert!(gave_up != went_live, "{text}");
        (live, held) = (live + u64::from(went_live), held + u64::from(gave_up));
    }
    (live, held)
}

/// Sends requests to the front end until it is stopped. Each must be served by one of the two sides.
fn visit(port: &str, stop: &AtomicBool) -> u64 {
    let mut visits = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        stream.read_to_string(&mut answer).unwrap();
        let from = |side| answer.contains(&format!("X-Served-By: {side}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 ") && from("blue") != from("green"), "{answer}");
        visits += 1;
        thread::sleep(Duration::from_millis(5));
    }
    visits
}

#[test]
fn no_push_activates_a_release_during_a_promotion() {
    let (seed, rounds) = (number("BLUEGREEN_TEST_SEED", 13), number("BLUEGREEN_TEST_PROMOTIONS", 4));
    writeln!(std::io::stderr(), "BLUEGREEN_TEST_SEED={seed} BLUEGREEN_TEST_PROMOTIONS={rounds}").unwrap();
    let pair = Pair::new();
    pair.configure("watch = \"0.4s\"", "watch = \"0.6s\"");
    // Log the time of each activation and of each call of the switch.
    for side in [&pair.blue, &pair.green] {
        let restart = format!("[steps]\nrestart = 'date +%s%N >>{}'\n", pair.file("flips").display());
        let text = fs::read_to_string(side.config_path()).unwrap();
        side.raw_config(&format!("lock-timeout = \"300ms\"\n{text}{restart}"));
    }
    let switch = fs::read_to_string(pair.file("switch")).unwrap();
    pair.write(
        "switch.log",
        &switch.replace("case $1 in", "echo \"$1 $(date +%s%N)\" >>\"$here/asked\"; case $1 in"),
    );
    fs::set_permissions(pair.file("switch.log"), fs::metadata(pair.file("switch")).unwrap().permissions())
        .unwrap();
    fs::rename(pair.file("switch.log"), pair.file("switch")).unwrap();
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let port = config.split("url = \"http://127.0.0.1:").nth(1).unwrap().split('/').next().unwrap();

    let (stop, done, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut dice = Dice(seed);
    let (pushes, visits) = thread::scope(|scope| {
        let (to_blue, to_green) = (Dice(dice.roll(1 << 30)), Dice(dice.roll(1 << 30)));
        let pushers = [(&pair.blue, to_blue), (&pair.green, to_green)].map(|(side, dice)| {
            let (pushes, stop) = (pushes(side), &stop);
            scope.spawn(move || push_at_random(pushes, dice, stop))
        });
        let visitor = scope.spawn(|| visit(port, &stop));
        let promoted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while done.load(Ordering::Relaxed) < rounds {
                thread::sleep(Duration::from_millis(dice.roll(200)));
                promote(&pair, &done, &refused);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let pushes = pushers.map(|pusher| pusher.join().unwrap());
        promoted.unwrap();
        (pushes, visitor.join().unwrap())
    });
    assert!(visits > 100, "{visits}");
    assert!(pushes.iter().all(|(live, _)| *live > 0), "{pushes:?}");
    assert!(pushes.iter().any(|(_, held)| *held > 0), "no push coincided with a promotion: {pushes:?}");

    let asked = instants(&fs::read_to_string(pair.file("asked")).unwrap());
    let sets: Vec<usize> = (0..asked.len()).filter(|&at| asked[at].0 == "set").collect();
    assert_eq!(sets.len() as u64, done.load(Ordering::Relaxed));
    let flips = instants(&fs::read_to_string(pair.file("flips")).unwrap());
    for at in sets {
        // The first `show` follows directly, and the second comes after the watch. The holds cover both.
        let (begun, ended) = (asked[at].1, asked[at + 2].1);
        assert!(ended - begun > 500_000_000, "{asked:?}");
        assert!(!flips.iter().any(|(_, flip)| (begun..ended).contains(flip)), "{asked:?} {flips:?}");
    }
}

/// Promotes. A promotion that a push prevents reports why and changes nothing.
fn promote(pair: &Pair, done: &AtomicU64, refused: &AtomicU64) {
    let before = pair.public();
    let (status, text) = pair.promote(&[]);
    if status == 0 {
        done.fetch_add(1, Ordering::Relaxed);
        assert_ne!(pair.public(), before);
        return;
    }
    let says = [
        "` is busy: ",
        "` got another release in the meantime",
        "` cannot be locked: timed out after 300ms: ",
    ];
    assert!(status == 1 && says.iter().any(|words| text.contains(words)), "{text}");
    assert_eq!(pair.public(), before);
    assert!(refused.fetch_add(1, Ordering::Relaxed) < 200, "cannot promote: {text}");
}

#[test]
fn a_kill_during_the_watch_leaves_the_new_side_public() {
    let pair = Pair::new();
    let (mut child, _, _) = begin(&pair, "The front end shows green");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((pair.public().as_str(), pair.marks()), ("green", [None, None]));
    // Promoting the public side checks it and writes the marks.
    let (status, text) = pair.promote(&["green"]);
    assert_eq!((status, pair.marks()), (0, [Some(false), Some(true)]), "{text}");
    assert!(text.lines().any(|line| line.ends_with(" is public already")), "{text}");
    let mut lines = text.as_bytes().lines();
    assert!(lines.any(|line| line.unwrap().starts_with("green is public: ")), "{text}");
}
