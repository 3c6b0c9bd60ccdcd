//! The hint and the exit status of each error.

use std::path::PathBuf;

use bluegreen_text::explain::Explain;
use bluegreen_text::printable;

use crate::error::Error;

/// The hint for an application that does not start.
const APP: &str =
    "the application must listen on the path in `$SOCKET`; `bluegreen log --app` shows its output";

impl Explain for Error {
    /// One thing that the reader can do, a line without a full stop. The match names every variant, so that a
    /// new one does not go without a hint by accident.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage(_) => "`bluegreen --help` shows what it takes".into(),
            Self::NoRepository
            | Self::NotARepository(_)
            | Self::NameRepository(_)
            | Self::ClosedRepository(_)
            | Self::NoShell(_)
            | Self::NotOverSsh { .. }
            | Self::SeveralRepositories(_)
            | Self::UnknownRepository { .. }
            | Self::NotOwner { .. }
            | Self::ForeignPath(..)
            | Self::ConfigUnsafe { .. } => return self.access_hint(),
            Self::UnfitDirectory(..) => "name a new or an empty directory, where you may write".into(),
            Self::AppControl { .. } | Self::AppUnhealthy { .. } => APP.into(),
            Self::GitMissing(_) => "install git: `apt-get install git`".into(),
            Self::Object(_) => "check the repository with `git fsck`, then push again".into(),
            Self::LinkOutside { .. } => {
                "remove the link, or set `symlinks = \"any\"` in bluegreen.toml".into()
            }
            Self::Submodules(_) => "set `submodules = \"warn\"` or \"fetch\" in bluegreen.toml".into(),
            Self::Lfs { .. } => {
                "push them with `git lfs push --all <remote>`, or set `lfs = \"warn\"` in bluegreen.toml to deploy pointers"
                    .into()
            }
            Self::Limit { key, .. } => format!("raise `{key}` in bluegreen.toml if this is meant"),
            Self::NoSpace { .. } => "free some space, or lower `keep` in bluegreen.toml".into(),
            Self::SharedMissing(path) => {
                let (dir, path) = (path.parent().unwrap_or(path), printable(path));
                format!("make it on the server: `mkdir -p {0} && $EDITOR {path}`", printable(dir))
            }
            Self::SharedKind { path, .. } => {
                format!(
                    "move it away: `mv {0} {0}.old`, or change `[shared]` in bluegreen.toml",
                    printable(path)
                )
            }
            Self::SharedInTheWay { .. } => {
                "remove it from the commit, or change `[shared]` in bluegreen.toml".into()
            }
            Self::NoSite(path) => {
                format!(
                    "make it and give it to the repository's owner: `install -d -o OWNER {}`",
                    printable(path)
                )
            }
            Self::CurrentOccupied { path, .. } => {
                format!("move it away: `mv {0} {0}.old`, then push again", printable(path))
            }
            Self::ReleasesLink { path, target } => {
                format!("mount the disk there instead: `rm {0} && mkdir {0} && mount --bind {1} {0}`", printable(path), printable(target))
            }
            Self::Mounted { mount, .. } => format!("`umount {}` if it is not needed there", printable(mount)),
            Self::Replaced(_) => "let the steps of bluegreen.toml leave `$PWD` where it is".into(),
            Self::ReplacedSince(name) => {
                format!("go back to it all the same: `bluegreen rollback {name}`; or make a fresh release: `bluegreen deploy REVISION`")
            }
            Self::Locked { .. } | Self::StillRunning { .. } => "`bluegreen status` shows what it is doing".into(),
            Self::InStep(_) => "let the step exit with a status other than 0: then the previous release stays live, or becomes live again".into(),
            Self::NoRelease(_) | Self::UnfitRelease { .. } | Self::NoOlderRelease => {
                "`bluegreen releases` shows what there is".into()
            }
            Self::Step { server, .. } => {
                format!("fix it and push again, or run `bluegreen deploy` on {server}")
            }
            Self::ConversionTimeout(_) => {
                "look at the filters that attributes name, or raise `filter-timeout` in bluegreen.toml".into()
            }
            Self::NoLog(_) => "a release has a log when its config has steps".into(),
            Self::Public(_) => "push to the other side and promote it, or deploy here all the same: `git push -o public`".into(),
            Self::PromoteConfig { hint, .. } => hint.clone(),
            Self::NoTerminal => "add `--yes`".into(),
            Self::Client(error) => return error.hint(),
            Self::RefMoved(_) => "fetch, then push again".into(),
            Self::UnknownRevision(_) => "name a branch, a tag or a commit that was pushed to this server".into(),
            Self::NoBranch(_) => "push it first".into(),
            Self::Tree { .. } => "take the path out of the commit, then push again".into(),
            Self::Conversion(_) => "fix the filter or the attribute, then push again".into(),
            Self::Submodule { .. } => {
                "fix it, or leave submodules empty: `submodules = \"warn\"` in bluegreen.toml".into()
            }
            Self::Io(error) => return error.hint(),
            Self::AfterFlip(error) | Self::Reported(error) | Self::WentBack(error, _) => return error.hint(),
            Self::Config { .. }
            | Self::Git { .. }
            | Self::Unverified(_)
            | Self::CutOff(_)
            | Self::TooLate(_)
            | Self::PushRefused(_)
            | Self::Unhealthy(_)
            | Self::HoldLost
            | Self::Cancelled => return None,
        };
        Some(hint)
    }

    /// The exit status for this error: 1, 2 or 3, as docs/howto/operate.md lists them.
    fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::NoRepository
            | Self::NoShell(_)
            | Self::NotOverSsh { .. }
            | Self::SeveralRepositories(_)
            | Self::UnknownRepository { .. }
            | Self::NotARepository(_)
            | Self::NameRepository(_)
            | Self::ClosedRepository(_)
            | Self::NotOwner { .. }
            | Self::ForeignPath(..)
            | Self::Config { .. }
            | Self::PromoteConfig { .. }
            | Self::NoTerminal
            | Self::ConfigUnsafe { .. } => 2,
            Self::AfterFlip(_) => 3,
            Self::Client(error) => error.exit_status(),
            Self::Reported(error) => error.exit_status(),
            _ => 1,
        }
    }
}

impl Error {
    /// The hint of an error that keeps the program from opening the repository.
    fn access_hint(&self) -> Option<String> {
        Some(match self {
            Self::NoRepository | Self::NotARepository(_) => "name the bare repository with `-C`".into(),
            Self::NameRepository(paths) => {
                let named = |path: &PathBuf| format!("`bluegreen -C {} status`", printable(path));
                format!("run {}", paths.iter().map(named).collect::<Vec<_>>().join(" or "))
            }
            Self::ClosedRepository(path) => {
                format!("run it as the repository's owner: `sudo bluegreen -C {} ...`", printable(path))
            }
            Self::NoShell(commands) | Self::NotOverSsh { commands, .. } => {
                format!("it runs {}, as in `ssh deploy@blue status`", commands.join(", "))
            }
            Self::SeveralRepositories(names) => {
                format!("name one of them ({}), as in `status -C {}`", names.join(", "), names[0])
            }
            Self::UnknownRepository { there, .. } => format!("it has {}", there.join(", ")),
            Self::NotOwner { owner, .. } => format!("run it as {owner}: `sudo -u {owner} bluegreen ...`"),
            Self::ForeignPath(_, _, at, None) => format!("`chmod go-w {}`", printable(at)),
            Self::ForeignPath(.., Some(other)) => {
                format!(
                    "run it as {other}: `sudo -u {other} bluegreen ...`; or name a path that is the owner's alone"
                )
            }
            Self::ConfigUnsafe { file, .. } => {
                format!(
                    "it holds commands: `chmod go-w {0}`, and let the repository's owner own it",
                    printable(file)
                )
            }
            _ => return None,
        })
    }
}
