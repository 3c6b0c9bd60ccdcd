//! The sandbox: where everything lies, and what a developer and an operator do.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::run::{Run, spawn};
use super::snapshot::{Snapshot, assert_same, snapshot};
use super::tree::Node;

/// The program under test.
pub const BLUEGREEN: &str = env!("CARGO_BIN_EXE_bluegreen");

/// A user and group that every Linux has, for what a program does that is not root.
pub const NOBODY: u32 = 65534;

/// A developer's clone, a server's bare repository and its site, in a temporary directory.
pub struct Sandbox {
    // Removed on drop.
    _temp: tempfile::TempDir,
    root: PathBuf,
    config: RefCell<[String; 3]>,
    clock: Cell<u64>,
    user: Cell<Option<u32>>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// An empty repository with the hook and a config, and an empty site.
    #[must_use]
    pub fn new() -> Self {
        let fast = Path::new("/dev/shm");
        let temp = tempfile::Builder::new().prefix("bluegreen-test-").tempdir_in(fast);
        Self::inside(temp.or_else(|_| tempfile::tempdir()).unwrap())
    }

    /// A sandbox whose directories all lie in `temp`.
    #[must_use]
    pub fn inside(temp: tempfile::TempDir) -> Self {
        let root = temp.path().canonicalize().unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
        let sandbox = Self {
            _temp: temp,
            root,
            config: RefCell::default(),
            clock: Cell::new(1_700_000_000),
            user: Cell::default(),
        };
        for directory in ["home", "site"] {
            std::fs::create_dir(sandbox.path(directory)).unwrap();
        }
        sandbox.init("repository").init("clone");
        symlink(BLUEGREEN, sandbox.hook_path()).unwrap();
        sandbox.write_config();
        sandbox
    }

    fn init(&self, name: &str) -> &Self {
        self.git_in(&self.root, &["init", "--quiet", "--bare", "--initial-branch=master", name]);
        self
    }

    // Where things lie.

    /// A path in the sandbox.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// The bare repository that is pushed to.
    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// The developer's repository; it is bare too, for commits are made without a work tree.
    pub fn clone_path(&self) -> PathBuf {
        self.path("clone")
    }

    /// The site.
    pub fn site(&self) -> PathBuf {
        self.path("site")
    }

    /// A path in the live release.
    pub fn current(&self, path: impl AsRef<Path>) -> PathBuf {
        self.site().join("current").join(path)
    }

    pub fn hook_path(&self) -> PathBuf {
        self.repository().join("hooks/post-receive")
    }

    pub fn config_path(&self) -> PathBuf {
        self.repository().join("bluegreen.toml")
    }

    /// Replaces the sandbox's paths by `<repository>`, `<site>` and `<sandbox>`.
    pub fn normalize_paths(&self, line: &str) -> String {
        let name = |path: PathBuf| path.to_str().unwrap().to_owned();
        line.replace(&name(self.repository()), "<repository>")
            .replace(&name(self.site()), "<site>")
            .replace(&name(self.root.clone()), "<sandbox>")
    }

    // The config.

    /// Adds lines to the top of the config: `branch = "main"`.
    pub fn config(&self, lines: &str) -> &Self {
        self.add_config(0, lines)
    }

    /// Adds lines to the config's section `[site]`: `keep = 0`.
    pub fn site_config(&self, lines: &str) -> &Self {
        self.add_config(1, lines)
    }

    /// Adds whole sections to the end of the config.
    pub fn config_section(&self, lines: &str) -> &Self {
        self.add_config(2, lines)
    }

    /// Replaces the whole config.
    pub fn raw_config(&self, text: &str) -> &Self {
        std::fs::write(self.config_path(), text).unwrap();
        self.give(&self.config_path());
        self
    }

    fn add_config(&self, part: usize, lines: &str) -> &Self {
        let mut config = self.config.take();
        config[part].push_str(lines);
        config[part].push('\n');
        self.config.replace(config);
        self.write_config()
    }

    fn write_config(&self) -> &Self {
        let [top, site, rest] = &*self.config.borrow();
        let root = self.site();
        self.raw_config(&format!(
            "server = \"blue\"\n{top}[site]\nroot = \"{}\"\n{site}{rest}",
            root.display()
        ))
    }

    // What a developer does.

    /// Commits one file to master.
    pub fn commit(&self, path: &str, content: &str) -> &Self {
        self.commit_nodes(&[(path.as_bytes(), Node::file(content))])
    }

    /// Commits changes to master.
    pub fn commit_nodes(&self, nodes: &[(&[u8], Node)]) -> &Self {
        self.commit_to("master", "Change the site", nodes)
    }

    /// Commits changes to a branch, made if there is none; a new branch begins empty.
    pub fn commit_to(&self, branch: &str, subject: &str, nodes: &[(&[u8], Node)]) -> &Self {
        let reference = format!("refs/heads/{branch}");
        let mut stream = format!(
            "commit {reference}\ncommitter Ada Developer <ada@example.com> {} +0000\ndata {}\n{subject}\n",
            self.tick(),
            subject.len()
        )
        .into_bytes();
        if self.clone_path().join(&reference).exists() {
            stream.extend(format!("from {reference}^0\n").bytes());
        }
        for (path, node) in nodes {
            node.import(path, &mut stream);
        }
        stream.extend(b"\ndone\n");
        let mut import = self.git_command(&self.clone_path());
        let output = feed(import.args(["fast-import", "--quiet", "--done", "--force"]), &stream);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self
    }

    /// Commits a copy of a folder to master as its first commit, as a developer would begin with it.
    pub fn commit_folder(&self, folder: &Path) -> &Self {
        let copy = self.path("work");
        let options = fs_extra::dir::CopyOptions::new().content_only(true);
        fs_extra::dir::create(&copy, false)
            .and_then(|()| fs_extra::dir::copy(folder, &copy, &options))
            .unwrap();
        let (work_tree, date) = (format!("--work-tree={}", copy.display()), self.tick().to_string());
        self.git(&[&work_tree, "add", "--all", "--", ":!*__pycache__*"]);
        let mut commit = self.git_command(&self.clone_path());
        commit.env("GIT_COMMITTER_DATE", format!("{date} +0000"));
        commit.args(["-c", "user.name=Ada Developer", "-c", "user.email=ada@example.com"]);
        assert!(
            commit.args([&work_tree, "commit", "--quiet", "--message=Begin"]).status().unwrap().success()
        );
        self
    }

    /// Commits exactly this tree to master, whatever was there before.
    pub fn commit_tree(&self, nodes: &[(&[u8], Node)]) -> &Self {
        let everything: &[u8] = b"";
        let all: Vec<(&[u8], Node)> =
            std::iter::once((everything, Node::Nothing)).chain(nodes.iter().cloned()).collect();
        self.commit_nodes(&all)
    }

    /// Every commit gets a later date, so that no two are the same.
    fn tick(&self) -> u64 {
        self.clock.replace(self.clock.get() + 1)
    }

    /// Runs git in the developer's clone; it must succeed. Gives what it printed.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.clone_path(), arguments)
    }

    /// Runs git in the developer's clone; it must succeed. Gives the very bytes that it printed.
    #[track_caller]
    pub fn git_bytes(&self, arguments: &[&str]) -> Vec<u8> {
        self.git_output(&self.clone_path(), arguments).stdout
    }

    /// Runs git in a directory; it must succeed.
    #[track_caller]
    pub fn git_in(&self, directory: &Path, arguments: &[&str]) -> String {
        let output = self.git_output(directory, arguments);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    #[track_caller]
    fn git_output(&self, directory: &Path, arguments: &[&str]) -> Output {
        let output = self.git_command(directory).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// The full id of a revision of the clone.
    #[track_caller]
    pub fn id(&self, revision: &str) -> String {
        self.git(&["rev-parse", "--verify", revision])
    }

    /// The commit that master of the repository points to, from its file: no git has to be started.
    pub fn tip(&self) -> String {
        let tip = std::fs::read_to_string(self.repository().join("refs/heads/master"));
        tip.unwrap().trim_end().to_owned()
    }

    /// Pushes master.
    pub fn push(&self) -> Run<'_> {
        self.push_refs(&["master"])
    }

    /// Pushes these refspecs, with options among them.
    pub fn push_refs(&self, refspecs: &[&str]) -> Run<'_> {
        Run::new(self, &mut self.push_command(refspecs))
    }

    /// A `git push` that is yet to be started.
    pub fn push_command(&self, refspecs: &[&str]) -> Command {
        let mut git = self.git_command(&self.clone_path());
        git.arg("push").arg(self.repository()).args(refspecs).stdin(Stdio::null());
        git
    }

    // What an operator does.

    /// Runs the program on the repository.
    pub fn bluegreen(&self, arguments: &[&str]) -> Run<'_> {
        Run::new(self, &mut self.bluegreen_command(arguments))
    }

    /// The program on the repository, yet to be started.
    pub fn bluegreen_command(&self, arguments: &[&str]) -> Command {
        let mut program = self.command(self.program());
        program.arg("-C").arg(self.repository()).args(arguments).stdin(Stdio::null());
        program
    }

    /// Runs the hook by hand, with lines on its standard input and no `GIT_DIR`.
    pub fn by_hand(&self, input: impl AsRef<[u8]>) -> Run<'_> {
        self.run_with_input(&mut self.command(self.hook_path()), input.as_ref())
    }

    /// Runs the hook as git does, with lines on its standard input.
    pub fn as_git(&self, input: impl AsRef<[u8]>) -> Run<'_> {
        let mut hook = self.command(self.hook_path());
        self.run_with_input(hook.env("GIT_DIR", ".").current_dir(self.repository()), input.as_ref())
    }

    /// Runs a program with this on its standard input.
    pub fn run_with_input(&self, command: &mut Command, input: &[u8]) -> Run<'_> {
        let (mut child, reader) = spawn(command.stdin(Stdio::piped()));
        // A program that does not care for its input may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input);
        Run::finish(self, child, reader)
    }

    // Whose all this is.

    /// Gives everything to a user; from now on all programs run as that user.
    pub fn owned_by(&self, user: u32) -> &Self {
        // The build directory may be closed to others, so the hook becomes a copy.
        std::fs::remove_file(self.hook_path()).unwrap();
        std::fs::copy(BLUEGREEN, self.hook_path()).unwrap();
        self.user.set(Some(user));
        chown_all(&self.root, user);
        self
    }

    /// From now on programs run as root again; what there is stays with its owner.
    pub fn back_to_root(&self) -> &Self {
        self.user.set(None);
        self
    }

    /// Gives a file that the test made to the user who would have made it.
    fn give(&self, path: &Path) {
        if let Some(user) = self.user.get() {
            lchown(path, Some(user), Some(user)).unwrap();
        }
    }

    fn program(&self) -> PathBuf {
        if self.hook_path().is_symlink() { BLUEGREEN.into() } else { self.hook_path() }
    }

    /// A program in the sandbox's own environment, as the sandbox's user.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Ada Developer")
            .env("GIT_AUTHOR_EMAIL", "ada@example.com")
            .env("GIT_AUTHOR_DATE", "1700000000 +0000")
            .env("GIT_COMMITTER_NAME", "Ada Developer")
            .env("GIT_COMMITTER_EMAIL", "ada@example.com")
            .env("GIT_COMMITTER_DATE", "1700000000 +0000")
            .current_dir(&self.root);
        if let Some(user) = self.user.get() {
            command.uid(user).gid(user);
        }
        command
    }

    /// A git in a directory; a bare repository is found by its path alone.
    pub fn git_command(&self, directory: &Path) -> Command {
        let mut git = self.command("git");
        git.arg("-C").arg(directory);
        git
    }

    // What the public gets.

    /// The live release has this file.
    #[track_caller]
    pub fn serves(&self, path: &str, content: &str) -> &Self {
        let found = std::fs::read(self.current(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(String::from_utf8_lossy(&found), content, "{path}");
        self
    }

    /// There is no `current`.
    #[track_caller]
    pub fn serves_nothing(&self) -> &Self {
        let current = self.site().join("current");
        assert!(current.symlink_metadata().is_err(), "`current` leads to {:?}", current.read_link());
        self
    }

    /// The live release is what `git checkout` writes for a revision of the clone.
    #[track_caller]
    pub fn serves_checkout(&self, revision: &str) -> &Self {
        assert_same(&snapshot(&self.live_path()), &self.checkout(revision), revision);
        self
    }

    /// Reads the files that `git checkout` writes for a revision of the clone, or a folder of it: `master:web`.
    #[track_caller]
    pub fn checkout(&self, revision: &str) -> Snapshot {
        let (revision, folder) = revision.split_once(':').unwrap_or((revision, ""));
        let elsewhere = tempfile::Builder::new().prefix("checkout-").tempdir_in(&self.root).unwrap();
        let tree = elsewhere.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        self.give(elsewhere.path());
        self.give(&tree);
        let output = self
            .git_command(&self.clone_path())
            .args([OsStr::new("--work-tree"), tree.as_os_str()])
            .args(["-c", "advice.detachedHead=false", "checkout", "--quiet", "--force", "--detach", revision])
            .env("GIT_INDEX_FILE", elsewhere.path().join("index"))
            .env("GIT_DIR", self.clone_path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        snapshot(&tree.join(folder))
    }

    /// The directory that `current` leads to; it must be one.
    #[track_caller]
    pub fn live_path(&self) -> PathBuf {
        let current = self.site().join("current");
        current.canonicalize().unwrap_or_else(|error| panic!("nothing is live: {error}"))
    }

    /// The live release's name.
    #[track_caller]
    pub fn live(&self) -> String {
        self.live_path().file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// All names in `releases/`, oldest release first.
    pub fn releases(&self) -> Vec<String> {
        let mut names = names(&self.site().join("releases"));
        // Releases of one second are told apart by the number at the end.
        let number = |name: &str| name.splitn(3, '-').nth(2).and_then(|number| number.parse().ok());
        names.sort_by_key(|name| (name.chars().take(16).collect::<String>(), number(name).unwrap_or(1_u32)));
        names
    }

    /// All names in `.bluegreen/releases/`.
    pub fn records(&self) -> Vec<String> {
        names(&self.site().join(".bluegreen/releases"))
    }

    /// The history, oldest first.
    pub fn history(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.site().join(".bluegreen/history.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// No deployment left anything behind that is not a release, its record or the state's own files.
    #[track_caller]
    pub fn is_tidy(&self) -> &Self {
        let is_leftover = |name: &&String| name.contains("incoming") || name.contains(".next");
        let found = [self.releases(), self.records(), names(&self.site())].concat();
        let leftovers: Vec<_> = found.iter().filter(is_leftover).collect();
        assert!(leftovers.is_empty(), "{leftovers:?}");
        self
    }
}

impl Drop for Sandbox {
    /// Opens what a test closed to its own user, which would stay for good otherwise.
    fn drop(&mut self) {
        self.stop_instances();
        open_up(&self.root);
    }
}

fn open_up(directory: &Path) {
    // What cannot be opened belongs to somebody else, and a test that fails has said so already.
    let _ = std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700));
    for entry in directory.read_dir().into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = directory.read_dir() else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn chown_all(path: &Path, user: u32) {
    lchown(path, Some(user), Some(user)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in path.read_dir().unwrap() {
            chown_all(&entry.unwrap().path(), user);
        }
    }
}

/// Runs a program to its end with this on its standard input.
pub fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}
