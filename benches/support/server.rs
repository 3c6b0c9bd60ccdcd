//! A server with one of the two hooks, and pushes to it as receive-pack runs them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::repository::set_master;
use super::{BLUEGREEN, git, run, said};

/// The hook in the tutorial, which bluegreen replaces.
const BASH_HOOK: &str = r#"#!/bin/bash
while read oldrev newrev ref
do
    if [[ $ref =~ .*/master$ ]];
    then
        echo "Master ref received.  Deploying master branch to $(hostname)..."
        git --work-tree=SITE --git-dir=REPOSITORY checkout -f
        echo "Git hooks deploy complete."
    else
        echo "Ref $ref successfully received.  Doing nothing: only the master branch may be deployed on this server."
    fi
done
"#;

/// A server with one of the two hooks: a repository that shares its objects with `origin`, and a site.
pub struct Server {
    pub repository: PathBuf,
    pub site: PathBuf,
}

impl Server {
    pub fn bluegreen(scratch: &Path, origin: &Path, name: &str, keep: usize) -> Self {
        Self::with_program(Path::new(BLUEGREEN), scratch, origin, name, keep)
    }

    /// Creates a server whose hook is `program`, a build of bluegreen.
    pub fn with_program(program: &Path, scratch: &Path, origin: &Path, name: &str, keep: usize) -> Self {
        let server = Self::new(scratch, origin, name);
        let config =
            format!("server = \"blue\"\n[site]\nroot = \"{}\"\nkeep = {keep}\n", server.site.display());
        fs::write(server.repository.join("bluegreen.toml"), config).unwrap();
        symlink(program, server.repository.join("hooks/post-receive")).unwrap();
        server
    }

    pub fn bash(scratch: &Path, origin: &Path, name: &str) -> Self {
        let server = Self::new(scratch, origin, name);
        let hook = BASH_HOOK
            .replace("SITE", server.site.to_str().unwrap())
            .replace("REPOSITORY", server.repository.to_str().unwrap());
        let path = server.repository.join("hooks/post-receive");
        fs::write(&path, hook).unwrap();
        run(Command::new("chmod").arg("+x").arg(path));
        server
    }

    fn new(scratch: &Path, origin: &Path, name: &str) -> Self {
        let (repository, site) = (scratch.join(format!("{name}.git")), scratch.join(format!("{name}.site")));
        run(Command::new("cp").arg("-rl").arg(origin).arg(&repository));
        fs::remove_dir_all(repository.join("hooks")).unwrap();
        fs::create_dir(repository.join("hooks")).unwrap();
        fs::create_dir(&site).unwrap();
        set_master(&repository, 0);
        Self { repository, site }
    }

    /// Runs the hook as receive-pack does, and returns the duration.
    pub fn hook(&self, line: &str) -> Duration {
        self.hook_with(line, &[])
    }

    fn hook_with(&self, line: &str, options: &[&str]) -> Duration {
        let start = Instant::now();
        let names = (0..).map(|at| format!("GIT_PUSH_OPTION_{at}"));
        let mut hook = Command::new(self.repository.join("hooks/post-receive"))
            .current_dir(&self.repository)
            .env("GIT_DIR", ".")
            .env("GIT_PUSH_OPTION_COUNT", options.len().to_string())
            .envs(names.zip(options))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        hook.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        assert!(hook.wait().unwrap().success());
        start.elapsed()
    }

    /// Moves the branch and runs the hook.
    pub fn push(&self, version: usize) -> Duration {
        self.push_with(&[], version)
    }

    /// Pushes with push options.
    pub fn push_with(&self, options: &[&str], version: usize) -> Duration {
        set_master(&self.repository, version);
        let id = said(git(&self.repository).args(["rev-parse", "refs/heads/master"]));
        self.hook_with(&format!("{} {id} refs/heads/master\n", "0".repeat(40)), options)
    }

    pub fn remove(&self) {
        fs::remove_dir_all(&self.site).unwrap();
        fs::remove_dir_all(&self.repository).unwrap();
    }
}
