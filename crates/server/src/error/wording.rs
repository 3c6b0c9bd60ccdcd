//! Formatting of values in error messages.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bluegreen_text::{printable, shell_word};
use nix::unistd::{Uid, User};

use super::admin::{change_mode, give_away};

pub(super) fn place(file: &Path, line: usize) -> String {
    let file = printable(file);
    if line == 0 { file } else { format!("{file}:{line}") }
}

/// Returns what a verb of the helper does to the application.
pub(super) fn controlled(verb: &str) -> &str {
    if verb == "live" { "switch" } else { verb }
}

/// Returns the current user's login name, for a command that an administrator runs.
pub(super) fn user() -> String {
    let uid = Uid::effective();
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// Returns the command that grants the current user write access to a path, or to its nearest existing ancestor.
pub(super) fn grant(path: &Path) -> String {
    let found = path.ancestors().find_map(|path| Some((path, path.symlink_metadata().ok()?)));
    let Some((path, found)) = found else { return format!("`ls -ld {}`", shell_word(path)) };
    let is_ours = found.uid() == Uid::effective().as_raw();
    if is_ours { change_mode("u+rwX", path) } else { give_away("-h", path) }
}
