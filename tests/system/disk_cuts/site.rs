//! A site on a disk, and a developer who pushes to it. The outcome of each push is known in advance, so a
//! test can compare it with what a boot finds.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::disk::Disk;

const BLUEGREEN: &str = env!("CARGO_BIN_EXE_bluegreen");

/// The number of files in each commit, besides `number` and, in a bad commit, `bad`.
const FILES: usize = 150;

/// The steps and shared paths of servers that have them.
const STEPS: &str = "[shared]\ndirs = ['uploads']\nfiles = ['.env']\n[steps]\nbuild = 'cp number built'\ncheck = 'cmp number built'\n\
    restart = 'cp number ../../restarted'\nverify = 'sleep 0.02; test ! -e bad'\n";

/// How pushes are deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By `post-receive`, without steps, while another program writes to the disk.
    Plain,
    /// By `post-receive`, with steps and shared paths.
    Steps,
    /// By the gate, with steps and shared paths.
    Gate,
}

/// A state of the server: the numbers of the live commit and of the branch's commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub live: usize,
    pub branch: usize,
}

/// A developer with many commits, who pushes them in turn and sometimes rolls one back.
pub struct Developer<'a> {
    disk: &'a Disk,
    way: Way,
    /// The commit ids, starting with commit 0.
    ids: Vec<String>,
    /// The expected state after each action that has started.
    states: Mutex<Vec<State>>,
    /// The index of the last acknowledged action.
    acknowledged: AtomicUsize,
    stop: AtomicBool,
}

impl<'a> Developer<'a> {
    /// Creates a repository and a site on the disk, and pushes the first commit.
    pub fn new(disk: &'a Disk, way: Way, commits: usize, is_durable: bool) -> Self {
        for old in [disk.path("repository"), disk.path("site"), disk.memory("clone")] {
            let _ = fs::remove_dir_all(old);
        }
        let mut developer = Self {
            disk,
            way,
            ids: Vec::new(),
            states: Mutex::new(Vec::new()),
            acknowledged: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        };
        developer.set_up_server(is_durable);
        developer.commit(commits);
        developer.act(0);
        developer
    }

    fn set_up_server(&self, is_durable: bool) {
        let (repository, site) = (self.repository(), self.disk.path("site"));
        fs::create_dir_all(site.join("shared")).unwrap();
        fs::write(site.join("shared/.env"), "SECRET=1\n").unwrap();
        self.git(&["init", "--quiet", "--bare", "--initial-branch=master", repository.to_str().unwrap()]);
        // The git settings that the installer sets.
        let settings = self.command(BLUEGREEN).args(["generate", "git-settings"]).output().unwrap();
        for setting in String::from_utf8(settings.stdout).unwrap().lines() {
            let (key, value) = setting.split_once(' ').unwrap();
            self.git_in_repository(&["config", key, value]);
        }
        let hooks = repository.join("hooks");
        symlink(BLUEGREEN, hooks.join("post-receive")).unwrap();
        if self.way == Way::Gate {
            symlink(BLUEGREEN, hooks.join("proc-receive")).unwrap();
            self.git_in_repository(&["config", "receive.procReceiveRefs", "refs/heads/master"]);
        }
        let steps = if self.way == Way::Plain { "" } else { STEPS };
        let root = site.display();
        fs::write(
            repository.join("bluegreen.toml"),
            format!("server = 'blue'\n[site]\nroot = '{root}'\nkeep = 2\ndurable = {is_durable}\n{steps}"),
        )
        .unwrap();
        let synced = Command::new("sync").arg("-f").arg(&site).status().unwrap();
        assert!(synced.success());
    }

    /// Creates all commits. Each changes an eighth of the files, or so few that each is flushed by itself.
    fn commit(&mut self, commits: usize) {
        self.git(&[
            "init",
            "--quiet",
            "--bare",
            "--initial-branch=master",
            self.clone_path().to_str().unwrap(),
        ]);
        let mut stream = String::new();
        for number in 0..commits {
            let date = 1_700_000_000 + number;
            let _ = write!(
                stream,
                "commit refs/heads/master\ncommitter Dev <dev@example.org> {date} +0000\ndata 1\nx\n"
            );
            let mut file = |path: &str, content: &str| {
                let _ = write!(stream, "M 100644 inline {path}\ndata {}\n{content}\n", content.len());
            };
            file("number", &number.to_string());
            let part = if self.way == Way::Plain { 64 } else { 8 };
            for name in (0..FILES).filter(|name| number == 0 || name % part == number % part) {
                let content = format!("{name} of {number}\n").repeat(1 + name * 3 % 400);
                file(&format!("d{}/{name}", name % 7), &content);
            }
            stream += if self.is_bad(number) { "M 100644 inline bad\ndata 0\n" } else { "D bad\n" };
        }
        let mut import = self.git_command(&["-C", "clone", "fast-import", "--quiet"]);
        let mut import = import.stdin(Stdio::piped()).spawn().unwrap();
        import.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
        assert!(import.wait().unwrap().success());
        let list = self.git(&["-C", "clone", "rev-list", "--reverse", "master"]);
        self.ids = list.lines().map(str::to_owned).collect();
    }

    // Of every twelve actions, one is a bad push and one a rollback.

    fn is_bad(&self, number: usize) -> bool {
        self.way != Way::Plain && number % 12 == 5
    }

    fn is_rollback(number: usize) -> bool {
        number % 12 == 10
    }

    /// Returns the state after the next action.
    fn next_state(&self, number: usize, states: &[State]) -> State {
        let last = |back: usize| states[states.len() - back];
        match number {
            0 => State { live: 0, branch: 0 },
            _ if Self::is_rollback(number) => State { live: last(2).live, branch: last(1).branch },
            _ if self.is_bad(number) && self.way == Way::Gate => last(1),
            _ if self.is_bad(number) => State { live: last(1).live, branch: number },
            _ => State { live: number, branch: number },
        }
    }

    /// Pushes or rolls back, and waits for the result.
    fn act(&self, number: usize) {
        let next = {
            let mut states = self.states.lock().unwrap();
            let next = self.next_state(number, &states);
            states.push(next);
            next
        };
        if Self::is_rollback(number) {
            let said = self.bluegreen(&["rollback"]);
            assert!(said.status.success() && text(&said).contains("is live again"), "{}", text(&said));
        } else {
            self.upload(number);
            let (said, is_ok) = self.push(number, || self.acknowledged.store(number, Ordering::SeqCst));
            assert_eq!(said.contains(" is live: "), next.live == number, "{said}");
            assert_eq!(is_ok, self.way != Way::Gate || next.live == number, "{said}");
        }
        self.acknowledged.store(number, Ordering::SeqCst);
    }

    /// A visitor's upload, which the application flushes before it acknowledges it.
    fn upload(&self, number: usize) {
        let uploads = self.disk.path("site/shared/uploads");
        fs::create_dir_all(&uploads).unwrap();
        let mut file = File::create(uploads.join(number.to_string())).unwrap();
        file.write_all(Self::upload_of(number).as_bytes()).unwrap();
        file.sync_all().unwrap();
        File::open(&uploads).unwrap().sync_all().unwrap();
    }

    pub fn upload_of(number: usize) -> String {
        number.to_string().repeat(1000)
    }

    pub fn has_upload(number: usize) -> bool {
        !Self::is_rollback(number)
    }

    /// Pushes a commit. Calls `live` when the output reports that it is live. Returns the output, and whether
    /// git succeeded.
    fn push(&self, number: usize, live: impl Fn()) -> (String, bool) {
        let refspec = format!("{}:refs/heads/master", self.ids[number]);
        let repository = self.repository();
        let mut push = self.git_command(&["-C", "clone", "push", repository.to_str().unwrap(), &refspec]);
        let mut push = push.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut said = String::new();
        for line in BufReader::new(push.stderr.take().unwrap()).lines().map_while(Result::ok) {
            if line.contains(" is live: ") {
                live();
            }
            said += &(line + "\n");
        }
        (said, push.wait().unwrap().success())
    }

    /// Works until [`Developer::stop`] is called or only the last commit is left.
    pub fn work(&self) {
        thread::scope(|scope| {
            if self.way == Way::Plain {
                scope.spawn(|| self.keep_the_disk_busy());
            }
            for number in 1..self.ids.len() - 1 {
                if self.stop.load(Ordering::SeqCst) {
                    return;
                }
                self.act(number);
            }
        });
    }

    /// Writes files as another program on the server, which flushes none of them.
    fn keep_the_disk_busy(&self) {
        for turn in (0..8).cycle() {
            if self.stop.load(Ordering::SeqCst) || !self.has_more() {
                return;
            }
            fs::write(self.disk.path(&format!("other-{turn}")), vec![turn; 4 << 20]).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Returns whether commits are left to push.
    pub fn has_more(&self) -> bool {
        self.states.lock().unwrap().len() + 1 < self.ids.len()
    }

    /// Returns the index of the last acknowledged action.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Returns the states that may be found after a cut: from the last action acknowledged before it to the
    /// last action that has started.
    pub fn states_since(&self, acknowledged: usize) -> Vec<State> {
        self.states.lock().unwrap()[acknowledged..].to_vec()
    }

    // Accessors for checks of the server.

    pub fn repository(&self) -> PathBuf {
        self.disk.path("repository")
    }

    fn clone_path(&self) -> PathBuf {
        self.disk.memory("clone")
    }

    pub fn way(&self) -> Way {
        self.way
    }

    /// Pushes the last commit.
    pub fn push_last(&self) -> (usize, String, bool) {
        let last = self.ids.len() - 1;
        let (said, is_ok) = self.push(last, || ());
        (last, said, is_ok)
    }

    /// Returns the number of a commit.
    pub fn number_of(&self, id: &str) -> Option<usize> {
        self.ids.iter().position(|known| known.starts_with(id))
    }

    /// Writes the files of a commit to a new directory in memory.
    pub fn check_out(&self, number: usize) -> PathBuf {
        let tree = self.disk.memory(&format!("checkout-{}", self.ids[number]));
        if !tree.exists() {
            fs::create_dir(&tree).unwrap();
            let (tree, index) = (tree.to_str().unwrap(), format!("{}.index", tree.display()));
            let mut git = self.git_command(&["--git-dir=clone", "--work-tree", tree]);
            git.args(["checkout", "--quiet", "--force", &self.ids[number], "--", "."])
                .env("GIT_INDEX_FILE", index);
            assert!(git.status().unwrap().success());
        }
        tree
    }

    pub fn bluegreen(&self, arguments: &[&str]) -> Output {
        self.command(BLUEGREEN).arg("-C").arg(self.repository()).args(arguments).output().unwrap()
    }

    pub fn git_in_repository(&self, arguments: &[&str]) -> String {
        self.git(&[&["-C", self.repository().to_str().unwrap()], arguments].concat())
    }

    /// Runs git, and returns its output and errors.
    fn git(&self, arguments: &[&str]) -> String {
        text(&self.git_command(arguments).output().unwrap())
    }

    fn git_command(&self, arguments: &[&str]) -> Command {
        let mut git = self.command("git");
        git.args(arguments);
        git
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.disk.memory("home"))
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .current_dir(self.disk.memory(""));
        command
    }
}

/// Returns all output of a program.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).trim_end().to_owned()
}
