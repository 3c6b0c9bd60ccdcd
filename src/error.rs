//! The errors of commands, which include those of the client and of the server: hints and exit statuses.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::panel_error::PanelError;
use crate::server_error::{ServerError, is_reported};
use bluegreen_client as client;
use bluegreen_process::signals::Cancelled;
use bluegreen_protocol::role::Role;
use bluegreen_text::explain::{Explain, IoError};
use bluegreen_text::{printable, reason, shell_word};

/// The result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid arguments or standard input.
    #[error("{0}")]
    Usage(String),
    /// No repository was named, and the working directory is not one.
    #[error("no repository found")]
    NoRepository,
    /// No repository was named, and the installer has set up several on this server.
    #[error("this server has several repositories: name one with `-C`")]
    NameRepository(Vec<PathBuf>),
    /// The current user may not search the path.
    #[error("cannot open the repository `{}`: permission denied", printable(.0))]
    ClosedRepository(PathBuf),
    /// The named path is not a repository.
    #[error("`{}` is not a git repository", printable(.0))]
    NotARepository(PathBuf),
    /// A login to the deploy account, which has no shell but only these commands.
    #[error("this account has no shell: it accepts `git push`, `git fetch`, and some commands")]
    NoShell(&'static [&'static str]),
    /// The command does not run over ssh.
    #[error("this account does not run `{}`", printable(.command))]
    NotOverSsh {
        command: String,
        /// The commands that run over ssh.
        commands: &'static [&'static str],
    },
    /// `promote` on a server without a front end of its own.
    #[error("this server has no front end that this account may switch")]
    NoFrontEnd,
    /// A config for the front end that comes from a client.
    #[error("this account uses the front end's own config")]
    FrontEndConfig,
    /// A command that the role of the key does not include.
    #[error("the role `{role}` of this key does not include `{}`", printable(.command))]
    NotInRole { role: Role, command: String },
    /// A forced command of `authorized_keys` with a role that does not exist.
    #[error("this key has the unknown role `{}`", printable(.0))]
    UnknownRole(String),
    /// The account has several repositories, and the client named none.
    #[error("this account has several repositories")]
    SeveralRepositories(Vec<String>),
    /// The named repository is not one of the account's.
    #[error("unknown repository `{}`", printable(.named))]
    UnknownRepository {
        named: PathBuf,
        /// The names of the account's repositories.
        there: Vec<String>,
    },
    /// Users other than the owner can change the path: the path, its owner, the component, and the other user.
    #[error("root cannot work in `{}`, which is owned by {}: `{}` {}", printable(.0), .1, printable(.2), foreign(.3.as_deref()))]
    ForeignPath(PathBuf, String, PathBuf, Option<String>),
    /// Files cannot be written to the directory.
    #[error("cannot write files to `{}`: {}", printable(.0), reason(.1))]
    InvalidDirectory(PathBuf, io::Error),
    /// git-shell could not be started.
    #[error("cannot run `git`: {}", reason(.0))]
    GitMissing(io::Error),
    /// git does not recognize the revision.
    #[error("unknown revision `{}`", printable(.0))]
    UnknownRevision(String),
    /// The release has no log, or there is no log at all.
    #[error("{}", no_log(.0.as_deref()))]
    NoLog(Option<String>),
    /// The process did not stop within the timeout.
    #[error("{holder} is still running after {}", humantime::format_duration(*.waited))]
    StillRunning {
        /// The holder of the lock.
        holder: String,
        /// The time that the program waited.
        waited: Duration,
    },
    /// The deployment completed before it could be cancelled.
    #[error("the deployment finished before it could be cancelled: {0}")]
    TooLate(String),
    /// The branch does not exist.
    #[error("branch `{0}` does not exist")]
    NoBranch(String),
    /// `check` found problems and has printed them.
    #[error("{0} found")]
    Unhealthy(String),
    /// `push`, `public`, or `promote` failed.
    #[error(transparent)]
    Client(client::Error),
    /// The panel does not start.
    #[error(transparent)]
    Panel(#[from] PanelError),
    /// A confirmation is needed, and standard input is not a terminal.
    #[error("cannot ask for confirmation: standard input is not a terminal")]
    NoTerminal,
    /// The error was already printed.
    #[error("{0}")]
    Reported(Box<Error>),
    /// The repository, the site, or a deployment failed.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl From<IoError> for Error {
    fn from(error: IoError) -> Self {
        Self::Server(error.into())
    }
}

impl From<Cancelled> for Error {
    fn from(cancelled: Cancelled) -> Self {
        Self::Server(cancelled.into())
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Cancelled => Cancelled.into(),
            client::Error::Io(error) => error.into(),
            error => Self::Client(error),
        }
    }
}

impl Error {
    /// Wraps an error of the system with a verb and a path.
    pub fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let add = IoError::on(verb, path);
        move |source| add(source).into()
    }

    /// Returns whether the error was already printed.
    #[must_use]
    pub fn is_reported(&self) -> bool {
        match self {
            Self::Reported(_) => true,
            Self::Server(error) => is_reported(error),
            _ => false,
        }
    }
}

impl Explain for Error {
    /// Returns one action for the reader, a line without a full stop. The match is exhaustive, so that no new variant lacks a
    /// hint by accident.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage(_) => "run `bluegreen --help`".into(),
            Self::NoRepository => {
                "run it on a server, as in `ssh deploy@blue status`, or name the bare repository with `-C`".into()
            }
            Self::NotARepository(_) => {
                "name the bare repository, as in `bluegreen -C /home/deploy/sample_app status`".into()
            }
            Self::NameRepository(paths) => {
                let named = |path: &PathBuf| format!("`bluegreen -C {} status`", shell_word(path));
                format!("run {}", paths.iter().map(named).collect::<Vec<_>>().join(" or "))
            }
            Self::ClosedRepository(path) => {
                format!("run it as the repository's owner: `sudo bluegreen -C {} ...`", shell_word(path))
            }
            Self::NoShell(commands) | Self::NotOverSsh { commands, .. } => {
                // A promotion runs `hold`, and people do not.
                let commands: Vec<_> = commands.iter().filter(|name| **name != "hold").copied().collect();
                format!("run one of {}, as in `ssh deploy@blue status`", commands.join(", "))
            }
            Self::NoFrontEnd => {
                "run `bluegreen promote` in your clone; only a server with `install.sh --pair` has it as a command"
                    .into()
            }
            Self::FrontEndConfig => "leave out `--config` and `--trust`".into(),
            Self::NotInRole { .. } | Self::UnknownRole(_) => {
                "the administrator of the server changes roles with `install.sh --role NAME=ROLE`".into()
            }
            Self::SeveralRepositories(names) => {
                format!("name one of them ({}), as in `status -C {}`", names.join(", "), names[0])
            }
            Self::UnknownRepository { there, .. } => format!("name one of {}", there.join(", ")),
            Self::ForeignPath(_, _, at, None) => format!("`chmod go-w {}`", shell_word(at)),
            Self::ForeignPath(.., Some(other)) => {
                format!(
                    "run it as {other}: `sudo -u {other} bluegreen ...`; or use a path that only its owner can modify"
                )
            }
            Self::InvalidDirectory(..) => "name a new or empty directory that you can write to".into(),
            Self::GitMissing(_) => "install git: `sudo apt-get install git`".into(),
            Self::UnknownRevision(_) => {
                "name a branch, a tag, or a commit that was pushed to this server".into()
            }
            Self::NoLog(_) => "only deployments with `[steps]` in bluegreen.toml write a log".into(),
            Self::StillRunning { .. } => "run `bluegreen status` to see what it is doing".into(),
            Self::NoBranch(_) => "push it first".into(),
            Self::NoTerminal => "add `--yes`".into(),
            Self::Client(error) => return error.hint(),
            Self::Panel(error) => return error.hint(),
            Self::Server(error) => return error.hint(),
            Self::Reported(error) => return error.hint(),
            Self::TooLate(_) | Self::Unhealthy(_) => return None,
        };
        Some(hint)
    }

    /// Returns the exit status: 1, 2, or 3, as listed in docs/howto/operate.md.
    fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::NoRepository
            | Self::NoShell(_)
            | Self::NotOverSsh { .. }
            | Self::NoFrontEnd
            | Self::FrontEndConfig
            | Self::NotInRole { .. }
            | Self::UnknownRole(_)
            | Self::SeveralRepositories(_)
            | Self::UnknownRepository { .. }
            | Self::NotARepository(_)
            | Self::NameRepository(_)
            | Self::ClosedRepository(_)
            | Self::ForeignPath(..)
            | Self::NoTerminal => 2,
            Self::Client(error) => error.exit_status(),
            Self::Panel(error) => error.exit_status(),
            Self::Server(error) => error.exit_status(),
            Self::Reported(error) => error.exit_status(),
            _ => 1,
        }
    }
}

fn foreign(owner: Option<&str>) -> String {
    owner.map_or_else(|| "is writable by other users".into(), |name| format!("is owned by {name}"))
}

fn no_log(release: Option<&str>) -> String {
    release.map_or_else(|| "no log yet".into(), |name| format!("release {name} has no log"))
}
