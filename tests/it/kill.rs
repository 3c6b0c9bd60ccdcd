//! SIGKILL at any instant: what is live is the old release or the new one, whole, no release that counts as
//! good is less than whole, and the next push works without help.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::snapshot::{Snapshot, assert_same, snapshot};
use crate::support::{Node, Run, Sandbox};

/// Two commits that differ in many ways, and what a checkout of each looks like.
struct Two {
    sandbox: Sandbox,
    ids: [String; 2],
    expected: [Snapshot; 2],
}

impl Two {
    fn new(files: usize) -> Self {
        let sandbox = Sandbox::new();
        // With two kept, every deployment from the fourth on recycles.
        sandbox.site_config("keep = 2");
        for version in ["one", "two, longer"] {
            let mut nodes: Vec<(Vec<u8>, Node)> = (0..files)
                .map(|file| (format!("d{}/f{file}", file % 5).into_bytes(), Node::file(format!("{file}"))))
                .collect();
            for file in 0..files.min(40) {
                nodes.push((format!("changed/{file}").into_bytes(), Node::file(format!("{version}{file}"))));
            }
            let (kind, path) =
                if version == "one" { (Node::file("file"), "x") } else { (Node::link("d0"), "x/y/z") };
            nodes.push((b"kind".to_vec(), kind));
            nodes.push((path.into(), Node::Executable(version.into())));
            nodes.push((format!("only/{version}").into_bytes(), Node::link("../kind")));
            let nodes: Vec<(&[u8], Node)> =
                nodes.iter().map(|(path, node)| (path.as_slice(), node.clone())).collect();
            sandbox.commit_tree(&nodes).push().ok();
        }
        let ids = ["master~1", "master"].map(|revision| sandbox.id(revision));
        let expected = ["master~1", "master"].map(|revision| sandbox.checkout(revision));
        for turn in 0..2 {
            sandbox.bluegreen(&["deploy", &ids[turn % 2]]).ok();
        }
        Self { sandbox, ids, expected }
    }

    /// Moves the branch as a push would, and gives the line that git would write to the hook.
    fn move_branch(&self, to: usize) -> String {
        let repository = self.sandbox.repository();
        self.sandbox.git_in(&repository, &["update-ref", "refs/heads/master", &self.ids[to]]);
        format!("{} {} refs/heads/master\n", self.ids[1 - to], self.ids[to])
    }

    /// The hook as git would call it, behind another program if need be.
    fn hook(&self, wrapper: &[&str]) -> Command {
        let hook = self.sandbox.hook_path();
        let mut command = match wrapper.split_first() {
            None => self.sandbox.command(hook),
            Some((program, arguments)) => {
                let mut command = self.sandbox.command(program);
                command.args(arguments).arg(hook);
                command
            }
        };
        command.env("GIT_DIR", ".").current_dir(self.sandbox.repository());
        command
    }

    /// Asserts all that must hold after a kill, when `new` was being deployed over the other commit.
    #[track_caller]
    fn check(&self, new: usize, when: &str) {
        let live = snapshot(&self.sandbox.live_path());
        let which = if self.sandbox.live().contains(&self.ids[new][..12]) { new } else { 1 - new };
        assert_same(&live, &self.expected[which], &format!("what is live after {when}"));
        for name in self.sandbox.releases() {
            let record = self.sandbox.site().join(format!(".bluegreen/releases/{name}.toml"));
            let record = std::fs::read_to_string(record).unwrap_or_default();
            if record.contains("state = \"ready\"") {
                let which = usize::from(record.contains(&self.ids[1]));
                let found = snapshot(&self.sandbox.site().join("releases").join(&name));
                assert_same(&found, &self.expected[which], &format!("good release {name} after {when}"));
            }
        }
    }

    /// The next push works and leaves nothing behind.
    #[track_caller]
    fn push_works(&self, to: usize, when: &str) {
        let run = self.sandbox.as_git(self.move_branch(to));
        assert!(
            run.status.success() && run.output.contains("Git hooks deploy complete."),
            "{when}: {}",
            run.output
        );
        assert!(!run.output.contains("warning:"), "{when}: {}", run.output);
        self.check(to, "the next push");
        assert!(self.sandbox.live().contains(&self.ids[to][..12]), "{when}: the tip is not live");
        self.sandbox.is_tidy();
        assert!(self.sandbox.releases().len() <= 4, "{when}: {:?}", self.sandbox.releases());
    }
}

#[test]
fn killed_at_a_random_instant() {
    let two = Two::new(200);
    let start = Instant::now();
    for turn in 0..4 {
        two.push_works(turn % 2, "nothing");
    }
    let mut usual = start.elapsed() / 4;
    let (mut done, mut cut) = (0, 0);
    for round in 0..300_u32 {
        let new = round as usize % 2;
        let line = two.move_branch(new);
        let mut hook = two.hook(&[]);
        let mut child =
            hook.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), line.as_bytes()).unwrap();
        // The usual duration follows the load of the machine, so that two thirds are cut off in the midst.
        // A sequence that fills the whole duration evenly, whatever the number of rounds.
        let part = f64::from(round) * 0.618_033_988_75 % 1.0;
        let when = format!("a kill in round {round}, {part:.3} of {usual:?}");
        std::thread::sleep(usual.mul_f64(part));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            done += 1;
            usual = usual.mul_f64(0.95);
        } else {
            cut += 1;
            usual = usual.mul_f64(1.02);
        }
        two.check(new, &when);
        // Half of the time the next push is of the other commit.
        two.push_works(if round % 4 < 2 { new } else { 1 - new }, &when);
        if round % 4 >= 2 {
            two.push_works(new, &when);
        }
    }
    assert!(cut >= 100, "only {cut} of {} hooks were cut off", cut + done);
}

/// Kills the hook at each single call of these system calls, one after the other.
#[test]
fn killed_at_every_call_that_changes_the_file_system() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let two = Two::new(10);
    // In one thread the calls are the same ones each time.
    two.sandbox.config("checkout-threads = 1");
    let mut killed = 0;
    let mut new = 0;
    for call in [
        "openat",
        "openat2",
        "mkdirat",
        "unlinkat",
        "renameat",
        "symlinkat",
        "write",
        "fsync",
        "fdatasync",
        "syncfs",
        "ftruncate",
        "flock",
        "close",
    ] {
        for number in 1.. {
            new = 1 - new;
            let line = two.move_branch(new);
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let trace = format!("trace={call}");
            let strace = ["strace", "-qqq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let run = two.sandbox.run_with_input(&mut two.hook(&strace), line.as_bytes());
            let when = format!("a kill at {call} number {number}");
            two.check(new, &when);
            let is_done = run.output.contains("Git hooks deploy complete.") && run.status.success();
            if is_done {
                // Fewer calls than that: the next kind.
                assert!(number > 1, "{call} is never called");
                break;
            }
            killed += 1;
            two.push_works(new, &when);
        }
    }
    assert!(killed > 150, "only {killed} kills");
}

#[test]
fn a_killed_rollback_leaves_one_of_two_releases() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let two = Two::new(5);
    let mut killed = 0;
    for call in ["openat", "renameat", "symlinkat", "unlinkat", "write", "fsync"] {
        for number in 1.. {
            two.push_works(1, "a rollback");
            let mut rollback = two.sandbox.command("strace");
            rollback
                .args(["-qqq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"])
                .arg(format!("inject={call}:signal=KILL:when={number}"))
                .arg(two.sandbox.hook_path())
                .args(["rollback"]);
            let run = Run::new(&two.sandbox, &mut rollback);
            two.check(0, &format!("a kill at {call} number {number}"));
            if run.status.success() {
                assert!(number > 1, "{call} is never called");
                break;
            }
            killed += 1;
            assert!(number < 500, "{}", run.output);
        }
        two.push_works(0, "a killed rollback");
    }
    assert!(killed > 20, "only {killed} kills");
}
