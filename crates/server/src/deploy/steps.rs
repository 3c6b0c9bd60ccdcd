//! Runs a release's steps: each with `sh -c` in the release's directory, with a minimal environment.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

use bluegreen_text::{seconds, timestamp};
use nix::unistd::{Uid, User};

use crate::config::{Phase, Step};
use crate::deploy::context::DeployContext;
use crate::deploy::failure;
use crate::error::{Error, Result};
use crate::pusher::message::Message;
use crate::pusher::output::Output;
use crate::release::ReleaseName;
use crate::site::logs;
use crate::site::{LockedSite, Site};
use bluegreen_process::signals::Stop;
use bluegreen_process::{self as process, End};

/// The `PATH` of steps, independent of the caller's. `[env]` may replace it.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The steps of one release.
#[derive(Debug)]
pub struct Steps<'a> {
    server: &'a DeployContext<'a>,
    site: &'a LockedSite,
    release: &'a ReleaseName,
    /// The release that was live before, if any.
    previous: Option<&'a ReleaseName>,
}

impl<'a> Steps<'a> {
    /// Creates the steps of a release that has its final path and its record.
    #[must_use]
    pub fn new(
        server: &'a DeployContext<'a>,
        site: &'a LockedSite,
        release: &'a ReleaseName,
        previous: Option<&'a ReleaseName>,
    ) -> Self {
        Self { server, site, release, previous }
    }

    /// Runs the steps of a phase until one fails.
    pub fn run(&self, phase: Phase, stop: Option<&Stop>) -> Result<()> {
        let steps = self.server.config.steps.of(phase);
        if steps.is_empty() {
            return Ok(());
        }
        let log = self.open_log();
        steps.iter().try_for_each(|step| self.run_step(phase, step, stop, log.as_ref()))
    }

    /// Runs the build steps until one fails, except for those whose outputs `restore` has restored.
    pub fn build(&self, restore: impl Fn(&Step) -> Result<bool>) -> Result<()> {
        let steps = self.server.config.steps.of(Phase::Build);
        let log = if steps.is_empty() { None } else { self.open_log() };
        steps.iter().try_for_each(|step| {
            self.server.timing.begin(format!("build: {}", step.name));
            if restore(step)? {
                let time = timestamp(SystemTime::now());
                note(log.as_ref(), format_args!("--- {time} build: {}: unchanged", step.name));
                return Ok(());
            }
            self.run_step(Phase::Build, step, Some(self.server.stop()), log.as_ref())
        })
    }

    fn open_log(&self) -> Option<File> {
        let log = logs::open(self.site, self.release);
        if let Err(error) = &log {
            self.server.report.warning(Message::LogBroken(error));
        }
        log.ok()
    }

    fn run_step(&self, phase: Phase, step: &Step, stop: Option<&Stop>, log: Option<&File>) -> Result<()> {
        let failed = |how| self.failed(step, how);
        run_line(
            self.server,
            self.site,
            (&phase.to_string(), step),
            &mut self.command(step),
            stop,
            log,
            failed,
        )
    }

    fn failed(&self, step: &Step, how: String) -> Error {
        let hint = failure::hint(
            step,
            &how,
            &self.server.config.steps,
            &self.server.name,
            self.server.caller.is_gate,
        );
        Error::Step { name: step.name.clone(), how, hint }
    }

    fn command(&self, step: &Step) -> Command {
        let commit = self.site.release(self.release).ok().and_then(|release| release.record);
        let previous = self.previous.map(ToString::to_string).unwrap_or_default();
        let mut command = shell(self.server, step);
        command
            .current_dir(self.site.release_path(self.release))
            .env("BLUEGREEN_RELEASE", self.release.to_string())
            .env("BLUEGREEN_COMMIT", commit.map_or_else(String::new, |record| record.commit.to_string()))
            .env("BLUEGREEN_PREVIOUS", previous)
            .env("BLUEGREEN_SOCKET", self.site.socket(self.release).ok().flatten().unwrap_or_default());
        command
    }
}

/// Runs a step of a phase by its command; `failed` creates the error if it fails.
pub(super) fn run_line(
    server: &DeployContext,
    site: &LockedSite,
    (phase, step): (&str, &Step),
    command: &mut Command,
    stop: Option<&Stop>,
    log: Option<&File>,
    failed: impl Fn(String) -> Error,
) -> Result<()> {
    let (report, name) = (server.report, &step.name);
    stop.map_or(Ok(()), Stop::check)?;
    let label = format!("{phase}: {name}");
    site.phase(&label);
    server.timing.begin(label);
    report.line(Message::Step { phase, name });
    note(log, format_args!("--- {} {phase}: {}", timestamp(SystemTime::now()), step.line()));
    let (started, mut output) = (Instant::now(), Output::new(report, log, "  "));
    let end = process::run(command, step.timeout, stop, |bytes| output.take(bytes));
    output.end();
    let result = match end.map_err(|error| not_started(command, error))? {
        End::Cancelled => Err(Error::Cancelled),
        end => how(end, step).map_or(Ok(()), |how| Err(failed(how))),
    };
    let outcome = result.as_ref().err().map_or_else(|| "done".into(), ToString::to_string);
    note(log, format_args!("--- {outcome}, {}", seconds(started.elapsed())));
    result
}

/// Creates the error for a shell that did not start. Without its working directory, the system reports the shell as missing.
fn not_started(command: &Command, error: std::io::Error) -> Error {
    let is_missing = |dir: &&Path| error.kind() == ErrorKind::NotFound && !dir.exists();
    match command.get_current_dir().filter(is_missing) {
        Some(dir) => Error::io("enter", dir)(error),
        None => Error::io("run", "/bin/sh")(error),
    }
}

/// Prepares a shell command of the config, with the site's directory and the environment that all such commands share.
pub(super) fn shell(server: &DeployContext, step: &Step) -> Command {
    let user = User::from_uid(Uid::effective()).ok().flatten();
    let (home, login) =
        user.map_or_else(|| (PathBuf::from("/"), String::new()), |user| (user.dir, user.name));
    let site = &server.config.site.root;
    let mut command = process::command("/bin/sh");
    command
        .args(["-c", &step.run])
        .current_dir(site)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", home)
        .env("USER", &login)
        .env("LOGNAME", &login)
        .env("LANG", "C.UTF-8")
        .env("TMPDIR", "/tmp")
        .envs(server.config.env.iter())
        .env("BLUEGREEN_BRANCH", &server.config.branch)
        .env("BLUEGREEN_SERVER", &server.name)
        .env("BLUEGREEN_SITE", site)
        .env(
            "BLUEGREEN_PUBLIC",
            Site::open(&server.config.site).map_or("unknown", |site| site.public_word()),
        );
    command
}

/// Appends a line of this program to a log. Errors are ignored, for example on a full disk.
pub(super) fn note(log: Option<&File>, line: std::fmt::Arguments) {
    if let Some(mut log) = log {
        let _ = log.write_all(format!("{line}\n").as_bytes());
    }
}

/// Describes how a shell command failed; `None` if it succeeded.
pub(super) fn how(end: End, step: &Step) -> Option<String> {
    let status = match end {
        End::Exited(status) if status.success() => return None,
        End::Exited(status) => status,
        End::TimedOut => {
            let limit = humantime::format_duration(step.timeout);
            return Some(format!("timed out after {limit}"));
        }
        End::Cancelled => return Some("was cancelled".into()),
    };
    Some(match (status.code(), status.signal()) {
        (Some(code), _) => {
            let meaning = failure::meaning(&step.run, code).map(|meaning| format!(": {meaning}"));
            format!("exited with status {code}{}", meaning.unwrap_or_default())
        }
        (None, Some(signal)) => {
            let name =
                nix::sys::signal::Signal::try_from(signal).map_or("a signal", |signal| signal.as_str());
            format!("was killed by {name}")
        }
        (None, None) => "failed".into(),
    })
}
