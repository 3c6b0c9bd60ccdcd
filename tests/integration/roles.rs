//! The role of a side: the `enter` and `leave` commands in `[public]` run on one side at a time, even after
//! failures and crashes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::promote::{Pair, said};
use crate::promote_fails::wait_for;
use crate::promote_steps::STALLS;
use crate::support::Sandbox;

/// A pair whose jobs are files in one directory. A job that starts while the other side's job runs creates
/// the file `twice`.
pub(crate) struct Jobs(pub Pair);

impl Jobs {
    pub fn new(more: &str) -> Self {
        let jobs = Self(Pair::new());
        let folder = jobs.0.file("").display().to_string();
        fs::create_dir(jobs.0.file("jobs")).unwrap();
        let of = |name: &str, work: &str| {
            format!(
                "'''cd {folder}; echo $BLUEGREEN_SERVER {name} $BLUEGREEN_PUBLIC >>log
                {work}
                [ ! -e $BLUEGREEN_SERVER.{name} ] || . ./$BLUEGREEN_SERVER.{name}'''"
            )
        };
        let enter = of("enter", "touch jobs/$BLUEGREEN_SERVER; [ $(ls jobs | wc -l) = 1 ] || touch twice");
        let section = format!(
            "[public]\nenter = {enter}\nleave = {}\n{more}",
            of("leave", "rm -f jobs/$BLUEGREEN_SERVER")
        );
        for side in [&jobs.0.blue, &jobs.0.green] {
            let text = fs::read_to_string(side.config_path()).unwrap();
            side.raw_config(&format!("{text}\n{section}\n"));
        }
        jobs
    }

    /// Performs the first promotion, after which blue is public and runs the jobs.
    pub fn begun(more: &str) -> Self {
        let jobs = Self::new(more);
        assert_eq!(jobs.0.promote(&["blue"]).0, 0);
        assert_eq!(jobs.log(), ["green leave no", "blue enter yes"]);
        jobs
    }

    /// Returns the log of the steps since the last call.
    pub fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.0.file("log")).unwrap_or_default();
        let _ = fs::remove_file(self.0.file("log"));
        log.lines().map(str::to_owned).collect()
    }

    /// Returns the sides that run the jobs. Asserts that both never ran them at the same time.
    #[track_caller]
    pub fn running(&self) -> Vec<String> {
        assert!(!self.0.file("twice").exists(), "the jobs ran on both sides: {:?}", self.log());
        let names = self.0.file("jobs").read_dir().unwrap();
        names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Makes a step of a side run an additional command.
    fn step(&self, name: &str, work: &str) -> &Self {
        self.0.write(name, work);
        self
    }

    /// Runs `public`, which corrects the state that an interrupted promotion left.
    fn correct(&self) -> String {
        let (status, text) = said(&self.0.command(&["public"]).output().unwrap());
        assert_eq!(status, 0, "{text}");
        text
    }

    /// Sends requests to a hold, and returns its exit status and all output.
    fn hold(side: &Sandbox, options: &[&str], requests: &str) -> (i32, String) {
        let mut hold = side.bluegreen_command(&[&["hold"], options].concat());
        let mut child =
            hold.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A rejected hold exits without reading them.
        let _ = child.stdin.take().unwrap().write_all(requests.as_bytes());
        said(&child.wait_with_output().unwrap())
    }
}

fn role(side: &Sandbox) -> serde_json::Value {
    let status: serde_json::Value =
        serde_json::from_str(side.bluegreen(&["status", "--json"]).ok().output()).unwrap();
    status["role"].clone()
}

#[test]
fn the_leaving_side_stops_before_the_other_one_starts() {
    let jobs = Jobs::new("");
    assert_eq!(role(&jobs.0.blue), serde_json::json!({"public": null, "complete": true, "within": 600}));
    let (status, text) = jobs.0.promote(&["green"]);
    assert_eq!(status, 0, "{text}");
    assert_eq!(jobs.log(), ["blue leave no", "green enter yes"]);
    let lines: Vec<&str> = text.lines().map(|line| line.split(" after ").next().unwrap()).collect();
    let order =
        ["Leaving blue...", "Left blue", "Entering green...", "Entered green", "Switching to green..."];
    let at = |line: &str| {
        lines.iter().position(|found| *found == line).unwrap_or_else(|| panic!("{line}: {text}"))
    };
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{text}");
    assert_eq!(
        (role(&jobs.0.blue)["public"].clone(), role(&jobs.0.green)["public"].clone()),
        (false.into(), true.into())
    );
    jobs.0.green.bluegreen(&["status"]).ok().says("Role:     entered: runs what only the public side runs");

    // A side that already has its role is left alone.
    assert_eq!(jobs.0.promote(&["green"]).0, 0);
    assert!(jobs.log().is_empty() && !jobs.correct().contains("warning"));
    assert_eq!(jobs.0.promote(&[]).0, 0);
    assert_eq!(jobs.log(), ["green leave no", "blue enter yes"]);
    assert_eq!(jobs.running(), ["blue"]);
}

/// Control: without the right order, these tests fail.
#[test]
fn jobs_on_both_sides_are_detected() {
    let jobs = Jobs::begun("");
    let (_, text) = Jobs::hold(&jobs.0.green, &["--protocol", "2"], "enter\n");
    assert!(text.contains("{\"role\":true}"), "{text}");
    assert!(jobs.0.file("twice").exists());
}

#[test]
fn a_failed_enter_returns_the_jobs_and_prevents_the_switch() {
    let jobs = Jobs::begun("");
    jobs.0.switch("touch \"$here/switched\"");
    jobs.step("green.enter", "echo no database; exit 7");
    let text = jobs.0.fails(&["green"], "error: `enter` of `[public]` failed on `");
    assert!(text.contains("exited with status 7") && !jobs.0.file("switched").exists(), "{text}");
    assert_eq!(jobs.log(), ["blue leave no", "green enter yes", "green leave no", "blue enter yes"]);
    assert_eq!((jobs.running(), jobs.0.marks()), (vec!["blue".into()], [Some(true), Some(false)]));
    let log = jobs.0.green.bluegreen(&["log"]).ok();
    assert!(log.output().contains("no database"), "{}", log.output());
    jobs.0.green.bluegreen(&["status"]).ok().never_says("Pending:");
}

#[test]
fn a_failed_leave_starts_no_jobs_on_the_other_side() {
    let jobs = Jobs::begun("");
    jobs.step("blue.leave", "exit 7");
    jobs.0.fails(&["green"], "error: `leave` of `[public]` failed on `");
    assert_eq!(jobs.log(), ["blue leave no", "blue enter yes"]);
    assert_eq!(jobs.running(), ["blue"]);
}

#[test]
fn a_failed_watch_switches_back_before_it_returns_the_jobs() {
    let jobs = Jobs::begun("");
    jobs.0.write("front.green", "500");
    let text = jobs.0.fails_with(&["green"], "returned 500", "blue is public again, and healthy.");
    assert!(text.find("Going back to blue") < text.find("Leaving green..."), "{text}");
    assert_eq!(jobs.log(), ["blue leave no", "green enter yes", "green leave no", "blue enter yes"]);
    assert_eq!(jobs.running(), ["blue"]);
}

#[test]
fn a_side_that_cannot_leave_prevents_the_other_from_entering() {
    let jobs = Jobs::begun("");
    jobs.step("green.enter", "exit 7").step("green.leave", "touch jobs/green; exit 8");
    let text = jobs.0.fails(&["green"], "`enter` of `[public]` failed");
    assert!(text.contains("warning: `leave` of `[public]` failed"), "{text}");
    assert!(
        text.contains("hint: fix the cause, then run `bluegreen public`, which starts it on the public side"),
        "{text}"
    );
    assert_eq!(jobs.log(), ["blue leave no", "green enter yes", "green leave no"]);
    assert_eq!(jobs.running(), ["green"], "the state of the jobs there is unknown");
    jobs.0
        .green
        .bluegreen(&["status"])
        .ok()
        .says("Pending:  `enter` or `leave` of `[public]` failed or was interrupted: `bluegreen resume`");
    // Each deployment retries the step and reports its failure, but does not fail.
    let push = jobs.0.green.commit("index.html", "v2").push().warned();
    assert!(push.output().contains("exited with status 8"), "{}", push.output());
    fs::remove_file(jobs.0.file("green.leave")).unwrap();
    jobs.log();
    let text = jobs.correct();
    assert!(
        text.contains("warning: a promotion was interrupted while it changed which side runs the jobs"),
        "{text}"
    );
    assert_eq!(jobs.log(), ["green leave no", "blue enter yes"]);
    assert_eq!(jobs.running(), ["blue"]);
}

#[test]
fn killed_at_each_step_no_promotion_leaves_two_sides_with_jobs() {
    let jobs = Jobs::begun("");
    jobs.0.by_ssh(STALLS);
    for step in ["leave", "enter", "public", "record"] {
        jobs.0.write("public", "blue\n").write("stall", "");
        jobs.correct();
        assert_eq!(jobs.running(), ["blue"], "{step}");
        let _ = fs::remove_file(jobs.0.file("at"));
        jobs.0.write("stall", step);
        let mut child = jobs.0.command(&["promote", "--yes", "green"]).spawn().unwrap();
        wait_for(&jobs.0, "at");
        child.kill().unwrap();
        child.wait().unwrap();
        is_free(&jobs.0);
        // Running the jobs on neither side is better than on both.
        assert!(jobs.running().len() <= 1, "{step}");
        jobs.0.write("stall", "");
        let public = if ["leave", "enter"].contains(&step) { "blue" } else { "green" };
        assert_eq!(jobs.0.public(), public, "{step}");
        jobs.correct();
        assert_eq!(jobs.running(), [public], "{step}");
        assert_eq!(jobs.0.marks(), [Some(public == "blue"), Some(public == "green")], "{step}");
        for side in [&jobs.0.blue, &jobs.0.green] {
            side.bluegreen(&["status"]).ok().never_says("Pending:");
        }
    }
}

/// Waits until no promotion holds a server.
pub(crate) fn is_free(pair: &Pair) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while [&pair.blue, &pair.green].iter().any(|side| {
        let status = side.bluegreen_command(&["status", "--json"]).output().unwrap();
        !String::from_utf8_lossy(&status.stdout).contains("\"running\": null")
    }) {
        assert!(Instant::now() < deadline, "a hold outlived its client");
    }
}

#[test]
fn a_server_crash_during_a_step_returns_the_jobs() {
    // The step kills the program that runs it once, as a crash of the server would.
    let once = |jobs: &Jobs, step: &str| {
        jobs.step(step, "[ -e crashed ] || { touch crashed; kill -9 $PPID; }");
    };
    let jobs = Jobs::begun("");
    once(&jobs, "green.enter");
    let text = jobs.0.fails(&["green"], "` is no longer locked");
    assert_eq!(
        jobs.log(),
        ["blue leave no", "green enter yes", "green leave no", "blue enter yes"],
        "{text}"
    );
    assert_eq!(jobs.running(), ["blue"]);

    let jobs = Jobs::begun("");
    once(&jobs, "blue.leave");
    let text = jobs.0.fails(&["green"], "` is no longer locked");
    assert_eq!(jobs.log(), ["blue leave no", "blue leave no", "blue enter yes"], "{text}");
    assert_eq!(jobs.running(), ["blue"]);
    assert_eq!(jobs.0.promote(&["green"]).0, 0);
    assert_eq!(jobs.running(), ["green"]);
}

#[test]
fn a_boot_reverts_an_incomplete_enter_and_public_restarts_the_jobs() {
    let jobs = Jobs::begun("");
    // Client and server are killed during `enter`.
    let pid = jobs.0.file("pid");
    jobs.step("green.enter", "[ -e crashed ] || { touch crashed; kill -9 $(cat pid) $PPID; }");
    let mut child = Command::new("sh");
    let program = jobs.0.command(&["promote", "--yes", "green"]);
    child.arg("-c").arg(format!("echo $$ >{}; exec \"$@\"", pid.display())).arg("sh");
    child.arg(program.get_program()).args(program.get_args()).env_clear();
    child.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
    child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(!child.status().unwrap().success());
    is_free(&jobs.0);
    assert_eq!(jobs.log(), ["blue leave no", "green enter yes"]);
    assert_eq!(jobs.running(), ["green"]);
    jobs.0
        .green
        .bluegreen(&["resume", "--boot"])
        .warned()
        .says("warning: a change of the side's role was interrupted: running `leave` of `[public]`");
    assert_eq!(jobs.log(), ["green leave no"]);
    assert_eq!((jobs.running(), jobs.0.public().as_str()), (vec![], "blue"));
    jobs.0.blue.bluegreen(&["status"]).ok().says(
        "Pending:  a promotion was interrupted before it recorded which side is public and runs the jobs: `bluegreen public`",
    );
    jobs.correct();
    assert_eq!(jobs.running(), ["blue"]);
}

#[test]
fn a_leave_that_crashes_the_server_is_tried_three_times() {
    let jobs = Jobs::begun("");
    jobs.step("green.enter", "kill -9 $PPID").step("green.leave", "kill -9 $PPID");
    assert_eq!(jobs.0.promote(&["green"]).0, 1);
    for _ in 0..4 {
        let _ = jobs.0.green.bluegreen_command(&["resume", "--boot"]).output();
    }
    let log = jobs.log();
    assert_eq!(log.iter().filter(|line| *line == "green leave no").count(), 3, "{log:?}");
    assert!(!log.contains(&"blue enter yes".into()), "{log:?}");
    jobs.0
        .green
        .bluegreen(&["resume", "--boot"])
        .warned()
        .says("warning: `leave` of `[public]` was interrupted 3 times and is not retried");
    // The next promotion requests it explicitly.
    fs::remove_file(jobs.0.file("green.enter")).unwrap();
    fs::remove_file(jobs.0.file("green.leave")).unwrap();
    jobs.correct();
    assert_eq!(jobs.running(), ["blue"]);
}

#[test]
fn a_damaged_role_file_runs_leave_first() {
    let jobs = Jobs::begun("");
    fs::write(jobs.0.blue.site().join(".bluegreen/role"), "{").unwrap();
    jobs.0.blue.bluegreen(&["deploy"]).warned();
    assert_eq!(jobs.log(), ["blue leave no"]);
    jobs.correct();
    assert_eq!(jobs.running(), ["blue"]);
}

#[test]
fn steps_and_notices_receive_whether_the_side_is_public() {
    let pair = Pair::new();
    let words = pair.file("words");
    let echo = format!("echo $BLUEGREEN_PUBLIC >>{}", words.display());
    pair.blue.config_section(&format!("[steps]\nbuild = '{echo}'\n[notify]\nrun = '{echo}'"));
    let said = || {
        let text = fs::read_to_string(&words).unwrap_or_default();
        let _ = fs::remove_file(&words);
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    pair.blue.commit("index.html", "v2").push().ok();
    assert_eq!(said(), ["unknown", "unknown"]);
    assert_eq!(pair.promote(&["blue"]).0, 0);
    assert_eq!(said(), ["yes"]);
    pair.blue.commit("index.html", "v3").push().warned();
    assert_eq!(said(), ["yes", "yes"]);
    assert_eq!(pair.promote(&["green"]).0, 0);
    pair.blue.commit("index.html", "v4").push().ok();
    assert_eq!(said()[..2], ["no", "no"]);
    fs::write(pair.blue.site().join(".bluegreen/public"), "{").unwrap();
    pair.blue.commit("index.html", "v5").push().warned();
    assert_eq!(said()[0], "unknown");
}

#[test]
fn the_previously_public_release_is_kept_while_it_settles() {
    for (settle, stays) in [("settle = '1h'", true), ("settle = '0s'", false)] {
        let jobs = Jobs::begun(settle);
        jobs.0.blue.raw_config(
            &fs::read_to_string(jobs.0.blue.config_path()).unwrap().replace("[site]", "[site]\nkeep = 0"),
        );
        let had = jobs.0.blue.live();
        let inode = |release: &str| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(jobs.0.blue.site().join("releases").join(release)).ok().map(|found| found.ino())
        };
        let before = inode(&had);
        assert_eq!(jobs.0.promote(&["green"]).0, 0);
        for version in ["v2", "v3", "v4"] {
            jobs.0.blue.commit("index.html", version).push().ok();
        }
        assert_eq!(
            inode(&had).is_some() && inode(&had) == before,
            stays,
            "{settle}: {:?}",
            jobs.0.blue.releases()
        );
    }
}

#[test]
fn an_old_server_can_be_promoted_but_an_old_client_is_rejected() {
    // An old server has neither the option nor the fields.
    let pair = Pair::new();
    pair.by_ssh(
        "case $last in
        *--protocol*) echo 'error: unexpected argument' >&2; exit 2 ;;
        'bluegreen status'*) sh -c \"$last\" | grep -v -e '\"protocol\"' -e '\"role\"' -e '\"lock\"'; exit ;;
        esac",
    );
    let (status, text) = pair.promote(&["green"]);
    assert_eq!((status, pair.marks()), (0, [Some(false), Some(true)]), "{text}");

    let jobs = Jobs::begun("");
    let (status, text) = Jobs::hold(&jobs.0.green, &[], "public yes\n");
    assert_eq!(status, 1, "{text}");
    let problem = "error: the client's version of bluegreen is too old: green has steps in `[public]`, or a worker\n\
                   hint: upgrade bluegreen on the machine that runs `promote`\n";
    assert_eq!(text, problem);
    let plain = Sandbox::new();
    plain.commit("index.html", "v1").push().ok();
    assert_eq!(Jobs::hold(&plain, &[], "beat\n").0, 0);
    plain.bluegreen(&["lock", "Black Friday"]).ok();
    let (status, text) = Jobs::hold(&plain, &[], "beat\n");
    assert!(status == 1 && text.contains("is too old: blue is locked by "), "{text}");
}

#[test]
fn steps_longer_than_the_lease_renew_it() {
    let jobs = Jobs::begun("");
    jobs.step("green.enter", "sleep 22");
    let (status, text) = jobs.0.promote(&["green"]);
    assert_eq!((status, jobs.running()), (0, vec!["green".into()]), "{text}");
}

#[test]
fn recovery_output_of_a_hold_is_separate_from_its_replies() {
    let pair = Pair::new();
    // A deployment is killed in `verify`, and the hold repeats the step.
    let fatal = pair.file("fatal");
    pair.write("fatal", "");
    pair.blue.config_section(&format!(
        "[steps]\nverify = 'echo verified; if [ -e {0} ]; then rm {0}; kill -9 $PPID; fi'",
        fatal.display()
    ));
    let _ = pair.blue.commit("index.html", "v2").push();
    assert!(!fatal.exists());
    let mut hold = pair.blue.bluegreen_command(&["hold"]);
    let mut child = hold.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"held\":"), "{line}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(pair.promote(&["green"]).0, 0);
}
