//! `push --from`: commits a folder on top of the branch that each server deploys. The folder may be ignored by git.
//!
//! Only objects are added to the clone. The index is a temporary file, the files are read without filters, and no ref is
//! created, so that the clone's index, branches, and work tree stay as they are.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::config::{self, invalid};
use crate::error::{Error, Result};
use crate::program::last_lines;
use crate::remote::Remote;
use bluegreen_git_types::{RUN_NOTHING, is_branch_name};
use bluegreen_process::signals::Stop;
use bluegreen_process::{self as process, End, Limits};
use bluegreen_sys::concurrent;
use bluegreen_text::{printable, reason};

/// The timeout for each git process.
const TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The maximum length of git's output, in bytes: the ids of a few million files.
const MAX_OUTPUT: usize = 256 << 20;

/// The settings that prevent git from running other programs and from removing objects without a ref.
const SETTINGS: [&str; 10] = [
    "-c",
    "core.fsmonitor=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "fetch.writeCommitGraph=false",
    "-c",
    "log.showSignature=false",
];

/// A folder whose files are in the clone's object database.
#[derive(Debug)]
pub struct Folder<'a> {
    /// The number of files and symlinks.
    pub files: usize,
    tree: String,
    source: Source,
    time: u64,
    stop: &'a Stop,
}

/// The commit that the folder was built from.
#[derive(Debug)]
struct Source {
    id: String,
    author: String,
    email: String,
    date: String,
    subject: String,
}

/// The branch of a server, and its tip in the clone's object database.
struct Branch {
    name: String,
    tip: Option<String>,
}

/// A file or symlink of the folder.
struct Entry {
    mode: &'static str,
    /// The path in the folder.
    path: PathBuf,
    /// The file with the content.
    content: PathBuf,
}

impl<'a> Folder<'a> {
    /// Stores the files of a folder, byte by byte.
    pub fn store(folder: &Path, stop: &'a Stop) -> Result<Self> {
        let source = Source::read()?;
        let root = folder.canonicalize().map_err(Error::io("open", folder))?;
        let temporary =
            tempfile::tempdir().map_err(Error::io("create a directory in", std::env::temp_dir()))?;
        let entries = entries(&root, &temporary)?;
        if entries.is_empty() {
            return Err(invalid(format!("`{}` contains no file", printable(folder)), "build it first"));
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let time = now.map_or(0, |time| time.as_secs());
        let mut stored = Self { files: entries.len(), tree: String::new(), source, time, stop };
        stored.tree = stored.write_tree(&entries, &temporary)?;
        Ok(stored)
    }

    fn write_tree(&self, entries: &[Entry], temporary: &TempDir) -> Result<String> {
        let paths: String = entries.iter().map(|entry| quoted(&entry.content)).collect();
        let mut hash = local();
        hash.args(["hash-object", "-w", "--no-filters", "--stdin-paths"]);
        let ids = self.git(&mut hash, paths.as_bytes(), "store the files")?;
        let mut lines = Vec::new();
        for (entry, id) in entries.iter().zip(ids.lines()) {
            lines.extend_from_slice(format!("{} {id}\t", entry.mode).as_bytes());
            lines.extend_from_slice(entry.path.as_os_str().as_bytes());
            lines.push(0);
        }
        let index = temporary.path().join("index");
        let mut update = local();
        update.args(["update-index", "-z", "--index-info"]).env("GIT_INDEX_FILE", &index);
        self.git(&mut update, &lines, "list the files")?;
        let mut write = local();
        write.arg("write-tree").env("GIT_INDEX_FILE", &index);
        self.git(&mut write, b"", "store the directories")
    }

    /// Commits the folder for each server, and returns the refspecs to push, in order. Servers get the same commit if one of
    /// their branches contains the others.
    #[must_use]
    pub fn commit(&self, servers: &[Remote]) -> Vec<Result<String>> {
        let branches = concurrent::map(servers, |server| self.fetch(server));
        let mut tips: Vec<&String> =
            branches.iter().flatten().filter_map(|branch| branch.tip.as_ref()).collect();
        tips.sort_unstable();
        tips.dedup();
        let is_above = |above: &String| tips.iter().all(|tip| *tip == above || is_ancestor(tip, above));
        let common = tips.iter().find(|tip| is_above(tip)).map(|tip| (*tip).clone());
        let refspec = |branch: Result<Branch>| {
            let Branch { name, tip } = branch?;
            let commit = self.commit_on(common.as_ref().or(tip.as_ref()))?;
            Ok(format!("{commit}:refs/heads/{name}"))
        };
        branches.into_iter().map(refspec).collect()
    }

    /// Requests the name of the branch that a server deploys, and fetches its tip without writing a ref.
    fn fetch(&self, server: &Remote) -> Result<Branch> {
        let status = server.status(Some(self.stop))?;
        let (name, tip) = (status.branch, status.tip.map(|tip| tip.to_string()));
        // In a refspec, another text could name a ref of the clone, which the fetch would then write.
        if !is_branch_name(&name) {
            return Err(server.invalid_response(&"it does not name the branch that deploys"));
        }
        if let Some(tip) = &tip
            && !has_commit(tip)
        {
            let mut fetch = server.git();
            fetch.args(SETTINGS).args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"]);
            fetch.args(["--no-recurse-submodules", "--refmap=", "--", &server.url]);
            fetch.arg(format!("refs/heads/{name}"));
            self.git(&mut fetch, b"", &format!("fetch from `{}`", server.url))?;
        }
        Ok(Branch { name, tip })
    }

    /// Commits the folder on top of a parent. Returns the parent if it has the same files.
    fn commit_on(&self, parent: Option<&String>) -> Result<String> {
        if let Some(parent) = parent
            && git(&["rev-parse", "--verify", "--quiet", &format!("{parent}^{{tree}}")]).as_ref()
                == Some(&self.tree)
        {
            return Ok(parent.clone());
        }
        let Source { id, author, email, date, subject } = &self.source;
        let mut commit = local();
        commit.args(["-c", "i18n.commitEncoding=utf-8", "commit-tree", &self.tree, "-F", "-"]);
        commit.args(parent.iter().flat_map(|parent| ["-p", parent.as_str()]));
        commit.env("GIT_AUTHOR_NAME", author).env("GIT_AUTHOR_EMAIL", email).env("GIT_AUTHOR_DATE", date);
        commit.env("GIT_COMMITTER_DATE", format!("{} +0000", self.time));
        if git(&["-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT"]).is_none() {
            // A CI job usually has no configured identity.
            commit.env("GIT_COMMITTER_NAME", author).env("GIT_COMMITTER_EMAIL", email);
        }
        let short = id.get(..12).unwrap_or(id);
        let message = format!("{subject} (built from {short})\n\nBuilt-From: {id}\n");
        self.git(&mut commit, message.as_bytes(), "commit the files")
    }

    /// Runs git, and returns its output. `what` completes the error message "cannot ...".
    fn git(&self, command: &mut Command, input: &[u8], what: &str) -> Result<String> {
        let mut stderr = Vec::new();
        let limits = Limits { timeout: TIMEOUT, stop: Some(self.stop) };
        let complaints = |bytes: &[u8]| process::keep_end(&mut stderr, bytes);
        let failed = |why: String| Error::Folder { what: what.to_owned(), why };
        match process::output(command, input, limits, MAX_OUTPUT, complaints) {
            Err(error) => Err(failed(reason(&error))),
            Ok((End::Cancelled, _)) => Err(Error::Cancelled),
            Ok((End::TimedOut, _)) => Err(failed("git timed out".into())),
            Ok((End::Exited(status), _)) if !status.success() => {
                Err(failed(last_lines(&String::from_utf8_lossy(&stderr), 1).concat()))
            }
            Ok((End::Exited(_), stdout)) => Ok(String::from_utf8_lossy(&stdout).trim_end().to_owned()),
        }
    }
}

impl Source {
    fn read() -> Result<Self> {
        let format = "--format=%H%x00%an%x00%ae%x00%aI%x00%s";
        let text = git(&["log", "-1", "--encoding=UTF-8", format, "HEAD"]);
        let parts: Vec<String> = text.iter().flat_map(|text| text.split('\0').map(str::to_owned)).collect();
        let [id, author, email, date, subject] = <[String; 5]>::try_from(parts)
            .map_err(|_| invalid("the clone has no commit".to_owned(), "commit the sources first"))?;
        Ok(Self { id, author, email, date, subject })
    }
}

/// Lists the files and symlinks of a folder. The target of a symlink is written to a file in `temporary`.
fn entries(root: &Path, temporary: &TempDir) -> Result<Vec<Entry>> {
    let (mut found, mut pending) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = pending.pop() {
        let at = root.join(&folder);
        for entry in fs::read_dir(&at).map_err(Error::io("read", &at))? {
            let entry = entry.map_err(Error::io("read", &at))?;
            let (path, full) = (folder.join(entry.file_name()), entry.path());
            let stat = fs::symlink_metadata(&full).map_err(Error::io("read", &full))?;
            refuse_git(&entry.file_name(), &full)?;
            if stat.is_dir() {
                pending.push(path);
            } else {
                found.push(file(path, full, &stat, temporary, found.len())?);
            }
        }
    }
    Ok(found)
}

fn file(path: PathBuf, full: PathBuf, stat: &Metadata, temporary: &TempDir, number: usize) -> Result<Entry> {
    if stat.is_symlink() {
        let target = fs::read_link(&full).map_err(Error::io("read", &full))?;
        let content = temporary.path().join(format!("link-{number}"));
        let write =
            fs::File::create_new(&content).and_then(|mut file| file.write_all(target.as_os_str().as_bytes()));
        write.map_err(Error::io("write", &content))?;
        return Ok(Entry { mode: "120000", path, content });
    }
    if !stat.is_file() {
        let problem = format!("`{}` is neither a file, a folder, nor a symlink", printable(&full));
        return Err(invalid(problem, "remove it"));
    }
    let mode = if stat.permissions().mode() & 0o100 == 0 { "100644" } else { "100755" };
    Ok(Entry { mode, path, content: full })
}

/// Rejects nested repositories, because git would not store their files.
fn refuse_git(name: &OsStr, path: &Path) -> Result<()> {
    if !name.eq_ignore_ascii_case(".git") {
        return Ok(());
    }
    Err(invalid(format!("the folder contains a git repository: `{}`", printable(path)), "remove its `.git`"))
}

/// Quotes a path as git expects it on standard input, one per line.
fn quoted(path: &Path) -> String {
    let mut text = String::from("\"");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'\\' {
            text.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\{byte:03o}");
        }
    }
    text + "\"\n"
}

fn has_commit(id: &str) -> bool {
    git(&["rev-parse", "--verify", "--quiet", &format!("{id}^{{commit}}")]).is_some()
}

fn is_ancestor(below: &str, above: &str) -> bool {
    git(&["merge-base", below, above]).is_some_and(|base| base == below)
}

fn git(arguments: &[&str]) -> Option<String> {
    config::git(arguments)
}

/// Prepares a git command that only accesses the clone.
fn local() -> Command {
    let mut git = process::command("git");
    git.envs(RUN_NOTHING).args(SETTINGS);
    git
}
