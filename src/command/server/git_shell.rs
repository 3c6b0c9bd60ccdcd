//! Pushes and fetches over ssh, which the login shell passes to git-shell.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::execvpe;

use crate::error::Error;
use bluegreen_protocol::role::{Role, VARIABLE};

/// The git commands that run over ssh, with a space or a dash after `git`.
const GIT_VERBS: [&str; 3] = ["receive-pack", "upload-pack", "upload-archive"];

/// Returns the command of git that a line runs, without `git`.
pub fn verb(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("git").and_then(|rest| rest.strip_prefix(['-', ' ']));
    rest.and_then(|rest| rest.split(' ').next()).filter(|verb| GIT_VERBS.contains(verb))
}

/// Returns the repository that a command of git names, if it does not exist. git's own message names no other one.
pub fn unknown_repository(line: &str) -> Option<PathBuf> {
    let named = shlex::split(line)?.into_iter().next_back()?;
    // git expands `~user`, and completes a name with `.git`.
    let may_exist = |path: &str| Path::new(path).try_exists().unwrap_or(true);
    let is_unknown = !named.starts_with('~') && !may_exist(&named) && !may_exist(&format!("{named}.git"));
    is_unknown.then(|| named.into())
}

/// Replaces this process with git-shell, which parses the line itself and runs only git's own programs. Returns only if that
/// fails.
pub fn run(line: &str, role: Role) -> Error {
    let words = ["git-shell", "-c", line].map(CString::new);
    let words: Vec<CString> = words.into_iter().flatten().collect();
    let inherited = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
    let role = (role != Role::All).then(|| (VARIABLE.into(), role.name().into()));
    let variable = |(name, value): (OsString, OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    let variables: Vec<CString> = inherited.chain(role).filter_map(variable).collect();
    match execvpe(c"git-shell", &words, &variables) {
        Ok(never) => match never {},
        Err(error) => Error::GitMissing(error.into()),
    }
}
