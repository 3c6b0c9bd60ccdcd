//! SIGKILL at every call of the gate with steps and a shared directory: what is live is whole and good,
//! nothing shared is lost, and after the next run the branch and the site agree.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::sandbox::BLUEGREEN;
use crate::support::snapshot::{Snapshot, assert_same, snapshot};
use crate::support::{Node, Run, Sandbox};

struct Two {
    sandbox: Sandbox,
    ids: [String; 2],
    expected: [Snapshot; 2],
}

impl Two {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.site_config("keep = 1").config("checkout-threads = 1").config_section(
            "[shared]\ndirs = ['files/uploads']\n[steps]\nbuild = 'cp version built'\ncheck = 'cmp version built'\n\
             restart = 'cat version >> ../../restarts'\nverify = 'cmp built ../../current/version'",
        );
        sandbox.git_in(&sandbox.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
        symlink(BLUEGREEN, sandbox.repository().join("hooks/proc-receive")).unwrap();
        for version in ["one", "two, longer"] {
            sandbox.commit_tree(&[
                (b"version", Node::file(version)),
                (b"files/readme", Node::file(version)),
                (b"files/uploads/seed", Node::file("seed")),
            ]);
            sandbox.push().ok();
        }
        let uploads = sandbox.site().join("shared/files/uploads");
        std::fs::write(uploads.join("photo"), "precious").unwrap();
        let ids = ["master~1", "master"].map(|revision| sandbox.id(revision));
        let expected = [0, 1].map(|version: usize| {
            sandbox.bluegreen(&["deploy", &ids[version]]).ok();
            snapshot(&sandbox.live_path())
        });
        Self { sandbox, ids, expected }
    }

    fn tip(&self) -> String {
        self.sandbox.git_in(&self.sandbox.repository(), &["rev-parse", "refs/heads/master"])
    }

    /// Asks the gate as receive-pack does, behind another program if need be.
    fn ask(&self, new: usize, wrapper: &[String]) -> Run<'_> {
        let line = format!("{} {} refs/heads/master", self.tip(), self.ids[new]);
        let packet = |text: &str| format!("{:04x}{text}", text.len() + 4);
        let request = format!("{}0000{}0000", packet("version=1"), packet(&line));
        let gate = self.sandbox.repository().join("hooks/proc-receive");
        let mut command: Command = match wrapper.split_first() {
            None => self.sandbox.command(gate),
            Some((program, arguments)) => {
                let mut command = self.sandbox.command(program);
                command.args(arguments).arg(gate);
                command
            }
        };
        command.env("GIT_DIR", ".").current_dir(self.sandbox.repository());
        self.sandbox.run_with_input(&mut command, request.as_bytes())
    }

    /// Asserts that the live release is whole, and that nothing shared is lost.
    #[track_caller]
    fn check(&self, when: &str) {
        let which = usize::from(self.sandbox.live().contains(&self.ids[1][..12]));
        assert_same(
            &snapshot(&self.sandbox.live_path()),
            &self.expected[which],
            &format!("what is live {when}"),
        );
        let uploads = snapshot(&self.sandbox.site().join("shared/files/uploads"));
        assert_eq!(uploads.len(), 3, "{when}: {uploads:?}");
        self.sandbox.serves("files/uploads/photo", "precious");
    }

    /// After one more run the branch and the site agree, and after another at most the push is live.
    #[track_caller]
    fn push_works(&self, new: usize, when: &str) {
        for attempt in 0..2 {
            let run = self.ask(new, &[]);
            self.check(when);
            let tip = self.tip();
            assert!(
                self.sandbox.live().contains(&tip[..12]),
                "{when}: the branch is at {tip}\n{}",
                run.output
            );
            if tip == self.ids[new] && run.output.contains("ok refs/heads/master") {
                break;
            }
            assert!(
                attempt == 0 && run.output.contains("has moved in the meantime"),
                "{when}: {}",
                run.output
            );
        }
        self.sandbox.is_tidy();
        assert!(!self.sandbox.site().join(".bluegreen/publishing").exists());
        assert!(self.sandbox.releases().len() <= 4, "{when}: {:?}", self.sandbox.releases());
    }
}

#[test]
fn killed_at_every_call_of_the_gate() {
    if !crate::support::skip::program_or_skip("strace") {
        return;
    }
    let two = Two::new();
    two.push_works(0, "before any kill");
    let (mut killed, mut spawned, mut new) = (0, 0, 0);
    for call in [
        "openat",
        "mkdirat",
        "unlinkat",
        "renameat",
        "symlinkat",
        "write",
        "pipe2",
        "clone3",
        "vfork",
        "kill",
        "syncfs",
        "fdatasync",
    ] {
        for number in 1.. {
            new = 1 - new;
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let strace = ["strace", "-qqq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
            let run = two.ask(new, &strace.map(String::from));
            let when = format!("after a kill at {call} number {number}");
            two.check(&when);
            if run.status.success() {
                // The C library chooses by which of these two it starts a child.
                let is_spawn = ["clone3", "vfork"].contains(&call);
                spawned += if is_spawn { number - 1 } else { 0 };
                assert!(number > 1 || is_spawn, "{call} is never called");
                break;
            }
            killed += 1;
            // A recycled release that is cut off takes its log and its record along, and nothing else.
            two.push_works(if number % 2 == 0 { new } else { 1 - new }, &when);
            if number % 2 == 1 {
                two.push_works(new, &when);
            }
            assert!(number < 1000, "{}", run.output);
        }
    }
    assert!(killed > 100, "only {killed} kills");
    assert!(spawned > 0, "no child is ever started");
}
