//! Two versions of a site that differ in many ways, deployed in turn, and assertions that hold after any
//! failure.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use super::sandbox::BLUEGREEN;
use super::snapshot::{Snapshot, assert_same, snapshot};
use super::{Node, Run, Sandbox};

/// Steps that leave files in the release and in the site. A version is good unless the site contains `bad`.
/// Uses only shell builtins, so a hundred kills start no other program.
const STEPS: &str = "[shared]\ndirs = ['files/uploads']\n[steps]\nbuild = 'read v <version; echo $v >built'\ncheck = 'test -s built'\n\
    restart = 'read v <built; echo $v >>../../restarts'\n\
    verify = 'read a <built; read b <../../current/version; test ! -e ../../bad && test \"$a\" = \"$b\"'";

/// A sandbox with two commits, the live release of each, and every kind of change between them.
pub struct TwoVersions {
    pub sandbox: Sandbox,
    pub ids: [String; 2],
    pub has_gate: bool,
    expected: [Snapshot; 2],
}

impl TwoVersions {
    /// Versions with this number of files, deployed by `post-receive`. Deployments recycle from the fourth
    /// on.
    pub fn with_hook(files: usize) -> Self {
        let sandbox = Sandbox::new();
        sandbox.site_config("keep = 1");
        Self::new(sandbox, files, false)
    }

    /// Few files, steps, and a shared directory, deployed by the gate.
    pub fn with_gate() -> Self {
        let sandbox = Sandbox::new();
        sandbox.site_config("keep = 1").config_section(STEPS);
        sandbox.git_in(&sandbox.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
        symlink(BLUEGREEN, sandbox.repository().join("hooks/proc-receive")).unwrap();
        Self::new(sandbox, 2, true)
    }

    fn new(sandbox: Sandbox, files: usize, has_gate: bool) -> Self {
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
            nodes.push((b"version".to_vec(), Node::file(version)));
            if has_gate {
                nodes.push((b"files/uploads/seed".to_vec(), Node::file("seed")));
            }
            let nodes: Vec<(&[u8], Node)> =
                nodes.iter().map(|(path, node)| (path.as_slice(), node.clone())).collect();
            sandbox.commit_tree(&nodes).push().ok();
        }
        if has_gate {
            std::fs::write(sandbox.site().join("shared/files/uploads/photo"), "precious").unwrap();
        }
        let ids = ["master~1", "master"].map(|revision| sandbox.id(revision));
        let expected = [0, 1].map(|version: usize| {
            sandbox.bluegreen(&["deploy", &ids[version]]).ok();
            if has_gate { snapshot(&sandbox.live_path()) } else { sandbox.checkout(&ids[version]) }
        });
        Self { sandbox, ids, has_gate, expected }
    }

    /// Returns the live version, 0 or 1.
    #[track_caller]
    pub fn live(&self) -> usize {
        usize::from(self.sandbox.live().contains(&self.ids[1][..12]))
    }

    /// Moves the branch as a push would.
    pub fn move_branch(&self, to: usize) {
        let repository = self.sandbox.repository();
        self.sandbox.git_in(&repository, &["update-ref", "refs/heads/master", &self.ids[to]]);
    }

    /// Returns the line that git writes to a hook for a push.
    pub fn line(&self, to: usize) -> String {
        format!("{} {} refs/heads/master\n", self.ids[1 - to], self.ids[to])
    }

    /// Returns a hook or a command, as git or an operator runs it, optionally behind a wrapper.
    pub fn command(&self, wrapper: &[String], program: PathBuf, arguments: &[&str]) -> Command {
        let mut command = match wrapper.split_first() {
            None => self.sandbox.command(program),
            Some((first, rest)) => {
                let mut command = self.sandbox.command(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(arguments).current_dir(self.sandbox.repository());
        if arguments.is_empty() {
            command.env("GIT_DIR", ".");
        }
        command
    }

    /// Pushes a version: moves the branch and runs the hook, or runs the gate as receive-pack does.
    pub fn push(&self, to: usize, wrapper: &[String]) -> Run<'_> {
        if !self.has_gate {
            self.move_branch(to);
            let mut hook = self.command(wrapper, self.sandbox.hook_path(), &[]);
            return self.sandbox.run_with_input(&mut hook, self.line(to).as_bytes());
        }
        let line = format!("{} {} refs/heads/master", self.sandbox.tip(), self.ids[to]);
        let packet = |text: &str| format!("{:04x}{text}", text.len() + 4);
        let request = format!("{}0000{}0000", packet("version=1"), packet(&line));
        let mut gate = self.command(wrapper, self.sandbox.repository().join("hooks/proc-receive"), &[]);
        self.sandbox.run_with_input(&mut gate, request.as_bytes())
    }

    /// Asserts that the live release is one of the two versions, and that every release marked good is
    /// complete.
    #[track_caller]
    pub fn is_whole(&self, when: &str) {
        let live = snapshot(&self.sandbox.live_path());
        assert_same(&live, &self.expected[self.live()], &format!("what is live after {when}"));
        for name in self.sandbox.releases() {
            let record = self.sandbox.site().join(format!(".bluegreen/releases/{name}.toml"));
            let record = std::fs::read_to_string(record).unwrap_or_default();
            if record.contains("state = \"ready\"") {
                let which = usize::from(record.contains(&self.ids[1]));
                let found = snapshot(&self.sandbox.site().join("releases").join(&name));
                assert_same(&found, &self.expected[which], &format!("good release {name} after {when}"));
            }
        }
        if self.has_gate {
            let uploads = snapshot(&self.sandbox.site().join("shared/files/uploads"));
            assert_eq!(uploads.len(), 3, "{when}: {uploads:?}");
            self.sandbox.serves("files/uploads/photo", "precious");
        }
    }

    /// Asserts that the next push works and leaves nothing behind. With the gate, the push may have to be
    /// repeated if the command has first moved the branch back.
    #[track_caller]
    pub fn push_works(&self, to: usize, when: &str) {
        let mut run = self.push(to, &[]);
        if self.has_gate && run.output.contains("has moved in the meantime") {
            self.agrees(when);
            run = self.push(to, &[]);
        }
        let done = if self.has_gate { "ok refs/heads/master" } else { "Git hooks deploy complete." };
        assert!(run.status.success() && run.output.contains(done), "{when}: {}", run.output);
        assert!(self.has_gate || !run.output.contains("warning:"), "{when}: {}", run.output);
        self.is_whole(&format!("the push after {when}"));
        assert_eq!(self.live(), to, "{when}: the pushed version is not live");
        self.agrees(when);
        self.is_clean(when);
    }

    /// Asserts that the branch points to the live release's commit.
    #[track_caller]
    pub fn agrees(&self, when: &str) {
        assert_eq!(self.sandbox.tip(), self.ids[self.live()], "branch and site disagree after {when}");
    }

    /// Asserts that no leftovers exist and that the history is readable.
    #[track_caller]
    pub fn is_clean(&self, when: &str) {
        self.sandbox.is_tidy();
        assert!(!self.sandbox.site().join(".bluegreen/publishing").exists(), "{when}");
        assert!(self.sandbox.releases().len() <= 4, "{when}: {:?}", self.sandbox.releases());
        assert!(!self.sandbox.history().is_empty());
    }
}
