//! Steps: the site's own commands before and after activation, and what happens if they fail.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::support::Sandbox;
use crate::support::skip::{program_or_skip, root_or_skip};

fn with_steps(steps: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.config_section(&format!("[steps]\n{steps}"));
    sandbox
}

fn log_of(sandbox: &Sandbox, release: &str) -> String {
    std::fs::read_to_string(sandbox.site().join(format!(".bluegreen/logs/{release}.log"))).unwrap()
}

fn logs(sandbox: &Sandbox) -> Vec<String> {
    let directory = sandbox.site().join(".bluegreen/logs");
    let Ok(entries) = directory.read_dir() else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn steps_run_in_order_in_the_release_and_are_reported() {
    let sandbox = with_steps(
        "build = ['pwd -P > where', 'echo one; echo two >&2']\n\
         check = 'test -f where && test ! -e ../../current'\n\
         restart = 'test $(readlink ../../current) = releases/$BLUEGREEN_RELEASE'\n\
         verify = { run = 'printf no-newline', timeout = '5s' }",
    );
    sandbox.commit("index.html", "v1");
    let release = sandbox
        .push()
        .ok()
        .says_only(&[
            "Master ref received.  Deploying master branch to blue...",
            "Step build: pwd -P > where",
            "Step build: echo one; echo two >&2",
            "  one",
            "  two",
            "Step check: test -f where && test ! -e ../../current",
            "Step restart: test $(readlink ../../current) = releases/$BLUEGREEN_RELEASE",
            "Step verify: printf no-newline",
            "  no-newline",
            "Release <release> is live: 1 file changed, <time>",
            "Git hooks deploy complete.",
        ])
        .and()
        .live();
    let place = sandbox.site().join("releases").join(&release);
    sandbox.serves("where", &format!("{}\n", place.display()));
    let log = log_of(&sandbox, &release);
    assert!(log.contains(" build: echo one; echo two >&2\none\ntwo\n--- done, "), "{log}");
    assert!(log.contains(" verify: printf no-newline\nno-newline\n--- done, "), "{log}");
}

#[test]
fn a_named_step_is_reported_by_its_name() {
    let sandbox = with_steps("check = { name = 'health', run = 'echo sick; exit 3', timeout = '5s' }");
    let release = |sandbox: &Sandbox| sandbox.history()[0]["release"].as_str().unwrap().to_owned();
    sandbox
        .commit("index.html", "v1")
        .push()
        .not_deployed()
        .says("Step check: health")
        .says("error: step `health` exited with status 3");
    assert_eq!(sandbox.history()[0]["error"], "step `health` exited with status 3");
    let log = log_of(&sandbox, &release(&sandbox));
    assert!(log.contains(" check: health: echo sick; exit 3\nsick\n--- step `health` exited"), "{log}");
}

#[test]
fn steps_get_a_minimal_explicit_environment() {
    let sandbox = with_steps(
        "build = 'env > environment; readlink /proc/self/fd/0 > stdin'\n[env]\nNODE_ENV = 'production'\nLANG = 'de_DE.UTF-8'",
    );
    sandbox.commit("a", "1");
    let mut push = sandbox.push_command(&["master"]);
    crate::support::Run::new(&sandbox, push.env("SECRET_OF_THE_PUSHER", "x").env("GIT_TRACE_SETUP", "0"))
        .ok();
    let first = sandbox.live();
    sandbox.commit("a", "2").push().ok();
    let environment = std::fs::read_to_string(sandbox.current("environment")).unwrap();
    let mut names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    // The shell sets PWD itself, and some shells set the others.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    assert_eq!(
        names,
        [
            "BLUEGREEN_BRANCH",
            "BLUEGREEN_COMMIT",
            "BLUEGREEN_PREVIOUS",
            "BLUEGREEN_PUBLIC",
            "BLUEGREEN_RELEASE",
            "BLUEGREEN_SERVER",
            "BLUEGREEN_SITE",
            "BLUEGREEN_SOCKET",
            "HOME",
            "LANG",
            "LOGNAME",
            "NODE_ENV",
            "PATH",
            "TMPDIR",
            "USER",
        ]
    );
    for line in [
        "BLUEGREEN_BRANCH=master".to_owned(),
        format!("BLUEGREEN_COMMIT={}", sandbox.id("master")),
        format!("BLUEGREEN_PREVIOUS={first}"),
        format!("BLUEGREEN_RELEASE={}", sandbox.live()),
        "BLUEGREEN_SERVER=blue".into(),
        format!("BLUEGREEN_SITE={}", sandbox.site().display()),
        "BLUEGREEN_SOCKET=".into(),
        "NODE_ENV=production".into(),
        "LANG=de_DE.UTF-8".into(),
    ] {
        assert!(environment.lines().any(|found| found == line), "{line}\n{environment}");
    }
    sandbox.serves("stdin", "/dev/null\n");
}

#[test]
fn a_failed_build_or_check_leaves_the_live_release_unchanged() {
    for (path, step, how) in [
        ("broken", "echo building; test ! -e broken", "exited with status 1"),
        ("unfit", "test ! -e unfit || exit 7", "exited with status 7"),
        ("killed", "test ! -e killed || kill -9 $$", "was killed by SIGKILL"),
    ] {
        let sandbox = with_steps(
            "build = 'echo building; test ! -e broken'\n\
             check = ['test ! -e unfit || exit 7', 'test ! -e killed || kill -9 $$']",
        );
        sandbox.commit("index.html", "v1").push().ok();
        let first = sandbox.live();
        sandbox.commit(path, "");
        sandbox
            .push()
            .not_deployed()
            .says(&format!("error: step `{step}` {how}"))
            .says("hint: fix it and push again, or run `bluegreen deploy` on blue")
            .says("Not deployed: blue still serves <commit> (release <release>).");
        assert_eq!(sandbox.live(), first);
        assert_eq!(sandbox.releases(), [first]);
        sandbox.is_tidy();
        let logs = logs(&sandbox);
        assert_eq!(logs.len(), 2, "the failed release's log was removed");
        assert!(log_of(&sandbox, logs[1].strip_suffix(".log").unwrap()).contains("building\n"));
    }
}

#[test]
fn logs_are_pruned_with_their_releases_and_failed_ones_are_limited() {
    let sandbox = with_steps("build = 'test ! -e broken'");
    sandbox.site_config("keep = 1");
    for version in 0..5 {
        sandbox.commit("a", &version.to_string()).push().ok();
        assert!(logs(&sandbox).len() <= 3);
    }
    assert_eq!(logs(&sandbox).len(), sandbox.releases().len());
    for version in 0..14 {
        sandbox.commit("broken", &version.to_string()).push().not_deployed();
    }
    assert_eq!(logs(&sandbox).len(), sandbox.releases().len() + 10);
}

#[test]
fn a_step_that_times_out_is_killed_with_its_children() {
    let sandbox = with_steps(
        "build = { run = 'trap \"echo ending; exit 1\" TERM; sleep 1000 & echo $! > ../../child; wait', timeout = '1s' }",
    );
    sandbox.commit("a", "1");
    let start = Instant::now();
    sandbox
        .push()
        .not_deployed()
        .says("  ending")
        .says("error: step `trap \"echo ending; exit 1\" TERM; sleep 1000 & echo $! > ../../child; wait` timed out after 1s");
    assert!(start.elapsed() < Duration::from_secs(60));
    let child = std::fs::read_to_string(sandbox.site().join("child")).unwrap();
    assert!(!is_running(child.trim()), "the background child still runs");
}

#[test]
fn a_step_that_ignores_term_is_killed() {
    let sandbox =
        with_steps("check = { run = 'trap \"\" TERM; while :; do sleep 0.1; done', timeout = '300ms' }");
    sandbox.commit("a", "1");
    let start = Instant::now();
    sandbox.push().not_deployed().serves_nothing();
    assert!(
        (Duration::from_secs(5)..Duration::from_secs(60)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_step_that_cannot_be_killed_is_abandoned_and_reported() {
    if !root_or_skip() || !program_or_skip("setpriv") {
        return;
    }
    // As root, like `sudo`.
    let sandbox = with_steps(
        "build = { run = 'echo $$ > ../../child; exec ../../setpriv --reuid=0 sleep 90', timeout = '300ms' }",
    );
    sandbox.commit("a", "1").owned_by(65534);
    let setpriv = sandbox.site().join("setpriv");
    let found = sandbox.command("sh").args(["-c", "command -v setpriv"]).output().unwrap();
    std::fs::copy(String::from_utf8(found.stdout).unwrap().trim(), &setpriv).unwrap();
    std::os::unix::fs::chown(&setpriv, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&setpriv, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let start = Instant::now();
    let push = sandbox.push().not_deployed();
    let elapsed = start.elapsed();
    let child = std::fs::read_to_string(sandbox.site().join("child")).unwrap();
    assert!(is_running(child.trim()));
    let pid = rustix::process::Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    push.says("  cannot kill process <pid>: operation not permitted").says(
        "error: step `echo $$ > ../../child; exec ../../setpriv --reuid=0 sleep 90` timed out after 300ms",
    );
    assert!(elapsed < Duration::from_secs(60), "{elapsed:?}");
}

#[test]
fn a_step_without_its_working_directory_is_reported() {
    let sandbox = with_steps("build = [{ name = 'first', run = 'rm -r \"$PWD\"' }, 'echo second']");
    sandbox
        .commit("a", "1")
        .push()
        .not_deployed()
        .says("error: cannot enter `<site>/releases/<release>`: no such file or directory");
}

#[test]
fn background_processes_of_a_step_do_not_block_the_push() {
    let sandbox = with_steps(
        "restart = 'sleep 1000 & echo $! > ../../child; (sleep 0.05; echo last words) & echo started'",
    );
    sandbox.commit("a", "1");
    let start = Instant::now();
    sandbox.push().ok().says("  started").says("  last words");
    assert!(start.elapsed() < Duration::from_secs(60));
    let child = std::fs::read_to_string(sandbox.site().join("child")).unwrap();
    assert!(!is_running(child.trim()));
    // `setsid` is the documented way to leave a process running.
    let sandbox =
        with_steps("restart = 'setsid sleep 1000 & sleep 0.1; pgrep -n -f \"^sleep 1000$\" > ../../child'");
    sandbox.commit("a", "1").push().ok();
    let child = std::fs::read_to_string(sandbox.site().join("child")).unwrap();
    assert!(is_running(child.trim()));
    let pid = rustix::process::Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_step_leads_its_own_process_group_without_a_terminal() {
    let sandbox = with_steps(
        "build = [{ name = 'group', run = 'test $(ps -o pgid= -p $$) = $$' }, \
         { name = 'terminal', run = '! (: </dev/tty)' }]",
    );
    sandbox.commit("a", "1");
    sandbox.push().ok();
    let first = sandbox.id("master");
    sandbox.commit("a", "2").push().ok();
    // `script` gives the deployment a terminal that a step could open.
    let (program, repository) = (sandbox.bluegreen_command(&[]), sandbox.repository());
    let deploy = format!(
        "(: </dev/tty) && {} -C {} deploy {first}",
        program.get_program().display(),
        repository.display()
    );
    let mut script = sandbox.command("script");
    let output = script.args(["-qec", &deploy, "/dev/null"]).output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("Step build: terminal") && output.contains(" is live"), "{output}");
}

#[test]
fn a_cancellation_as_the_last_step_finishes_prevents_activation() {
    // The deployment is stopped while the step finishes. When it continues, the step's exit and SIGTERM are
    // both pending.
    let sandbox = with_steps(
        "check = 'test ! -e stop || { kill -STOP $PPID; kill -TERM $PPID; setsid sh -c \"sleep 0.5; kill -CONT $PPID\" >/dev/null 2>&1 & sleep 0.1; }'",
    );
    sandbox.commit("a", "1").push().ok();
    sandbox.commit("stop", "").push().not_deployed().says("error: cancelled").serves("a", "1");
    assert_eq!(sandbox.releases().len(), 1);
    sandbox.is_tidy();
}

#[test]
fn step_output_is_escaped_and_its_log_is_complete() {
    let sandbox = with_steps(
        r"build = '''printf '\033[2Jclear\n10%%\r50%%\r100%%\r\nlong '; head -c 100000 /dev/zero | tr '\0' x; echo; printf '\377\n' '''",
    );
    sandbox.commit("a", "1");
    let long = format!("  long {}...", "x".repeat(995));
    sandbox.push().ok().says("  \\u{1b}[2Jclear").says("  100%").says(&long).says("  \u{fffd}");
    let path = sandbox.site().join(format!(".bluegreen/logs/{}.log", sandbox.live()));
    let log = std::fs::read(path).unwrap();
    assert!(log.windows(8).any(|bytes| bytes == b"\x1b[2Jclea"));
    assert!(log.len() > 100_000);
}

/// A stalled reader, and a step that prints more than any pipe or memory should hold.
#[test]
fn two_hundred_megabytes_of_output_need_little_memory_and_deploy() {
    let sandbox =
        with_steps("build = 'head -c 100000000 /dev/zero | tr \"\\0\" \"\\n\"; head -c 100000000 /dev/zero'");
    sandbox.commit("a", "1");
    sandbox.git(&["push", "--quiet", sandbox.repository().to_str().unwrap(), "master:refs/heads/other"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut deploy = sandbox.bluegreen_command(&["deploy", "other"]);
    let start = Instant::now();
    let mut child = deploy.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    let mut most = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        most = most.max(rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap());
        std::thread::sleep(Duration::from_millis(20));
    };
    drop(reader);
    assert!(status.success(), "{status} after {:?}", start.elapsed());
    assert!(most > 0 && most < 60_000, "{most} kB");
    sandbox.serves("a", "1");
    let log = sandbox.site().join(format!(".bluegreen/logs/{}.log", sandbox.live()));
    assert!(log.metadata().unwrap().len() > 200_000_000);
}

#[test]
fn a_failed_verify_restores_and_restarts_the_previous_release() {
    let sandbox = with_steps("restart = 'cat version >> ../../restarts'\nverify = 'test ! -e broken'");
    sandbox.commit("version", "v1\n").push().ok();
    let first = sandbox.live();
    sandbox.commit("version", "v2\n").commit("broken", "");
    sandbox
        .push()
        .not_deployed()
        .says_only(&[
            "Master ref received.  Deploying master branch to blue...",
            "Step restart: cat version >> ../../restarts",
            "Step verify: test ! -e broken",
            "Going back to release <release>...",
            "Step restart: cat version >> ../../restarts",
            "error: step `test ! -e broken` exited with status 1",
            "hint: fix it and push again, or run `bluegreen deploy` on blue",
            "Not deployed: blue still serves <commit> (release <release>).",
        ])
        .serves("version", "v1\n");
    assert_eq!(sandbox.live(), first);
    assert_eq!(std::fs::read_to_string(sandbox.site().join("restarts")).unwrap(), "v1\nv2\nv1\n");
    let history = sandbox.history();
    assert_eq!(history[1]["outcome"], "failed");
    let bad = sandbox.releases().pop().unwrap();
    assert_ne!(bad, first);
    sandbox
        .bluegreen(&["rollback", &bad])
        .fails(1)
        .says("error: cannot roll back to release <release>: it is marked bad");
    sandbox.bluegreen(&["rollback"]).fails(1).says("error: no good release is older than the live one");
    assert!(!sandbox.site().join(".bluegreen/publishing").exists());
}

#[test]
fn a_failed_restart_is_handled_like_a_failed_verify() {
    let sandbox = with_steps("restart = 'test ! -e broken'\nverify = 'touch ../../verified'");
    sandbox.commit("a", "v1").push().ok();
    std::fs::remove_file(sandbox.site().join("verified")).unwrap();
    sandbox
        .commit("broken", "")
        .push()
        .not_deployed()
        .says("error: step `test ! -e broken` exited with status 1");
    assert!(!sandbox.site().join("verified").exists());
    sandbox.serves("a", "v1");
}

#[test]
fn a_first_release_that_fails_verification_stays_live() {
    let sandbox = with_steps("verify = 'test -e good'");
    sandbox.commit("a", "v1");
    sandbox.git(&["push", "--quiet", sandbox.repository().to_str().unwrap(), "master:refs/heads/other"]);
    sandbox
        .bluegreen(&["deploy", "other"])
        .fails(3)
        .says("error: step `test -e good` exited with status 1")
        .says("Deployed with errors: blue serves <commit> (release <release>).")
        .serves("a", "v1");
    sandbox.commit("good", "").push().ok().serves("good", "");
}

#[test]
fn rollback_runs_restart_and_verify() {
    let sandbox = with_steps("restart = 'cat version >> ../../restarts'\nverify = 'test ! -e ../../veto'");
    sandbox.commit("version", "v1\n").push().ok();
    sandbox.commit("version", "v2\n").push().ok();
    sandbox
        .bluegreen(&["rollback"])
        .ok()
        .says("Step restart: cat version >> ../../restarts")
        .serves("version", "v1\n");
    sandbox.bluegreen(&["deploy", "master"]).ok();
    std::fs::write(sandbox.site().join("veto"), "").unwrap();
    sandbox
        .bluegreen(&["rollback"])
        .fails(1)
        .says("Not rolled back: blue still serves <commit> (release <release>).")
        .serves("version", "v2\n");
}

#[test]
fn files_created_by_steps_do_not_pass_into_the_next_release() {
    let sandbox = with_steps(
        "build = 'test ! -e made && mkdir made && cp in out && echo >> kept && touch made/$(cat in)'",
    );
    sandbox.site_config("keep = 0");
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        sandbox.commit("in", version).commit("kept", "kept\n");
        sandbox.push().ok().serves("out", version).serves("kept", "kept\n\n");
        let made: Vec<_> =
            std::fs::read_dir(sandbox.current("made")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(made, [version]);
    }
}

#[test]
fn the_next_run_verifies_a_release_interrupted_after_activation() {
    let sandbox = with_steps("restart = 'cat version >> ../../restarts'\nverify = 'test ! -e broken'");
    sandbox.commit("version", "v1\n").push().ok();
    sandbox.commit("version", "v2\n").push().ok();
    let [first, second] = &sandbox.releases()[..] else { panic!() };
    let note = |is_new| {
        let note = serde_json::json!({"release": second, "previous": first, "is_new": is_new, "push": null});
        std::fs::write(sandbox.site().join(".bluegreen/publishing"), note.to_string()).unwrap();
    };
    note(true);
    sandbox
        .bluegreen(&["deploy", "master"])
        .warned()
        .says("warning: a previous deployment was interrupted after release <release> became live: verifying it now");
    assert!(!sandbox.site().join(".bluegreen/publishing").exists());
    assert_eq!(std::fs::read_to_string(sandbox.site().join("restarts")).unwrap(), "v1\nv2\nv2\nv2\n");
}

fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}
