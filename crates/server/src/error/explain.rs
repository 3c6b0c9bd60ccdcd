//! The hint and exit status of each error.
//!
//! A command that another user must run names that user: a file that root creates in the site would block later
//! deployments.

use std::io::ErrorKind;
use std::path::Path;

use bluegreen_text::explain::Explain;
use bluegreen_text::{printable, shell_word};

use super::admin::{change_mode, create, give_away};
use crate::error::Error;
use crate::error::wording::{grant, user};

/// The hint for an application that does not start. `log --app` would show the live instance.
const APP: &str = "the application must listen on the path in `$SOCKET`, or on `127.0.0.1:$PORT` if it was set up with `--port`; `bluegreen log` shows its output";

impl Explain for Error {
    /// Returns one action for the reader, a line without a full stop. The match is exhaustive, so that no new variant lacks a
    /// hint by accident.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::ConfigUnsafe { file, problem } if problem.contains("writable") => {
                format!("it contains commands: {}", change_mode("go-w", file))
            }
            Self::ConfigUnsafe { file, .. } => {
                format!("it contains commands: {}", give_away("-h", file))
            }
            Self::Request(_) => "install the same version of bluegreen on both machines".into(),
            Self::Protocol(_) => "it runs as a hook of git: run `bluegreen --help`".into(),
            Self::SharedMissing(_)
            | Self::SharedKind { .. }
            | Self::SharedInTheWay { .. }
            | Self::NoSite(_)
            | Self::CurrentOccupied { .. }
            | Self::ReleasesLink { .. }
            | Self::Mounted { .. }
            | Self::NoSpace { .. } => return self.site_hint(),
            Self::AppControl { .. } | Self::AppUnhealthy { .. } => APP.into(),
            Self::Object(_) => "check the repository with `git fsck`, then push again".into(),
            Self::Replaced(_) => "change the steps in bluegreen.toml so that they leave `$PWD` in place".into(),
            // An adopted release has no commit.
            Self::NotShared { release, commit, .. } if commit.bytes().all(|digit| digit == b'0') => {
                format!("run `bluegreen rollback {release}` to use it anyway")
            }
            Self::NotShared { release, commit, .. } => {
                format!("run `bluegreen deploy {commit}` to deploy its commit with the shared directory, or `bluegreen rollback {release}` to use it anyway")
            }
            Self::OwnFiles { release, shared, .. } => {
                format!("move the files to `{}`, then remove the directory `releases/{release}`", printable(shared))
            }
            Self::ReplacedSince(name) => {
                format!("run `bluegreen rollback {name}` to use it anyway, or `bluegreen deploy REVISION` for a fresh release")
            }
            Self::Locked { .. } => "run `bluegreen status` to see what it is doing".into(),
            Self::InStep(_) => "make the step exit with a nonzero status instead: the previous release then stays live, or becomes live again".into(),
            Self::NoRelease(_) | Self::InvalidRelease { .. } | Self::NoOlderRelease => {
                "run `bluegreen releases` to list them".into()
            }
            Self::Public(_) => "push to the other side and promote it, or override with `git push -o public`".into(),
            Self::Frozen { hint, .. } | Self::Step { hint, .. } => hint.clone(),
            Self::AlreadyFrozen { .. } => "run `bluegreen unlock` first, or replace the lock with `--force`".into(),
            Self::DamagedFreeze { .. } => "run `bluegreen unlock` to remove it".into(),
            Self::OldClient(_) => "upgrade bluegreen on the machine that runs `promote`".into(),
            Self::Unverified(_) | Self::Interrupted(_) => "push again, or run `bluegreen deploy` on the server".into(),
            Self::Io(error) if error.source.kind() == ErrorKind::PermissionDenied => grant(&error.path),
            Self::Io(error) => return error.hint(),
            Self::Git(error) => return error.hint(),
            Self::Checkout(error) => return error.hint(),
            Self::AfterActivation(error) | Self::Reported(error) => return error.hint(),
            Self::Config { .. } | Self::HoldLost | Self::Cancelled => return None,
        };
        Some(hint)
    }

    /// Returns the exit status: 1, 2, or 3, as listed in docs/howto/operate.md.
    fn exit_status(&self) -> u8 {
        match self {
            Self::Protocol(_) | Self::Request(_) | Self::Config { .. } | Self::ConfigUnsafe { .. } => 2,
            Self::AfterActivation(_) => 3,
            Self::Reported(error) => error.exit_status(),
            Self::Git(error) => error.exit_status(),
            Self::Checkout(error) => error.exit_status(),
            _ => 1,
        }
    }
}

impl Error {
    /// Returns the hint for an error in the site's directories.
    fn site_hint(&self) -> Option<String> {
        Some(match self {
            Self::SharedMissing(path) => {
                let (dir, path) = (path.parent().unwrap_or(path), shell_word(path));
                let create = format!("mkdir -p {} && ${{EDITOR:-vi}} {path}", shell_word(dir));
                format!("create it on the server: `sudo -u {} sh -c {}`", user(), shell_word(&create))
            }
            Self::SharedKind { path, .. } => {
                format!("move it away: `{}`, or change `[shared]` in bluegreen.toml", move_away(path))
            }
            Self::SharedInTheWay { .. } => {
                "remove it from the commit, or change `[shared]` in bluegreen.toml".into()
            }
            Self::NoSite(path) => {
                format!("create it for the repository's owner: {}", create(path))
            }
            Self::CurrentOccupied { path, .. } => {
                format!("move it away: `{}`, then push again", move_away(path))
            }
            Self::ReleasesLink { .. } => {
                "replace the symlink by a directory, or set `root` of `[site]` to a directory on that disk"
                    .into()
            }
            Self::Mounted { mount, .. } => {
                format!("unmount `{}` if it is not needed there", printable(mount))
            }
            Self::NoSpace { .. } => "free some space, or lower `keep` in bluegreen.toml".into(),
            _ => return None,
        })
    }
}

/// Returns the command that renames a path, as the repository's owner.
fn move_away(path: &Path) -> String {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    format!("sudo -u {} mv -T {} {}", user(), shell_word(path), shell_word(&old))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn paths_in_hints_are_quoted_for_the_shell() {
        let path = PathBuf::from("/nowhere/it's; a $HOME");
        for error in [
            Error::NoSite(path.clone()),
            Error::CurrentOccupied { path: path.clone(), kind: "a file" },
            Error::SharedKind { path: path.clone(), wanted: "file" },
            Error::ConfigUnsafe { file: path.clone(), problem: "is writable by other users".into() },
        ] {
            let hint = error.hint().unwrap();
            let words = shlex::split(hint.split('`').nth(1).unwrap()).unwrap();
            assert!(words.iter().any(|word| Path::new(word) == path), "{hint}");
        }
        // A command in a command.
        let hint = Error::SharedMissing(path.clone()).hint().unwrap();
        let words = shlex::split(hint.split('`').nth(1).unwrap()).unwrap();
        let words = shlex::split(words.last().unwrap()).unwrap();
        assert_eq!(words.last().map(Path::new), Some(&*path), "{hint}");
    }
}
