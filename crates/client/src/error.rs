//! Errors of `push`, `public`, and `promote`: what failed at a server, at the switch, or at the public address.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bluegreen_process::signals::Cancelled;
use bluegreen_text::explain::{Explain, IoError};
use bluegreen_text::{reason, shell_word};

/// The result of everything that can fail in the client.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A situation that ends a command of the client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `.promote.toml`, or something that it names, cannot be used.
    #[error("{problem}")]
    Config {
        /// The file and the problem.
        problem: String,
        /// One thing that the reader can do.
        hint: String,
    },
    /// A system call on a path failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The operator or the system has requested a stop.
    #[error("cancelled")]
    Cancelled,
    /// A promotion that went back: the reason, and the problem of the side that is public again, if it has one.
    #[error("{0}")]
    WentBack(Box<Error>, Option<String>),
    /// The new side is public, or the commit is live, but something failed afterwards.
    #[error("{0}")]
    Afterwards(Box<Error>),
    /// A program could not be started, or its output could not be read.
    #[error("cannot run `{program}`: {}", reason(.source))]
    Run {
        program: String,
        /// The system's error.
        source: io::Error,
    },
    /// ssh could not connect.
    #[error("cannot reach `{url}` by ssh: {reason}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// ssh's own reason.
        reason: String,
        /// One thing that the reader can do.
        hint: String,
    },
    /// A server did not respond, but `--force` would do without it.
    #[error("{0}")]
    CanBeLeftOut(Box<Error>),
    /// The server has another host key than before.
    #[error("cannot reach `{url}` by ssh: the host key of {host} changed")]
    HostKey {
        /// The server's address.
        url: String,
        /// The host, as ssh-keygen takes it.
        host: String,
    },
    /// A command failed on a server.
    #[error("`bluegreen {command}` failed on `{url}`: {how}")]
    Command {
        /// The server's address.
        url: String,
        command: &'static str,
        /// "exited with status 1: ..."
        how: String,
        /// The command that shows the problem.
        try_it: String,
    },
    /// A server sent something that this program does not send.
    #[error("invalid response from `{url}`: {problem}")]
    Response {
        /// The server's address.
        url: String,
        problem: String,
    },
    /// Something runs on a server.
    #[error("`{url}` is busy: {holder}")]
    Busy {
        /// The server's address.
        url: String,
        /// The holder of its lock.
        holder: String,
    },
    /// A server has no live release.
    #[error("`{url}` serves no release")]
    NothingLive {
        /// The server's address.
        url: String,
        side: String,
    },
    /// The servers of a side differ.
    #[error("the servers of {side} serve different commits: {commits}")]
    DifferentCommits {
        side: String,
        /// Two servers and their commits.
        commits: String,
    },
    /// The live release of a server failed its verification.
    #[error("the live release of `{url}` failed its verification")]
    Unverified {
        /// The server's address.
        url: String,
        side: String,
    },
    /// No side is public, and none was named.
    #[error("no side is public yet")]
    NoPublicSide,
    /// The front end shows a side that the config does not have.
    #[error("`{0}` is public, but it is not a side of `.promote.toml`")]
    UnknownPublicSide(String),
    /// The state changed between the plan and the lock.
    #[error("{0} in the meantime")]
    Changed(String),
    /// A lock could not be taken, or was lost.
    #[error("`{url}` {how}")]
    Hold {
        /// The server's address.
        url: String,
        /// "cannot be locked: ..."
        how: String,
    },
    /// `enter` or `leave` failed on a server.
    #[error("`{command}` of `[public]` failed on `{url}`: {how}")]
    Role {
        /// The server's address.
        url: String,
        /// "enter" or "leave"
        command: &'static str,
        /// "step `x` exited with status 1"
        how: String,
        /// The command that shows the output.
        try_it: String,
    },
    /// A server of the side is unhealthy.
    #[error("{path} of `{url}` at {address} {how}")]
    Unhealthy {
        /// The path that was checked.
        path: String,
        /// The server's address.
        url: String,
        /// Host and port of its web server.
        address: String,
        /// "returned 500"
        how: String,
        /// The command that shows the problem.
        try_it: String,
    },
    /// A command of `[check]` failed for a server.
    #[error("`{command}` for `{url}` {how}")]
    CheckCommand {
        command: String,
        /// The server's address.
        url: String,
        /// "exited with status 1: ..."
        how: String,
        /// The variables that it was run with, as a shell takes them.
        variables: String,
    },
    /// A command of `[watch]` failed.
    #[error("`{command}` {how}")]
    WatchCommand {
        command: String,
        /// "exited with status 1: ..."
        how: String,
    },
    /// The responses at the public address take too long.
    #[error("{slow} of {requests} responses took longer than {} ms, the limit of `p99`", .limit.as_millis())]
    Slow {
        /// The responses that took longer.
        slow: u64,
        /// All responses so far.
        requests: u64,
        limit: Duration,
    },
    /// The switch failed.
    #[error("the switch's `{command}` {how}")]
    Switch {
        /// "set green"
        command: String,
        /// "exited with status 1: ..."
        how: String,
        /// The switch's own hint.
        hint: Option<String>,
    },
    /// The switch reported success, but the front end shows another side.
    #[error("the switch reported success, but the front end shows {0}")]
    NotSwitched(String),
    /// A canary cannot be run, or cannot be judged.
    #[error("{problem}")]
    Canary {
        /// The problem.
        problem: String,
        /// One thing that the reader can do.
        hint: &'static str,
    },
    /// Requests to the public address failed.
    #[error("{0}")]
    Watch(String),
    /// Requests to the public address could not be sent.
    #[error("cannot watch {url}: {source}")]
    CannotWatch {
        /// The public address.
        url: String,
        /// The reason.
        source: Box<Error>,
    },
    /// Only the other side responds at the public address.
    #[error("no server of {side} responds at {url}, only the other side does")]
    WrongSide {
        /// The side that should respond.
        side: String,
        /// The public address.
        url: String,
    },
    /// Not every server has its mark.
    #[error("{0}: not every server has recorded which side is public")]
    Marks(String),
    /// A program of the clone is not trusted.
    #[error("{0}")]
    Untrusted(String),
    /// A folder could not be committed.
    #[error("cannot {what}: {why}")]
    Folder {
        /// "store the files"
        what: String,
        why: String,
    },
    /// A push failed at some servers.
    #[error("{problem}")]
    Push {
        /// "1 of 3 servers of blue failed"
        problem: String,
        side: String,
    },
    /// A server is locked by an operator.
    #[error("`{url}` is {lock}{more}")]
    Frozen {
        /// The server's address.
        url: String,
        side: String,
        /// "locked by ..."
        lock: String,
        /// " (and 2 more servers)"
        more: String,
    },
    /// A side could not be locked, or not be unlocked, at some servers.
    #[error("{problem}")]
    LockSide {
        /// "cannot lock 1 of 3 servers of blue"
        problem: String,
        /// "lock" or "unlock"
        command: &'static str,
        side: String,
    },
    /// The program itself failed.
    #[error("internal error: {0}")]
    Internal(String),
    /// The lock of a server was not free in time.
    #[error("`{url}` is still busy after {}{holder}", humantime::format_duration(*.waited))]
    StillBusy {
        /// The server's address.
        url: String,
        /// ": a deployment by ..."
        holder: String,
        /// The time that the client waited.
        waited: Duration,
    },
}

impl Error {
    /// Wraps an error of the system with a verb and a path.
    pub fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let add = IoError::on(verb, path);
        move |source| Self::Io(add(source))
    }
}

impl From<Cancelled> for Error {
    fn from(Cancelled: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl Error {
    /// Returns whether the connection to a server ended, or nothing came in time.
    #[must_use]
    pub fn is_connection_lost(&self) -> bool {
        matches!(self, Self::Hold { .. } | Self::Unreachable { .. } | Self::Response { .. })
    }
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io(error) => return error.hint(),
            Self::WentBack(error, _) | Self::Afterwards(error) => return error.hint(),
            Self::Cancelled => return None,
            Self::Run { program, source } => return run_hint(program, source),
            Self::Config { hint, .. } | Self::Unreachable { hint, .. } => hint.clone(),
            Self::CanBeLeftOut(error) => {
                let hint = error.hint().map(|hint| format!("{hint}; ")).unwrap_or_default();
                format!("{hint}`--force` promotes without it")
            }
            Self::HostKey { host, .. } => {
                format!("if you expect a new host key: `ssh-keygen -R {host}`, then connect once to accept it")
            }
            Self::Command { try_it, .. } => format!("run {try_it}"),
            Self::Response { .. } => "install the same version of bluegreen on all servers".into(),
            Self::Busy { .. } | Self::StillBusy { .. } => "wait until it has finished, then promote again".into(),
            Self::NothingLive { side, .. } => format!("deploy to it first: `bluegreen push {side}`"),
            Self::DifferentCommits { side, .. } => {
                format!("deploy one commit to all of them: `bluegreen push {side}`")
            }
            Self::Unverified { side, .. } => {
                format!("fix it and `bluegreen push {side}`, or promote it as it is with `--force`")
            }
            Self::NoPublicSide | Self::UnknownPublicSide(_) => "name the side: `bluegreen promote SIDE`".into(),
            Self::Changed(_) | Self::Hold { .. } => "see `bluegreen public`, then promote again".into(),
            Self::Role { try_it, .. } => format!("see the output with {try_it}, then promote again"),
            Self::Unhealthy { try_it, .. } => {
                format!("see the reason with {try_it}, or promote it as it is with `--force`")
            }
            Self::CheckCommand { command, variables, .. } => format!(
                "see the reason with `{variables} sh -c {}`, or promote it as it is with `--force`",
                shlex::try_quote(command).unwrap_or_default()
            ),
            Self::WatchCommand { .. } => {
                "see the logs of that side, and run the command by hand to see what it prints".into()
            }
            Self::Slow { .. } => {
                "see the logs of that side, or raise `p99` in .promote.toml if such response times are acceptable".into()
            }
            Self::Switch { hint, .. } => {
                hint.clone().unwrap_or_else(|| "run the switch by hand, as docs/reference/switches.md shows".into())
            }
            Self::Canary { hint, .. } => (*hint).into(),
            Self::NotSwitched(_) => {
                "check whether something else changes it, and run the switch by hand, as docs/reference/switches.md shows".into()
            }
            Self::Watch(_) => {
                "see the logs of that side, or raise `tolerate` in .promote.toml if such failures are acceptable".into()
            }
            Self::CannotWatch { source, .. } => return source.hint(),
            Self::WrongSide { .. } => {
                "check whether something other than the switch sends visitors to a side".into()
            }
            Self::Marks(_) => "run `bluegreen public`, which corrects the marks".into(),
            Self::Untrusted(_) => {
                "read it, then run the command again with `--trust`, which is remembered for this clone".into()
            }
            Self::Folder { .. } => "fix it, then push again: nothing but objects was added to the clone".into(),
            Self::Push { side, .. } => {
                format!("fix it, then `bluegreen push {side}` again: nothing is pushed twice")
            }
            Self::Frozen { side, .. } => {
                format!("wait until the lock ends, or run `bluegreen unlock --side {side}`, then promote again")
            }
            Self::LockSide { command, side, .. } => {
                format!("fix it, then run `bluegreen {command} --side {side}` again: the other servers stay as they are")
            }
            Self::Internal(_) => "report it, with what is printed above".into(),
        };
        Some(hint)
    }

    fn exit_status(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::Untrusted(_) => 2,
            Self::Afterwards(_) => 3,
            _ => 1,
        }
    }
}

fn run_hint(program: &str, error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied if program.contains('/') => {
            Some(format!("it must exist and be executable: `ls -l {}`", shell_word(program)))
        }
        io::ErrorKind::NotFound => {
            let package = if program == "ssh" { "openssh-client" } else { program };
            Some(format!("install it: `apt-get install {package}`"))
        }
        io::ErrorKind::WouldBlock => Some("this user has reached its limit of processes: `ulimit -u`".into()),
        _ => None,
    }
}
