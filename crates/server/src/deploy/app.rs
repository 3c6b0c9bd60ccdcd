//! The application's instances: one for each release, each on its own unix socket.
//!
//! An instance must be healthy on its socket before activation. After activation, the previous release's instance
//! drains: it finishes its in-flight requests. A root-owned helper starts and stops instances: `start RELEASE` prints
//! the socket's path, `stop RELEASE` stops the instance immediately, `live RELEASE SECONDS` stops all other instances
//! after that time and moves the worker to this one, or stops it with `idle` as a further word, and `log RELEASE LINES`
//! prints the end of the instance's output.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::config::AppConfig;
use crate::deploy::context::DeployContext;
use crate::deploy::steps::PATH;
use crate::error::{Error, Result};
use crate::pusher::message::Message;
use crate::pusher::output::Output;
use crate::release::{ReleaseName, State};
use crate::site::{Live, LockedSite, logs};
use bluegreen_process::{self as process, End, Limits};

/// The directory of the helpers, one for each application, named after its repository.
const HELPERS: &str = "/usr/local/lib/bluegreen/apps";
/// The directory of the installer's units.
const UNITS: &str = "/etc/systemd/system";
/// The file in `.bluegreen/` that names the release most recently passed to [`App::declare_live`].
const DECLARED: &str = "app";
/// The maximum length of the helper's output, in bytes.
const MAX_OUTPUT: usize = 64 << 10;

/// The timeout of helper commands that do not wait for an instance to stop.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);
/// The timeout of `stop`: longer than systemd's own timeout for an instance.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(120);
/// The timeout of one health check.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two health checks.
const PROBE_INTERVAL: Duration = Duration::from_millis(25);

/// The application of a site.
#[derive(Debug, Clone, Copy)]
pub struct App<'a> {
    server: &'a DeployContext<'a>,
    config: &'a AppConfig,
    site: &'a LockedSite,
}

/// An instance of a release that is not live yet. Dropping this value stops it.
#[derive(Debug)]
#[must_use = "dropping it stops the instance"]
pub struct Started<'a> {
    app: App<'a>,
    release: ReleaseName,
}

impl<'a> App<'a> {
    /// Returns the application of a site; `None` if the config has no `[app]`.
    #[must_use]
    pub fn of(server: &'a DeployContext<'a>, site: &'a LockedSite) -> Option<Self> {
        server.config.app.as_ref().map(|config| Self { server, config, site })
    }

    /// Starts a release's instance unless it is running, and waits until it is healthy.
    pub fn start(self, release: &ReleaseName) -> Result<Started<'a>> {
        let began = Instant::now();
        self.server.phase(self.site, "start");
        let started = Started { app: self, release: release.clone() };
        let printed =
            self.control("start", &[&release.to_string()], self.config.within.max(CONTROL_TIMEOUT))?;
        let socket = PathBuf::from(printed.trim_end());
        self.site.link_socket(release, &socket)?;
        if let Err(error) = self.wait_until_healthy(&socket) {
            self.print_log(release);
            return Err(error);
        }
        self.server.report.line(Message::Healthy(began.elapsed()));
        Ok(started)
    }

    fn wait_until_healthy(self, socket: &Path) -> Result<()> {
        let unhealthy = |how: String| Err(Error::AppUnhealthy { path: self.config.health.clone(), how });
        let deadline = Instant::now() + self.config.within;
        loop {
            self.server.stop().check()?;
            let failed = match probe(socket, &self.config.health) {
                Ok(200..=399) => return Ok(()),
                Ok(status) => format!("responded with status {status}"),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    "got no response: nothing listens on its socket".into()
                }
                Err(error) => format!("got no response: {}", bluegreen_text::reason(&error)),
            };
            // systemd removes the directory when the instance exits.
            if !socket.parent().is_some_and(Path::exists) {
                return unhealthy("got no response: the application exited during its start".into());
            }
            if Instant::now() >= deadline {
                let within = humantime::format_duration(self.config.within);
                return unhealthy(format!("{failed} after {within}"));
            }
            thread::sleep(PROBE_INTERVAL);
        }
    }

    /// Declares a release live: stops all other instances after the drain time, and runs this release's worker. A failure
    /// does not fail the deployment; the next holder of the lock retries.
    pub fn declare_live(self, live: &ReleaseName) {
        let (live, seconds) = (live.to_string(), self.config.drain.as_secs().to_string());
        let declared = self.declare(
            &live,
            &seconds,
            self.site.may_run_jobs() || !has_worker(self.server),
            CONTROL_TIMEOUT,
        );
        let recorded = declared.and_then(|_| self.site.write_state(DECLARED, live.as_bytes()));
        if let Err(error) = recorded {
            self.server.report.warning(error);
        }
    }

    /// Starts the worker of the live release, or stops all workers and waits until they have stopped.
    pub fn move_worker(self, live: &ReleaseName, public: bool) -> Result<()> {
        let (live, seconds) = (live.to_string(), self.config.drain.as_secs().to_string());
        self.declare(&live, &seconds, public, STOP_TIMEOUT).map(|_| ())
    }

    /// Declares a release live, and its worker active or idle.
    fn declare(self, live: &str, seconds: &str, is_active: bool, timeout: Duration) -> Result<String> {
        let words = [live, seconds, "idle"];
        self.control("live", &words[..if is_active { 2 } else { 3 }], timeout)
    }

    /// Stops the instances of interrupted deployments. Must run before a sweep removes their releases.
    pub fn stop_strays(self, live: &Live) -> Result<()> {
        for release in self.site.releases()? {
            let is_unfinished = release.record.is_some_and(|record| record.state == State::Staged);
            if is_unfinished && live.release() != Some(&release.name) && self.site.may_run(&release.name)? {
                self.stop(&release.name);
            }
        }
        Ok(())
    }

    /// Starts the live release's instance if it is not running, for example after a reboot.
    pub fn ensure_live(self, live: &Live) {
        let Live::Release(live) = live else { return };
        match self.site.may_run(live) {
            Ok(true) => {}
            Ok(false) => self.start_again(live),
            Err(error) => self.server.report.warning(error),
        }
    }

    /// Starts the instance of a release that had one. A failure is only printed.
    pub fn start_again(self, release: &ReleaseName) {
        let had_one = self.site.socket(release).map(|socket| socket.is_some());
        let started = had_one.and_then(|had_one| had_one.then(|| self.start(release)).transpose());
        match started {
            Ok(started) => started.into_iter().for_each(Started::keep),
            Err(error) => self.server.report.warning(error),
        }
    }

    /// Declares the live release again if an interrupted run did not.
    pub fn declare_live_if_interrupted(self, live: &Live) -> Result<()> {
        let declared = self.site.read_state(DECLARED)?;
        if let Live::Release(live) = live
            && self.site.socket(live)?.is_some()
            && declared.as_deref() != Some(live.to_string().as_bytes())
        {
            self.declare_live(live);
        }
        Ok(())
    }

    fn stop(self, release: &ReleaseName) {
        if let Err(error) = self.control("stop", &[&release.to_string()], STOP_TIMEOUT) {
            self.server.report.warning(error);
        }
    }

    /// Copies the end of an instance's output to the pusher and to the release's log.
    fn print_log(self, release: &ReleaseName) {
        let Ok(text) = self.control("log", &[&release.to_string(), "20"], CONTROL_TIMEOUT) else { return };
        let log = logs::open(self.site, release);
        let mut output = Output::new(self.server.report, log.as_ref().ok(), "  ");
        output.take(text.as_bytes());
        output.end();
    }

    fn control(self, verb: &'static str, arguments: &[&str], timeout: Duration) -> Result<String> {
        let words = command(self.server, self.config);
        let failed = |how: String| Error::AppControl { verb, command: words.join(" "), how };
        let mut complaint = Vec::new();
        let mut program = prepare(&words);
        program.arg(verb).args(arguments);
        let limits = Limits { timeout, stop: None };
        let ran = process::output(&mut program, b"", limits, MAX_OUTPUT, |bytes| {
            process::keep_end(&mut complaint, bytes);
        });
        let (end, printed) = ran.map_err(|error| failed(bluegreen_text::reason(&error)))?;
        let complaint = String::from_utf8_lossy(&complaint);
        let reason = complaint.trim_end().lines().next_back().map(|line| format!(": {line}"));
        match end {
            End::Exited(status) if status.success() => Ok(String::from_utf8_lossy(&printed).into_owned()),
            End::Exited(status) => Err(failed(format!("{status}{}", reason.unwrap_or_default()))),
            End::TimedOut | End::Cancelled => Err(failed(format!("timed out{}", reason.unwrap_or_default()))),
        }
    }
}

/// Returns whether the application may have a worker, which follows the public side. Only the installer's own helper is
/// known to have none.
#[must_use]
pub fn has_worker(server: &DeployContext) -> bool {
    let Some(config) = &server.config.app else { return false };
    let unit = format!("{UNITS}/bluegreen-worker-{}@.service", name(server));
    config.control.is_some() || Path::new(&unit).exists()
}

/// Returns the application's name: that of the repository.
fn name(server: &DeployContext) -> String {
    let name = server.repository.path().file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".git").unwrap_or(&name).to_owned()
}

/// Returns the command line of the helper.
fn command(server: &DeployContext, config: &AppConfig) -> Vec<String> {
    config
        .control
        .clone()
        .unwrap_or_else(|| vec!["sudo".into(), "-n".into(), format!("{HELPERS}/{}", name(server))])
}

/// Prepares the command that prints an instance's output; `None` if the config has no `[app]`.
#[must_use]
pub fn log_command(server: &DeployContext, release: &ReleaseName, follow: bool) -> Option<Command> {
    let words = command(server, server.config.app.as_ref()?);
    let mut program = prepare(&words);
    program.args(["log", &release.to_string(), "1000"]).args(follow.then_some("--follow"));
    Some(program)
}

fn prepare(words: &[String]) -> Command {
    let mut program = process::command(&words[0]);
    program.args(&words[1..]).current_dir("/").env_clear().env("PATH", PATH);
    program
}

/// Connects to a unix socket without waiting. If its queue is full, connect(2) would otherwise block until the application
/// accepts a connection.
fn connect_now(socket: &Path) -> std::io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&stream, &SocketAddrUnix::new(socket)?) {
        Err(Errno::AGAIN) => return Err(std::io::Error::other("it accepts no connections")),
        connected => connected?,
    }
    let stream = UnixStream::from(stream);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Requests a path over a unix socket, and returns the response's status.
fn probe(socket: &Path, path: &str) -> std::io::Result<u16> {
    let mut stream = connect_now(socket)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    // Only the status line matters: "HTTP/1.1 200".
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| std::str::from_utf8(rest.get(2..)?).ok());
    status.and_then(|status| status.parse().ok()).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

impl Started<'_> {
    /// Keeps the instance running: its release is live.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.app.stop(&self.release);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::channel;

    use bluegreen_sys::parallel::spawn_alone;

    use super::*;

    #[test]
    fn a_health_check_does_not_wait_for_a_full_queue() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        // The queue then has room for one connection.
        rustix::net::listen(&listener, 0).unwrap();
        let _first = UnixStream::connect(&socket).unwrap();
        let (sender, receiver) = channel();
        spawn_alone(move || sender.send(probe(&socket, "/")).unwrap()).unwrap();
        let error = receiver.recv_timeout(Duration::from_secs(20)).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "it accepts no connections");
    }
}
