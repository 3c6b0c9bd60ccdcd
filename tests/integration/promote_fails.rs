//! Promotions that fail or are interrupted at each step. The last line says which side is public, and the
//! exit status whether anything was switched.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::promote::{Pair, said};
use crate::support::sandbox::{BLUEGREEN, Sandbox};

/// What the switch in the tests runs when nothing is wrong.
const SETS: &str = "printf '%s\\n' \"$2\" >\"$here/.next\"; mv \"$here/.next\" \"$here/public\"";

/// Starts a promotion and waits until it prints `words`.
pub(crate) fn begin(pair: &Pair, words: &str) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut child = pair.command(&["promote", "--yes"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains(words) {
        assert_ne!(lines.read_line(&mut text).unwrap(), 0, "{text}");
    }
    (child, lines, text)
}

/// Interrupts a promotion as Ctrl-C does. Returns its exit status and all output.
pub(crate) fn interrupt(
    (mut child, mut lines, mut text): (Child, BufReader<std::process::ChildStdout>, String),
) -> (i32, String) {
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    lines.read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (child.wait().unwrap().code().unwrap_or(-1), text)
}

/// Waits for a file that a step of the test creates.
pub(crate) fn wait_for(pair: &Pair, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !pair.file(name).exists() {
        assert!(Instant::now() < deadline, "timed out waiting for {name}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn ctrl_c_cancels_before_the_switch_and_reverts_after_it() {
    let pair = Pair::new();
    pair.configure("within = \"1s\"\nwatch = \"0.4s\"", "within = \"20s\"\nwatch = \"20s\"");
    // During the check, which the side fails.
    pair.write("green.status", "503");
    let (status, text) = interrupt(begin(&pair, "green "));
    assert_eq!((status, pair.public().as_str(), pair.marks()), (1, "blue", [None, None]), "{text}");
    assert!(text.contains("Not promoted: blue is public."), "{text}");
    fs::remove_file(pair.file("green.status")).unwrap();
    // While the switch runs.
    pair.switch(&format!("touch \"$here/setting\"; sleep 0.5; {SETS}"));
    let begun = begin(&pair, "Checked green");
    wait_for(&pair, "setting");
    let (status, text) = interrupt(begun);
    assert_eq!((status, pair.public().as_str()), (1, "blue"), "{text}");
    assert!(
        text.contains("Going back to blue: ")
            && text.contains("Not promoted: blue is public again, and healthy."),
        "{text}"
    );
    // During the watch.
    pair.switch(SETS);
    let (status, text) = interrupt(begin(&pair, "The front end shows green"));
    assert_eq!((status, pair.public().as_str()), (1, "blue"), "{text}");
    assert!(text.contains("Not promoted: blue is public again, and healthy."), "{text}");
    assert_eq!(pair.marks(), [Some(true), Some(false)]);
}

#[test]
fn ctrl_c_cancels_at_the_prompt() {
    let pair = Pair::new();
    let line = format!(
        "trap : INT; {BLUEGREEN} promote --config {}; echo status $?",
        pair.file("promote.toml").display()
    );
    let mut command = pair.blue.command("script");
    let keyboard = Stdio::piped();
    let mut script =
        command.args(["-qec", &line, "/dev/null"]).stdin(keyboard).stdout(Stdio::piped()).spawn().unwrap();
    let mut terminal = BufReader::new(script.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("Go ahead?") {
        assert_ne!(terminal.read_line(&mut text).unwrap(), 0, "{text}");
    }
    std::io::Write::write_all(script.stdin.as_mut().unwrap(), b"\x03").unwrap();
    terminal.read_to_string(&mut text).unwrap();
    script.wait().unwrap();
    assert!(text.contains("Not promoted: blue is public.") && text.contains("status 1"), "{text}");
}

#[test]
fn a_hanging_switch_is_killed_and_reverted() {
    let pair = Pair::new();
    pair.configure("switch = \"./switch\"", "switch = \"./switch\"\nwithin = \"1s\"");
    pair.switch("sleep 60");
    pair.fails(&[], "the switch's `set green` timed out after 1s");
    // A switch that hangs after switching has taken effect.
    pair.switch(&format!("{SETS}; sleep 60"));
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
}

#[test]
fn a_failure_after_the_switch_is_reported_with_its_own_exit_status() {
    let pair = Pair::new();
    // The switch stops working after it has switched.
    pair.switch(&format!("{SETS}; printf '#!/bin/sh\\nexit 1\\n' >\"$here/switch.next\"; chmod +x \"$here/switch.next\"; mv \"$here/switch.next\" \"$here/switch\""));
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (3, "green"), "{text}");
    assert!(text.contains("the front end does not report which side is public."), "{text}");
    pair.switch(SETS);
    assert_eq!(pair.promote(&["green"]).0, 0);
    // The client loses a server's hold during the watch.
    pair.configure("watch = \"0.4s\"", "watch = \"1s\"");
    let begun = begin_lost(&pair);
    assert_eq!((begun.0, pair.public().as_str()), (3, "blue"), "{}", begun.1);
    assert!(begun.1.contains("Promoted, but something failed afterwards: blue is public."), "{}", begun.1);
    assert!(begun.1.contains("` is no longer locked"), "{}", begun.1);
    let told = ": not every server has recorded which side is public\nhint: run `bluegreen public`, which corrects the marks\n";
    assert!(begun.1.contains(told), "{}", begun.1);
    // `public` repairs the marks.
    let (status, text) = said(&pair.command(&["public"]).output().unwrap());
    assert_eq!((status, pair.marks()), (0, [Some(true), Some(false)]), "{text}");
}

#[test]
fn a_promotion_that_went_back_is_no_promotion_even_if_the_switch_then_fails() {
    let pair = Pair::new();
    let show = "[ ! -e \"$here/shown\" ] || exit 1; [ ! -e \"$here/back\" ] || touch \"$here/shown\"";
    let set = format!("[ \"$2\" = green ] || touch \"$here/back\"; {SETS}");
    pair.switch(&format!("{set} ;; esac; case $1 in show) {show}"));
    pair.write("front.status", "500");
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (1, "blue"), "{text}");
    assert!(text.contains("Going back to blue: ") && !text.contains("Promoted, but"), "{text}");
    assert!(text.contains("warning: the switch's `show` exited with status 1"), "{text}");
}

/// Promotes, and during the watch kills both ends of the holds on this machine.
fn begin_lost(pair: &Pair) -> (i32, String) {
    let (mut child, mut lines, mut text) = begin(pair, "The front end shows blue");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    for pid in fs::read_to_string(children).unwrap().split_whitespace() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains("\0hold\0") {
            kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        }
    }
    lines.read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (child.wait().unwrap().code().unwrap_or(-1), text)
}

#[test]
fn force_promotes_an_unhealthy_side() {
    let pair = Pair::new();
    pair.switch(&format!("echo \"$2 ${{SWITCH_FORCE-no}}\" >>\"$here/sets\"; {SETS}"));
    pair.write("green.status", "500").write("front.status", "500").fails(&[], "returned 500");
    let (status, text) = pair.promote(&["--force"]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    assert!(text.contains("warning: / of ") && text.contains(" failed"), "{text}");
    assert_eq!(fs::read_to_string(pair.file("sets")).unwrap(), "green 1\n");
}

#[test]
fn an_unreachable_side_can_be_left() {
    let pair = Pair::new();
    let blue = pair.blue.repository().display().to_string();
    // From here on, ssh to blue fails.
    pair.configure(&format!("ssh = \"{blue}\""), "ssh = \"deploy@blue:app\"");
    let ssh = "printf 'ssh: connect to host blue: No route to host\\n' >&2; exit 255 #";
    let run =
        |arguments: &[&str]| said(&pair.command(arguments).env("GIT_SSH_COMMAND", ssh).output().unwrap());
    let (status, text) = run(&["promote", "--yes"]);
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains(
            "cannot reach `deploy@blue:app` by ssh: connect to host blue: No route to host\nhint: "
        ),
        "{text}"
    );
    assert!(
        text.contains("`--force` promotes without it") && text.contains("Not promoted: blue is public."),
        "{text}"
    );
    let (status, text) = run(&["public"]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("green") && text.contains("No route to host"), "{text}");
    let (status, text) = run(&["promote", "--yes", "--force"]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    assert!(text.contains("No route to host: it is neither locked nor marked"), "{text}");
    assert_eq!(pair.marks(), [None, Some(true)]);
    // A side without any responding server is never promoted.
    let (status, text) = run(&["promote", "--yes", "--force", "blue"]);
    assert_eq!((status, pair.public().as_str()), (1, "green"), "{text}");
}

#[test]
fn a_side_of_several_servers_is_held_checked_and_marked_as_one() {
    let pair = Pair::new();
    let other = Pair::new();
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let old = config.lines().find(|line| line.starts_with("green = ")).unwrap();
    let address = old.rsplit('"').nth(1).unwrap();
    let second = format!("{{ ssh = \"{}\", address = \"{address}\" }}", other.green.repository().display());
    let list = format!("green = [{}, {second}]", old.strip_prefix("green = ").unwrap());
    pair.write("promote.toml", &config.replace(old, &list));
    other.green.commit("index.html", "another").push().ok();
    let [one, two] = [&pair.green, &other.green].map(|green| green.repository().display().to_string());
    let [v1, another] = [&pair.green, &other.green].map(|green| green.id("master")[..12].to_owned());
    pair.fails(
        &[],
        &format!(
            "the servers of green serve different commits: `{one}` serves {v1}, `{two}` serves {another}"
        ),
    );
    let clone = pair.green.clone_path();
    let push = ["push", "--force", "--quiet", other.green.repository().to_str().unwrap(), "master"]
        .map(str::to_owned);
    assert!(pair.green.git_command(&clone).args(push).status().unwrap().success());
    let (status, text) = pair.promote(&[]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("Checked green: 2 servers."), "{text}");
    assert_eq!((pair.marks()[1], other.marks()[1]), (Some(true), Some(true)));
}

#[test]
fn servers_with_the_same_folder_at_different_commits_are_promoted() {
    let pair = Pair::new();
    let others = [Sandbox::new(), Sandbox::new()];
    let servers = [&others[0], &others[1], &pair.green];
    for server in servers {
        crate::promote::green_config(server, "subdirectory = \"web\"");
    }
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let line = config.lines().find(|line| line.starts_with("green = ")).unwrap();
    let address = line.rsplit('"').nth(1).unwrap();
    let of = |server: &Sandbox| {
        format!("{{ ssh = \"{}\", address = \"{address}\" }}", server.repository().display())
    };
    let sides = format!("green = [{}]", servers.map(of).join(", "));
    let checks = format!("\nrun = [\"echo $BLUEGREEN_COMMIT >>{}\"]", pair.file("commits").display());
    pair.write("promote.toml", &(config.replace(line, &sides) + &checks));
    let push = |server: &Sandbox| {
        let url = server.repository();
        let mut git = pair.green.git_command(&pair.green.clone_path());
        git.args(["push", "--quiet", url.to_str().unwrap(), "master"]);
        assert!(git.status().unwrap().success());
    };
    pair.green.commit("web/index.html", "v1");
    push(servers[0]);
    push(servers[2]);
    let first = pair.green.id("master");
    pair.green.commit("README", "outside the folder");
    push(servers[1]);
    // This push deploys nothing, and connects the commits of the two other servers.
    push(servers[2]);
    let second = pair.green.id("master");
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    let mut commits: Vec<String> =
        fs::read_to_string(pair.file("commits")).unwrap().lines().map(str::to_owned).collect();
    let mut expected = [first.clone(), first, second];
    commits.sort();
    expected.sort();
    assert_eq!(commits, expected, "each check receives the commit of its server");
    let warned = || {
        let (_, text) = said(&pair.command(&["public"]).output().unwrap());
        text.contains("the servers of green serve different commits")
    };
    assert!(!warned());
    pair.green.commit("web/index.html", "v2");
    push(servers[1]);
    assert!(warned());
    pair.write("public", "blue\n");
    pair.fails(&[], "the servers of green serve different commits");
}

#[test]
fn the_second_of_two_concurrent_promotions_is_rejected() {
    let pair = Pair::new();
    // Long enough that the second promotion starts in the meantime, even on a busy machine.
    pair.configure("watch = \"0.4s\"", "watch = \"2s\"");
    let mut both = [pair.command(&["promote", "--yes"]), pair.command(&["promote", "--yes"])];
    let children: Vec<Child> =
        both.iter_mut().map(|command: &mut Command| command.spawn().unwrap()).collect();
    let ends: Vec<(i32, String)> =
        children.into_iter().map(|child| said(&child.wait_with_output().unwrap())).collect();
    let lost: Vec<_> = ends.iter().filter(|(status, _)| *status == 1).collect();
    assert_eq!((lost.len(), pair.public().as_str()), (1, "green"), "{ends:?}");
    let says = ["is busy: a promotion by", "became public in the meantime", "is still busy"];
    assert!(says.iter().any(|words| lost[0].1.contains(words)), "{ends:?}");
    assert_eq!(pair.marks(), [Some(false), Some(true)]);
}

#[test]
fn failures_are_reported_as_json() {
    let pair = Pair::new();
    pair.write("green.status", "500");
    let output = pair.command(&["promote", "--yes", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["public"], &json["outcome"]), (&"blue".into(), &"failed".into()));
    assert!(json["error"].as_str().unwrap().contains("returned 500") && json["hint"].is_string(), "{json}");
    let output = pair.command(&["promote", "--dry-run", "--json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["from"], &json["to"]), (&"blue".into(), &"green".into()));
}

/// Returns the script in a workflow's YAML that pushes and promotes.
pub fn script_of(workflow: &str, keys: &str) -> Option<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("share/ci").join(workflow);
    let read = format!("import sys, yaml; print(yaml.safe_load(open(sys.argv[1])){keys}, end='')");
    let output = Command::new("/usr/bin/python3").args(["-c", &read]).arg(path).output().unwrap();
    if String::from_utf8_lossy(&output.stderr).contains("No module named 'yaml'") {
        crate::support::skip::skip("`python3-yaml` is not installed");
        return None;
    }
    assert!(output.status.success(), "{workflow}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_ci_workflows_push_to_the_idle_side_and_promote_it() {
    for (workflow, keys) in
        [("github.yml", "['jobs']['deploy']['steps'][-1]['run']"), ("gitlab.yml", "['deploy']['script'][-1]")]
    {
        let Some(script) = script_of(workflow, keys) else { return };
        let pair = Pair::new();
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/howto/ci.md");
        assert!(fs::read_to_string(page).unwrap().contains(&script), "{workflow} is not what the page shows");
        pair.green.commit("index.html", workflow);
        // The top of the clone, where `.promote.toml` is searched.
        let clone = pair.file("clone");
        pair.green.git(&[
            "clone",
            "--quiet",
            pair.green.clone_path().to_str().unwrap(),
            clone.to_str().unwrap(),
        ]);
        fs::rename(pair.file("promote.toml"), clone.join(".promote.toml")).unwrap();
        fs::rename(pair.file("switch"), clone.join("switch")).unwrap();
        let switch = fs::read_to_string(clone.join("switch")).unwrap();
        let here = format!("here={}", pair.file("").display());
        fs::write(clone.join("switch"), switch.replace("here=$(dirname \"$0\")", &here)).unwrap();
        pair.green.git_in(&clone, &["remote", "add", "green", pair.green.repository().to_str().unwrap()]);
        // The switch is a program in the clone.
        let mut trust = pair.green.command(BLUEGREEN);
        let (status, text) = said(&trust.args(["public", "--trust"]).current_dir(&clone).output().unwrap());
        assert_eq!(status, 0, "{text}");
        let folder = std::path::Path::new(BLUEGREEN).parent().unwrap().display().to_string();
        let mut shell = pair.green.command("bash");
        shell.args(["-e", "-c", &script]).current_dir(&clone);
        shell.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap()));
        let output = shell.output().unwrap();
        let (status, text) = said(&output);
        assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("\"outcome\": \"live\""), "{text}");
        pair.green.serves("index.html", workflow);
    }
}
