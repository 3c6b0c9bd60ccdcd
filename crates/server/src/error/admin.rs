//! Commands in hints for an administrator, who may run them as root.
//!
//! If the repository's owner can replace a component of a path, a command that runs as root would follow the owner's
//! symlink. Such a command runs as the owner, who is the current user, or is not printed at all.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bluegreen_text::{printable, shell_word};
use nix::unistd::{Uid, User};

/// Returns the login name of the repository's owner.
fn owner() -> String {
    let uid = Uid::effective();
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("'#{uid}'"), |user| user.name)
}

/// Returns a command that runs as the repository's owner, in backticks. Its paths must be quoted ([`shell_word`]).
#[must_use]
pub fn as_owner(command: &str) -> String {
    format!("`sudo -u {} {command}`", owner())
}

/// Returns the command that gives a path to the repository's owner. The options are `-h`, or `-hR` for a directory with
/// its contents.
#[must_use]
pub fn give_away(options: &str, path: &Path) -> String {
    let (owner, shown) = (owner(), shell_word(path));
    // With -h, replacing the last component does no harm.
    match path.parent().and_then(Path::parent) {
        Some(above) if is_roots(above) => format!("`sudo chown {options} {owner} {shown}`"),
        _ => format!("let {owner} own `{}`", printable(path)),
    }
}

/// Returns the command that changes the mode of a path.
#[must_use]
pub fn change_mode(mode: &str, path: &Path) -> String {
    let shown = shell_word(path);
    if is_roots(path) {
        format!("`sudo chmod {mode} {shown}`")
    } else {
        as_owner(&format!("chmod {mode} {shown}"))
    }
}

/// Returns the command that creates a directory for the repository's owner.
pub(super) fn create(path: &Path) -> String {
    match path.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok()) {
        Some(above) if is_roots(above) => format!("`sudo install -d -o {} {}`", owner(), shell_word(path)),
        _ => as_owner(&format!("mkdir -p {}", shell_word(path))),
    }
}

/// Returns whether only root can change which file a path refers to.
fn is_roots(path: &Path) -> bool {
    path.ancestors().all(|at| {
        at.symlink_metadata()
            .is_ok_and(|found| found.is_dir() && found.uid() == 0 && found.mode() & 0o022 == 0)
    })
}
