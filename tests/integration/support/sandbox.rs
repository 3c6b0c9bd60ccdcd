//! The sandbox: its paths, and the actions of a developer and an operator.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::run::{Run, copy_program, spawn};
use super::snapshot::{Snapshot, assert_same, snapshot};
use super::tree::Node;

/// The program under test.
pub const BLUEGREEN: &str = env!("CARGO_BIN_EXE_bluegreen");

/// The UID and GID of `nobody` on every Linux, for programs that run unprivileged.
pub const NOBODY: u32 = 65534;

/// A developer's clone, a server's bare repository, and its site, in a temporary directory.
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
    /// Creates an empty repository with the hook and a config, and an empty site.
    #[must_use]
    pub fn new() -> Self {
        let fast = Path::new("/dev/shm");
        let temp = tempfile::Builder::new().prefix("bluegreen-test-").tempdir_in(fast);
        Self::inside(temp.or_else(|_| tempfile::tempdir()).unwrap())
    }

    /// Creates a sandbox inside `temp`.
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

    // Paths.

    /// Returns a path in the sandbox.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// Returns the bare repository that receives pushes.
    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// Returns the developer's repository, which is bare because commits are created without a work tree.
    pub fn clone_path(&self) -> PathBuf {
        self.path("clone")
    }

    pub fn site(&self) -> PathBuf {
        self.path("site")
    }

    /// Returns a path in the live release.
    pub fn current(&self, path: impl AsRef<Path>) -> PathBuf {
        self.site().join("current").join(path)
    }

    pub fn hook_path(&self) -> PathBuf {
        self.repository().join("hooks/post-receive")
    }

    pub fn config_path(&self) -> PathBuf {
        self.repository().join("bluegreen.toml")
    }

    /// Replaces the sandbox's paths with `<repository>`, `<site>`, and `<sandbox>`.
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

    /// Adds lines to the `[site]` section of the config: `keep = 0`.
    pub fn site_config(&self, lines: &str) -> &Self {
        self.add_config(1, lines)
    }

    /// Appends sections to the config.
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

    // Actions of a developer.

    /// Commits one file to master.
    pub fn commit(&self, path: &str, content: &str) -> &Self {
        self.commit_nodes(&[(path.as_bytes(), Node::file(content))])
    }

    /// Commits changes to master.
    pub fn commit_nodes(&self, nodes: &[(&[u8], Node)]) -> &Self {
        self.commit_to("master", "Change the site", nodes)
    }

    /// Commits changes to a branch. Creates the branch, initially empty, if it does not exist.
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

    /// Commits a copy of a folder to master as the first commit.
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

    /// Commits exactly this tree to master.
    pub fn commit_tree(&self, nodes: &[(&[u8], Node)]) -> &Self {
        let everything: &[u8] = b"";
        let all: Vec<(&[u8], Node)> =
            std::iter::once((everything, Node::Nothing)).chain(nodes.iter().cloned()).collect();
        self.commit_nodes(&all)
    }

    /// Returns a later date for each commit, so that no two commits are equal.
    fn tick(&self) -> u64 {
        self.clock.replace(self.clock.get() + 1)
    }

    /// Runs git in the developer's clone, asserts success, and returns its output.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.clone_path(), arguments)
    }

    /// Runs git in the developer's clone, asserts success, and returns the raw bytes of its output.
    #[track_caller]
    pub fn git_bytes(&self, arguments: &[&str]) -> Vec<u8> {
        self.git_output(&self.clone_path(), arguments).stdout
    }

    /// Runs git in a directory and asserts success.
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

    /// Returns the full id of a revision in the clone.
    #[track_caller]
    pub fn id(&self, revision: &str) -> String {
        self.git(&["rev-parse", "--verify", revision])
    }

    /// Returns the commit that the repository's master points to, read from the ref file without git.
    pub fn tip(&self) -> String {
        let tip = std::fs::read_to_string(self.repository().join("refs/heads/master"));
        tip.unwrap().trim_end().to_owned()
    }

    /// Pushes master.
    pub fn push(&self) -> Run<'_> {
        self.push_refs(&["master"])
    }

    /// Pushes these refspecs. May include options.
    pub fn push_refs(&self, refspecs: &[&str]) -> Run<'_> {
        Run::new(self, &mut self.push_command(refspecs))
    }

    /// Returns a `git push` command without starting it.
    pub fn push_command(&self, refspecs: &[&str]) -> Command {
        let mut git = self.git_command(&self.clone_path());
        git.arg("push").arg(self.repository()).args(refspecs).stdin(Stdio::null());
        git
    }

    // Actions of an operator.

    /// Runs the program on the repository.
    pub fn bluegreen(&self, arguments: &[&str]) -> Run<'_> {
        Run::new(self, &mut self.bluegreen_command(arguments))
    }

    /// Returns a command of the program on the repository, without starting it.
    pub fn bluegreen_command(&self, arguments: &[&str]) -> Command {
        let mut program = self.command(self.program());
        program.arg("-C").arg(self.repository()).args(arguments).stdin(Stdio::null());
        program
    }

    /// Runs the hook manually, with this standard input and without `GIT_DIR`.
    pub fn by_hand(&self, input: impl AsRef<[u8]>) -> Run<'_> {
        self.run_with_input(&mut self.command(self.hook_path()), input.as_ref())
    }

    /// Runs the hook as git does, with this standard input.
    pub fn as_git(&self, input: impl AsRef<[u8]>) -> Run<'_> {
        let mut hook = self.command(self.hook_path());
        self.run_with_input(hook.env("GIT_DIR", ".").current_dir(self.repository()), input.as_ref())
    }

    /// Runs a program with this standard input.
    pub fn run_with_input(&self, command: &mut Command, input: &[u8]) -> Run<'_> {
        let (mut child, reader) = spawn(command.stdin(Stdio::piped()));
        // A program that does not read its input may have exited already.
        let _ = child.stdin.take().unwrap().write_all(input);
        Run::finish(self, child, reader)
    }

    // Ownership.

    /// Changes the owner of everything in the sandbox. All later programs run as that user.
    pub fn owned_by(&self, user: u32) -> &Self {
        // The build directory may be inaccessible to other users, so copy the hook.
        std::fs::remove_file(self.hook_path()).unwrap();
        copy_program(&self.hook_path());
        self.user.set(Some(user));
        chown_all(&self.root, user);
        self
    }

    /// Runs all later programs as root. Existing files keep their owner.
    pub fn back_to_root(&self) -> &Self {
        self.user.set(None);
        self
    }

    /// Changes the owner of a file created by the test to the user who would have created it.
    fn give(&self, path: &Path) {
        if let Some(user) = self.user.get() {
            lchown(path, Some(user), Some(user)).unwrap();
        }
    }

    fn program(&self) -> PathBuf {
        if self.hook_path().is_symlink() { BLUEGREEN.into() } else { self.hook_path() }
    }

    /// Returns a command in the sandbox's environment, as the sandbox's user.
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

    /// Returns a git command in a directory. A bare repository is found through its path alone.
    pub fn git_command(&self, directory: &Path) -> Command {
        let mut git = self.command("git");
        git.arg("-C").arg(directory);
        git
    }

    // What visitors get.

    /// Asserts that the live release contains this file.
    #[track_caller]
    pub fn serves(&self, path: &str, content: &str) -> &Self {
        let found = std::fs::read(self.current(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(String::from_utf8_lossy(&found), content, "{path}");
        self
    }

    /// Asserts that `current` does not exist.
    #[track_caller]
    pub fn serves_nothing(&self) -> &Self {
        let current = self.site().join("current");
        assert!(current.symlink_metadata().is_err(), "`current` points to {:?}", current.read_link());
        self
    }

    /// Asserts that the live release matches `git checkout` of a revision in the clone.
    #[track_caller]
    pub fn serves_checkout(&self, revision: &str) -> &Self {
        assert_same(&snapshot(&self.live_path()), &self.checkout(revision), revision);
        self
    }

    /// Returns the files that `git checkout` writes for a revision, or for a folder in it: `master:web`.
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

    /// Returns the directory that `current` points to.
    #[track_caller]
    pub fn live_path(&self) -> PathBuf {
        let current = self.site().join("current");
        current.canonicalize().unwrap_or_else(|error| panic!("nothing is live: {error}"))
    }

    /// Returns the live release's name.
    #[track_caller]
    pub fn live(&self) -> String {
        self.live_path().file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Returns all names in `releases/`, oldest release first.
    pub fn releases(&self) -> Vec<String> {
        let mut names = names(&self.site().join("releases"));
        // Releases created in the same second differ in the number at the end.
        let number = |name: &str| name.splitn(3, '-').nth(2).and_then(|number| number.parse().ok());
        names.sort_by_key(|name| (name.chars().take(16).collect::<String>(), number(name).unwrap_or(1_u32)));
        names
    }

    /// Returns all names in `.bluegreen/releases/`.
    pub fn records(&self) -> Vec<String> {
        names(&self.site().join(".bluegreen/releases"))
    }

    /// Returns the history, oldest entry first.
    pub fn history(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.site().join(".bluegreen/history.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts that only releases, their records, and the files of the state directory exist.
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
    /// Reopens directories that a test closed to its own user, so that they can be removed.
    fn drop(&mut self) {
        self.stop_instances();
        open_up(&self.root);
    }
}

fn open_up(directory: &Path) {
    // A directory that cannot be opened is owned by another user, and a failed test has reported that.
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

/// Runs a program to completion with this standard input.
pub fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}
