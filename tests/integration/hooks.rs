//! The shell hooks in `hooks/`: chained with a team's own hooks, and the warning before a push to the public
//! side.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::sandbox::BLUEGREEN;
use crate::support::{Run, Sandbox};

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks").join(name)).unwrap()
}

/// Installs a hook from `hooks/` in the server's repository, in place of the symlink.
fn chain(sandbox: &Sandbox, name: &str) {
    let hook = sandbox.repository().join("hooks").join(name);
    if hook.is_symlink() {
        fs::remove_file(&hook).unwrap();
    }
    executable(&hook, &shipped(name));
}

fn team_hook(sandbox: &Sandbox, name: &str, script: &str) {
    let hook = sandbox.repository().join("hooks").join(name);
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    executable(&hook, &format!("#!/bin/sh\n{script}\n"));
}

/// Returns what `check` prints. The hook is a script here, so the program is called by its own path.
fn checked(sandbox: &Sandbox) -> String {
    let mut command = sandbox.command(BLUEGREEN);
    command.arg("-C").arg(sandbox.repository()).arg("check").stdin(Stdio::null());
    let output = Run::new(sandbox, &mut command).output;
    assert!(output.contains("A push to master "), "{output}");
    output
}

/// Returns a `PATH` that finds the program under test.
fn path() -> String {
    format!("{}:{}", Path::new(BLUEGREEN).parent().unwrap().display(), std::env::var("PATH").unwrap())
}

fn push(sandbox: &Sandbox) -> Run<'_> {
    Run::new(sandbox, sandbox.push_command(&["master"]).env("PATH", path()))
}

#[test]
fn post_receive_deploys_and_passes_the_same_lines_to_team_hooks() {
    let sandbox = Sandbox::new();
    chain(&sandbox, "post-receive");
    chain(&sandbox, "proc-receive");
    sandbox.git_in(&sandbox.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
    // `check` recognizes that the scripts call the program.
    assert!(!checked(&sandbox).contains("is another program"));
    sandbox.git_in(&sandbox.repository(), &["config", "--unset", "receive.procReceiveRefs"]);
    // A call that is commented out deploys nothing.
    let hook = sandbox.repository().join("hooks/post-receive");
    let script = fs::read_to_string(&hook).unwrap();
    fs::write(&hook, script.replace("give | bluegreen", "# give | bluegreen")).unwrap();
    assert!(checked(&sandbox).contains("hooks/post-receive` is another program"));
    fs::write(&hook, script).unwrap();
    team_hook(&sandbox, "post-receive.local", "echo local; cat >>lines");
    team_hook(&sandbox, "post-receive.d/10-first", "echo first; cat >>lines");
    team_hook(&sandbox, "post-receive.d/20-reads-nothing", "echo second");
    fs::write(sandbox.repository().join("hooks/post-receive.d/README"), "not executable").unwrap();
    sandbox.commit("index.html", "App v1");
    let pushed = push(&sandbox).ok().serves("index.html", "App v1");
    let said = pushed.output();
    let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words}: {said}"));
    assert!(at("is live") < at("local") && at("local") < at("first") && at("first") < at("second"), "{said}");
    let line = format!("{:0>40} {} refs/heads/master\n", "", sandbox.tip());
    let lines = fs::read_to_string(sandbox.repository().join("lines")).unwrap();
    assert_eq!(lines, line.repeat(2));
}

#[test]
fn post_receive_returns_the_deployments_status_or_that_of_the_first_failed_hook() {
    let sandbox = Sandbox::new();
    chain(&sandbox, "post-receive");
    team_hook(&sandbox, "post-receive.local", "exit 7");
    team_hook(&sandbox, "post-receive.d/10-other", "touch ran; exit 8");
    sandbox.commit("index.html", "App v1");
    push(&sandbox).warned().says("warning: hooks/post-receive.local failed with status 7");
    assert!(sandbox.repository().join("ran").exists());
    let line = format!("{0} {0} refs/heads/master\n", sandbox.tip());
    let again = || {
        let mut hook = sandbox.command(sandbox.hook_path());
        hook.env("GIT_DIR", ".").env("PATH", path()).current_dir(sandbox.repository());
        sandbox.run_with_input(&mut hook, line.as_bytes()).status.code()
    };
    assert_eq!(again(), Some(7));
    // The program exits with 2 for an invalid config.
    sandbox.raw_config("nonsense");
    assert_eq!(again(), Some(2));
}

#[test]
fn proc_receive_deploys_unless_the_teams_check_fails() {
    let sandbox = Sandbox::new();
    chain(&sandbox, "proc-receive");
    sandbox.git_in(&sandbox.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
    sandbox.commit("index.html", "App v1");
    push(&sandbox).ok().serves("index.html", "App v1");
    let tip = sandbox.tip();
    team_hook(&sandbox, "proc-receive.local", "echo 'not on Fridays'; test ! -e friday");
    sandbox.commit("index.html", "App v2");
    fs::write(sandbox.repository().join("friday"), "").unwrap();
    let refused = push(&sandbox);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.output);
    assert!(refused.output.contains("remote: not on Fridays"), "{}", refused.output);
    assert_eq!(sandbox.tip(), tip);
    sandbox.serves("index.html", "App v1");
    fs::remove_file(sandbox.repository().join("friday")).unwrap();
    push(&sandbox).ok().serves("index.html", "App v2");
}

#[test]
fn all_other_hooks_of_a_team_run_with_and_without_the_gate() {
    for gated in [false, true] {
        let sandbox = Sandbox::new();
        chain(&sandbox, "post-receive");
        if gated {
            chain(&sandbox, "proc-receive");
            sandbox
                .git_in(&sandbox.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
        }
        for name in ["pre-receive", "update", "post-receive.local", "post-update"] {
            // Each records whether the deployment is live when it runs.
            let live = format!("test -e {} && live=live || live=-", sandbox.current("index.html").display());
            let script = format!("{live}; echo \"{name} $live $*\" >>order; test ! -e refuse-{name}");
            team_hook(&sandbox, name, &script);
        }
        sandbox.commit("index.html", "App v1");
        let pushed = push(&sandbox).ok().serves("index.html", "App v1");
        assert_eq!(pushed.output().matches("Master ref received.").count(), 1, "{}", pushed.output());
        let order = sandbox.repository().join("order");
        let range = format!("refs/heads/master {:0>40} {}", "", sandbox.tip());
        let expected = format!(
            "pre-receive - \nupdate - {range}\npost-receive.local live \npost-update live refs/heads/master\n"
        );
        assert_eq!(fs::read_to_string(&order).unwrap(), expected, "gated: {gated}");

        // The hooks that may reject a push still do, and nothing is deployed.
        sandbox.commit("index.html", "App v2");
        let tip = sandbox.tip();
        for name in ["pre-receive", "update"] {
            let refuse = sandbox.repository().join(format!("refuse-{name}"));
            fs::write(&refuse, "").unwrap();
            let rejected = push(&sandbox);
            assert_eq!(rejected.status.code(), Some(1), "{name}: {}", rejected.output);
            assert_eq!(sandbox.tip(), tip);
            sandbox.serves("index.html", "App v1");
            fs::remove_file(refuse).unwrap();
        }
        push(&sandbox).ok().serves("index.html", "App v2");
    }
}

/// A developer's clone with the `pre-push` hook, and a server reached through a stand-in for ssh.
struct Developer {
    sandbox: Sandbox,
    ssh: PathBuf,
}

impl Developer {
    /// `mark` is the server's public mark, which the last promotion wrote.
    fn new(mark: &str) -> Self {
        let sandbox = Sandbox::new();
        sandbox.commit("index.html", "App v1");
        sandbox.push().ok();
        fs::write(sandbox.site().join(".bluegreen/public"), mark).unwrap();
        executable(&sandbox.clone_path().join("hooks/pre-push"), &shipped("pre-push"));
        let ssh = sandbox.path("ssh");
        let developer = Self { sandbox, ssh };
        developer.server(&format!(
            "case $1 in 'status --json -C repository') exec {BLUEGREEN} -C {} status --json ;; esac",
            developer.sandbox.repository().display()
        ));
        developer
    }

    /// Sets a script that handles every ssh command except git's.
    fn server(&self, script: &str) {
        let arguments = self.sandbox.path("arguments");
        // The command is the last argument, as with ssh.
        executable(
            &self.ssh,
            &format!(
                "#!/bin/sh\necho \"$*\" >>{}\nwhile [ $# -gt 1 ]; do shift; done\n\
                 case $1 in git-receive-pack*) exec sh -c \"$1\" ;; esac\n{script}\n",
                arguments.display()
            ),
        );
    }

    /// Runs the hook alone, as git does.
    fn hook(&self) -> Run<'_> {
        let mut hook = self.sandbox.command(self.sandbox.clone_path().join("hooks/pre-push"));
        hook.args(["blue", "deploy@blue:repository"]).env("GIT_SSH_COMMAND", &self.ssh);
        hook.env("GIT_DIR", self.sandbox.clone_path());
        let line = format!("refs/heads/master {0} refs/heads/master {0}\n", self.sandbox.tip());
        self.sandbox.run_with_input(&mut hook, line.as_bytes())
    }

    fn push(&self, refspec: &str) -> Run<'_> {
        self.sandbox.commit("index.html", refspec);
        let url = format!("ssh://deploy@blue:2222{}", self.sandbox.repository().display());
        let mut git = self.sandbox.git_command(&self.sandbox.clone_path());
        git.args(["-c", "ssh.variant=ssh", "push", &url, refspec]).env("GIT_SSH_COMMAND", &self.ssh);
        Run::new(&self.sandbox, &mut git)
    }
}

const PUBLIC: &str = r#"{"public":true,"since":"2026-11-20T10:00:00Z"}"#;
const WARNING: &str = "is public: visitors see this push immediately";
const NOTE: &str = "note: cannot ask blue whether it is public\n";

#[test]
fn pre_push_warns_before_a_push_to_the_public_side() {
    let developer = Developer::new(PUBLIC);
    let pushed = developer.push("master").warned();
    let said = pushed.output();
    let own = format!("warning: ssh://deploy@blue:2222{}", developer.sandbox.repository().display());
    assert!(said.contains(&format!("{own} {WARNING}\n")), "{said}");
    assert!(said.find(&own).unwrap() < said.find("Deploying").unwrap(), "{said}");
    pushed.serves("index.html", "master");
    let asked = fs::read_to_string(developer.sandbox.path("arguments")).unwrap();
    assert_eq!(
        asked.lines().find(|line| line.contains("status")),
        Some("-o BatchMode=yes -o ConnectTimeout=2 -p 2222 deploy@blue status --json -C repository")
    );
    // Another branch is not deployed, so the hook does not warn.
    assert!(!developer.push("master:topic").output.contains(WARNING));
}

#[test]
fn pre_push_is_silent_for_the_idle_side_and_for_servers_without_bluegreen() {
    let developer = Developer::new(&PUBLIC.replace("true", "false"));
    developer.push("master").ok().never_says(WARNING).never_says("note:");
    developer.server("echo 'Invalid command' >&2; exit 1");
    developer.push("master").ok().never_says(WARNING).never_says("note:");
}

#[test]
fn pre_push_bounds_its_wait_and_prints_no_output_of_a_hostile_server() {
    let developer = Developer::new(PUBLIC);
    for script in [
        "sleep 60",
        "exit 255",
        // Endless output, and a process that ignores SIGTERM.
        "yes '{\"public\": {\"public\": true,'",
        "trap '' TERM; sleep 60",
    ] {
        developer.server(script);
        let started = Instant::now();
        let hook = developer.hook();
        let took = started.elapsed();
        assert!(took < Duration::from_secs(3), "{script}: {took:?}");
        assert_eq!((hook.status.code(), hook.output.as_str()), (Some(0), NOTE), "{script}");
    }
    developer.server(
        "printf '{\"server\": \"\\033]0;evil\\007\", \"branch\": \"master\", \"subject\": \"\\033[31m\", \
         \"public\": {\"public\": true, \"since\": \"\\033[2J\"}}'",
    );
    let hostile = developer.hook();
    assert!(
        hostile.output.contains(WARNING) && !hostile.output.contains(['\u{1b}', '\u{7}']),
        "{}",
        hostile.output
    );
}
