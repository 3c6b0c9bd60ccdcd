//! From name and arguments to a command and its exit status: the only part that reads the environment,
//! the arguments and standard input.

mod adopt;
mod cancel;
mod check;
mod deploy;
mod generate;
mod history;
mod hold;
mod hook;
mod key;
mod log;
pub mod options;
mod promote;
mod public;
mod releases;
mod rollback;
mod shell;
mod status;
pub mod sudoers;
mod table;

use std::cell::{Cell, LazyCell, OnceCell};
use std::ffi::OsString;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use nix::unistd::{Uid, User, initgroups, setgid, setuid};

use crate::cli::{Cli, Command, Generated, Hook};
use crate::config::Config;
use crate::deploy::server::Server;
use crate::error::{Error, Result};
use crate::git::{Repository, git_dir_of, login_name};
use crate::promote::Wish;
use crate::pusher::report::Report;
use crate::site::history::{Actor, Key};

/// Runs the program and gives its exit status.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> u8 {
    // Releases are for the web server to read, whatever the umask of the shell or the ssh session.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let called_as = arguments.first().map(PathBuf::from).unwrap_or_default();
    let (Ok(out), Ok(err)) = (stdout().as_fd().try_clone_to_owned(), stderr().as_fd().try_clone_to_owned())
    else {
        return 1;
    };
    let parsed = match Hook::called_as(&called_as) {
        Some(hook) if arguments.len() == 1 && (called_by_git() || !stdin().is_terminal()) => {
            Ok(Ok(Cli { repository: None, command: Command::Hook { hook } }))
        }
        _ if shell::is_called_as(&called_as) => shell::take(&arguments),
        _ => Ok(Cli::try_parse_from(arguments)),
    };
    let cli = match parsed {
        Ok(Ok(cli)) => cli,
        Ok(Err(error)) => {
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
        Err(error) => {
            Report::new(out, err).error(&error);
            return error.exit_status();
        }
    };
    // The gate's standard output is for git alone.
    let is_gate = matches!(cli.command, Command::Hook { hook: Hook::ProcReceive });
    let out = if is_gate { err.try_clone().unwrap_or(out) } else { out };
    let report = Report::new(out, err);
    let place = Place {
        repository: cli.repository.as_deref(),
        called_as: &called_as,
        for_client: matches!(cli.command, Command::Hook { .. }),
    };
    match dispatch(&cli.command, &place, &report) {
        Ok(()) => 0,
        Err(error) => {
            if !matches!(error, Error::Reported(_)) {
                report.error(&error);
            }
            error.exit_status()
        }
    }
}

fn dispatch(command: &Command, place: &Place, report: &Report) -> Result<()> {
    match command {
        Command::Hook { hook: Hook::PostReceive } => hook::post_receive(place, report),
        Command::Hook { hook: Hook::ProcReceive } => hook::proc_receive(place, report),
        Command::Deploy { revision, dry_run } => {
            deploy::run(&place.open(report)?, revision.as_deref(), *dry_run)
        }
        Command::Rollback { release } => rollback::run(&place.open(report)?, release.as_deref()),
        Command::Adopt => adopt::run(&place.open(report)?),
        Command::Releases(table) => releases::run(&place.open(report)?, table.json),
        Command::Status(table) => status::run(&place.open(report)?, table.json),
        Command::History(table) => history::run(&place.open(report)?, table.json),
        Command::Check(table) => check::run(place, table.json),
        Command::Log { release, follow } => log::run(&place.open(report)?, release.as_deref(), *follow),
        Command::Hold => hold::run(&place.open(report)?),
        Command::Public(options) => public::run(options, report),
        Command::Promote { side, yes, dry_run, force, options } => {
            let wish = Wish { side: side.as_deref(), yes: *yes, dry_run: *dry_run, force: *force };
            promote::run(options, &wish, report)
        }
        Command::Cancel => cancel::run(&place.open(report)?),
        Command::Generate { what: Generated::Sudoers } => generate::sudoers(&place.open(report)?),
        Command::Generate { what: Generated::Settings } => generate::settings(&place.open(report)?),
        Command::Generate { what } => generate::run(*what, &mut Cli::command()),
    }
}

/// The signs by which the repository is found.
struct Place<'a> {
    repository: Option<&'a Path>,
    called_as: &'a Path,
    /// True if the program is a hook.
    for_client: bool,
}

impl Place<'_> {
    /// Opens the repository and its config, as the repository's owner.
    fn open<'r>(&self, report: &'r Report) -> Result<Server<'r>> {
        let invoker = Uid::current();
        // Root reads no file that the environment names.
        let key = if invoker.is_root() { None } else { key::of_connection() };
        let repository = self.repository()?;
        become_owner(&repository)?;
        repository.refuse_foreign()?;
        let config = Config::read(repository.path())?;
        let name = config.server.clone().unwrap_or_else(host_name);
        Ok(Server {
            repository,
            config,
            name,
            actor: LazyCell::new(Box::new(move || actor(invoker, key))),
            report,
            for_client: self.for_client,
            insists: Cell::new(false),
            stop: OnceCell::new(),
        })
    }

    /// The repository: the one that is named, else the one of `GIT_DIR`, else the one whose `hooks/` the
    /// program was called from, else the working directory.
    fn repository(&self) -> Result<Repository> {
        let named =
            self.repository.map(Path::to_path_buf).or_else(|| std::env::var_os("GIT_DIR").map(PathBuf::from));
        if let Some(path) = named {
            return Repository::open(&git_dir_of(&path).unwrap_or(path));
        }
        let hooks =
            self.called_as.parent().filter(|hooks| hooks.file_name().is_some_and(|name| name == "hooks"));
        let candidates = [hooks.and_then(Path::parent), Some(Path::new("."))];
        let found = candidates.into_iter().flatten().find_map(git_dir_of);
        Repository::open(&found.ok_or(Error::NoRepository)?)
    }
}

/// Returns whether git runs the program as a hook: only then does it set `GIT_DIR` and call it by its name.
fn called_by_git() -> bool {
    std::env::var_os("GIT_DIR").is_some()
}

/// Started as root, the program becomes the repository's owner, so that nothing it leaves is root's.
fn become_owner(repository: &Repository) -> Result<()> {
    let owner = repository.owner()?;
    if !Uid::effective().is_root() || owner.is_root() {
        return Ok(());
    }
    let failed = |error: nix::Error| Error::io("become the owner of", repository.path())(error.into());
    let user = User::from_uid(owner).map_err(failed)?.ok_or_else(|| failed(nix::Error::ENOENT))?;
    let name = std::ffi::CString::new(user.name).unwrap_or_default();
    initgroups(&name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(failed)
}

fn actor(invoker: Uid, key: Option<Key>) -> Actor {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Actor {
        user: login_name(invoker),
        sudo: variable("SUDO_USER"),
        ssh: variable("SSH_CONNECTION").and_then(|ends| ends.split(' ').next().map(str::to_owned)),
        key,
    }
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "this server".into(), |name| name.to_string_lossy().into_owned())
}
