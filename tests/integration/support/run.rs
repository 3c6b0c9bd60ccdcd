//! The result of a push or a command: its exit status and output.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::Sandbox;
use super::normalize::normalize;
use super::sandbox::BLUEGREEN;

/// A finished program whose exit status has not been checked yet.
#[must_use = "say what is expected: ok(), warned(), not_deployed() or fails(status)"]
pub struct Run<'a> {
    pub sandbox: &'a Sandbox,
    pub status: ExitStatus,
    /// Standard output and standard error, interleaved as they were written.
    pub output: String,
}

/// A program with the expected exit status.
pub struct Reported<'a> {
    pub sandbox: &'a Sandbox,
    output: String,
}

/// Starts a program with both output streams on one pipe, as git does with a hook.
pub fn spawn(command: &mut Command) -> (Child, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(Stdio::from(writer.try_clone().unwrap())).stderr(Stdio::from(writer));
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // Drop the command's own ends of the pipe.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    (child, reader)
}

/// Copies the program in a child process. A child that another thread forks while this process writes would inherit the
/// descriptor, and the copy could not be executed until that child has executed its own program (ETXTBSY).
pub fn copy_program(to: &Path) {
    assert!(Command::new("cp").arg(BLUEGREEN).arg(to).status().unwrap().success());
}

impl<'a> Run<'a> {
    /// Runs a program to completion.
    pub fn new(sandbox: &'a Sandbox, command: &mut Command) -> Self {
        let (child, reader) = spawn(command);
        Self::finish(sandbox, child, reader)
    }

    /// Waits for a program that [`spawn`] started.
    pub fn finish(sandbox: &'a Sandbox, mut child: Child, mut reader: std::io::PipeReader) -> Self {
        let mut output = Vec::new();
        reader.read_to_end(&mut output).unwrap();
        let status = child.wait().unwrap();
        Self { sandbox, status, output: String::from_utf8(output).unwrap() }
    }

    /// Asserts that it succeeded without printing an error or a warning.
    #[track_caller]
    pub fn ok(self) -> Reported<'a> {
        self.expect(0, &["error:", "warning:", "Not deployed"], &[])
    }

    /// Asserts that it succeeded with a warning.
    #[track_caller]
    pub fn warned(self) -> Reported<'a> {
        self.expect(0, &["error:", "Not deployed"], &["warning:"])
    }

    /// Asserts that the push succeeded but nothing was deployed. A post-receive hook cannot fail a push.
    #[track_caller]
    pub fn not_deployed(self) -> Reported<'a> {
        self.expect(0, &["Git hooks deploy complete."], &["error:", "Not deployed: "])
    }

    /// Asserts that it failed with this exit status and printed an error.
    #[track_caller]
    pub fn fails(self, status: i32) -> Reported<'a> {
        self.expect(status, &["Git hooks deploy complete."], &["error:"])
    }

    #[track_caller]
    fn expect(self, status: i32, without: &[&str], with: &[&str]) -> Reported<'a> {
        let output = &self.output;
        assert_eq!(self.status.code(), Some(status), "{}\n{output}", self.status);
        assert!(!output.contains("panicked at"), "{output}");
        let told = Reported { sandbox: self.sandbox, output: self.output };
        let lines = told.lines();
        let has = |start: &&str| lines.iter().any(|line| line.starts_with(*start));
        for start in without {
            assert!(!has(start), "a line begins with `{start}`:\n{}", told.output);
        }
        for start in with {
            assert!(has(start), "no line begins with `{start}`:\n{}", told.output);
        }
        told
    }
}

impl<'a> Reported<'a> {
    /// Returns the output unchanged.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Returns the program's own normalized lines. For a push, these are the `remote:` lines.
    pub fn lines(&self) -> Vec<String> {
        let is_push = self.output.lines().any(|line| line.starts_with("remote: "));
        self.output
            .split(['\n', '\r'])
            .filter_map(|line| if is_push { line.strip_prefix("remote: ") } else { Some(line) })
            .map(|line| normalize(self.sandbox.normalize_paths(line).trim_end()))
            .filter(|line| !line.is_empty())
            .collect()
    }

    /// Asserts that exactly this line was printed.
    #[track_caller]
    pub fn says(self, line: &str) -> Self {
        assert!(self.lines().iter().any(|said| said == line), "nobody said `{line}`:\n{}", self.output);
        self
    }

    /// Asserts that exactly these lines were printed, in this order.
    #[track_caller]
    pub fn says_only(self, lines: &[&str]) -> Self {
        assert_eq!(self.lines(), lines, "\n{}", self.output);
        self
    }

    /// Asserts that no line contains this text.
    #[track_caller]
    pub fn never_says(self, text: &str) -> Self {
        assert!(!self.output.contains(text), "`{text}` was said:\n{}", self.output);
        self
    }

    /// Asserts that the live release contains this file.
    #[track_caller]
    pub fn serves(self, path: &str, content: &str) -> Self {
        self.sandbox.serves(path, content);
        self
    }

    /// Asserts that the live release matches `git checkout` of a revision in the clone.
    #[track_caller]
    pub fn serves_checkout(self, revision: &str) -> Self {
        self.sandbox.serves_checkout(revision);
        self
    }

    /// Asserts that no release is live.
    #[track_caller]
    pub fn serves_nothing(self) -> Self {
        self.sandbox.serves_nothing();
        self
    }

    /// Returns the sandbox, to continue with it.
    pub fn and(&self) -> &'a Sandbox {
        self.sandbox
    }
}
