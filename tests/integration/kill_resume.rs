//! SIGKILL at each system call of a command that decides whether to deploy the tip, followed by a boot. A
//! recorded decision stands. Without one, the boot decides.

use crate::support::sandbox::BLUEGREEN;
use crate::support::{Run, Sandbox};

/// Calls that change the disk or start a program.
const CALLS: [&str; 8] =
    ["unlinkat", "renameat", "symlinkat", "write", "fsync", "fdatasync", "clone3", "vfork"];

/// A site with two versions.
struct Site {
    sandbox: Sandbox,
    ids: [String; 2],
}

impl Site {
    fn new(steps: &str) -> Self {
        let sandbox = Sandbox::new();
        sandbox.site_config("keep = 1").config("checkout-threads = 1").config_section(steps);
        for version in ["one", "two"] {
            sandbox.commit("version", version).push_refs(&["master:refs/heads/landed"]).ok();
        }
        let ids = ["master~1", "master"].map(|revision| sandbox.id(revision));
        Self { sandbox, ids }
    }

    /// Makes version "one" live and moves the branch to "two", which no deployment has examined.
    fn leave_tip_pending(&self) {
        self.move_branch(0);
        drop(self.sandbox.bluegreen(&["deploy"]));
        self.sandbox.serves("version", "one");
        self.move_branch(1);
    }

    fn move_branch(&self, to: usize) {
        let repository = self.sandbox.repository();
        self.sandbox.git_in(&repository, &["update-ref", "refs/heads/master", &self.ids[to]]);
    }

    fn boot(&self) -> Run<'_> {
        self.sandbox.bluegreen(&["resume", "--boot"])
    }

    /// Runs the program under `strace`.
    fn behind(&self, strace: &[String], arguments: &[&str]) -> Run<'_> {
        let mut command = self.sandbox.command(&strace[0]);
        command.args(&strace[1..]).arg(BLUEGREEN).arg("-C").arg(self.sandbox.repository()).args(arguments);
        Run::new(&self.sandbox, &mut command)
    }

    /// Runs the hook under `strace`, as git does after moving the branch to "two".
    fn hook(&self, strace: &[String], option: Option<&str>) -> Run<'_> {
        let line = format!("{} {} refs/heads/master\n", self.ids[0], self.ids[1]);
        let mut command = self.sandbox.command(&strace[0]);
        command.args(&strace[1..]).arg(self.sandbox.hook_path());
        command.env("GIT_DIR", ".").current_dir(self.sandbox.repository());
        if let Some(option) = option {
            command.env("GIT_PUSH_OPTION_COUNT", "1").env("GIT_PUSH_OPTION_0", option);
        }
        self.sandbox.run_with_input(&mut command, line.as_bytes())
    }

    fn live(&self) -> String {
        std::fs::read_to_string(self.sandbox.current("version")).unwrap()
    }

    /// Returns the reason why the tip is not live.
    fn why(&self) -> Option<String> {
        let status = self.sandbox.bluegreen(&["status", "--json"]).ok();
        let status: serde_json::Value = serde_json::from_str(status.output()).unwrap();
        assert_eq!(status["pending"], serde_json::json!([]), "{}", self.sandbox.normalize_paths("<site>"));
        status["why"].as_str().map(str::to_owned)
    }

    /// Kills `run` at each call in turn, then boots. `check` receives the version that was live before the
    /// boot and a description of the kill. A second boot must be a no-op.
    fn at_each_call<'a>(
        &'a self,
        prepare: impl Fn(),
        run: impl Fn(&[String]) -> Run<'a>,
        check: impl Fn(&str, &str),
    ) {
        let mut kills = 0;
        for call in CALLS {
            for number in 1.. {
                prepare();
                let inject = format!("inject={call}:signal=KILL:when={number}");
                let trace = format!("trace={call}");
                let strace = ["strace", "-qqq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
                let run = run(&strace.map(String::from));
                let when = format!("after a kill at {call} number {number}:\n{}", run.output);
                let is_done = run.status.code().is_some_and(|code| code <= 3);
                let live = self.live();
                let boot = self.boot();
                check(&live, &format!("{when}\nthe boot:\n{}", boot.output));
                let lines = self.sandbox.history().len();
                self.boot().ok().says_only(&[]);
                assert_eq!(self.sandbox.history().len(), lines, "{when}");
                self.sandbox.is_tidy();
                if is_done {
                    break;
                }
                kills += 1;
                assert!(number < 500, "{when}");
            }
        }
        assert!(kills > 5, "only {kills} kills");
    }
}

#[test]
fn a_completed_rollback_stands() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let site = Site::new("[steps]\nrestart = 'true'");
    site.at_each_call(
        || {
            site.leave_tip_pending();
            drop(site.boot());
            site.sandbox.serves("version", "two");
        },
        |strace| site.behind(strace, &["rollback"]),
        |live, when| assert_eq!(site.live(), live, "{when}"),
    );
}

#[test]
fn a_resumed_deployment_becomes_live() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let site = Site::new("[steps]\nbuild = 'true'\nverify = 'true'");
    site.at_each_call(
        || site.leave_tip_pending(),
        |strace| site.behind(strace, &["resume"]),
        |_, when| assert_eq!(site.live(), "two", "{when}"),
    );
}

#[test]
fn a_pushed_tip_becomes_live() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let site = Site::new("");
    site.at_each_call(
        || site.leave_tip_pending(),
        |strace| site.hook(strace, None),
        |_, when| assert_eq!(site.live(), "two", "{when}"),
    );
}

#[test]
fn a_failure_is_recorded_and_not_repeated() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let site = Site::new("[steps]\nbuild = 'grep one version'");
    site.at_each_call(
        || site.leave_tip_pending(),
        |strace| site.hook(strace, None),
        |_, when| {
            assert_eq!(site.live(), "one", "{when}");
            assert_eq!(site.why().as_deref(), Some("step `grep one version` exited with status 1"), "{when}");
        },
    );
}

#[test]
fn a_release_that_failed_verification_is_not_activated_again() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let site = Site::new("[steps]\nverify = 'grep one version'");
    site.at_each_call(
        || site.leave_tip_pending(),
        |strace| site.hook(strace, None),
        |_, when| assert_eq!(site.live(), "one", "{when}"),
    );
}

#[test]
fn a_tip_reported_as_skipped_is_not_deployed() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let site = Site::new("");
    site.at_each_call(
        || site.leave_tip_pending(),
        |strace| site.hook(strace, Some("skip")),
        |_, when| {
            let was_told = when.contains("Doing nothing, because of the push option");
            assert!(!was_told || site.live() == "one", "{when}");
        },
    );
}
