//! The session that a command runs in: a fresh one, separate from the caller's.

#[cfg_attr(target_os = "linux", path = "session/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "session/portable.rs")]
mod platform;
#[cfg(all(test, target_os = "linux"))]
#[expect(dead_code, reason = "a test that runs all of it would be killed")]
mod portable;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt, parent_id};
use std::process::{Child, Command, ExitStatus};

use nix::errno::Errno;
use nix::unistd::{Uid, getpid, getsid, setsid};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use self::platform::{stop_after, this_program};
use crate::error::{Error, Result};

/// The environment variable that tells the child which parent waits for it.
const PARENT: &str = "BLUEGREEN_PARENT";

/// The process that runs the command.
#[derive(Debug, PartialEq, Eq)]
pub enum Runner {
    /// This process.
    Ourselves,
    /// A child process that exited with this status.
    Child(u8),
}

/// Leaves the caller's terminal, if any, and root's session in any case. A process group leader, such as a shell's job,
/// cannot create a session. A child process then creates one and runs the command.
pub fn leave_terminal(arguments: &[OsString]) -> Result<Runner> {
    let has_terminal = has_terminal();
    if !has_terminal && !Uid::effective().is_root() {
        return Ok(Runner::Ourselves);
    }
    let failed = Error::io("start a session with", this_program());
    match setsid() {
        Ok(_) => {}
        // Without a terminal, an existing session of our own is as good as a fresh one.
        Err(Errno::EPERM) if !has_terminal && getsid(None) == Ok(getpid()) => {}
        Err(Errno::EPERM) => return run_in_child(arguments).map(Runner::Child).map_err(failed),
        Err(error) => return Err(failed(error.into())),
    }
    stop_with_parent().map_err(failed)?;
    Ok(Runner::Ourselves)
}

/// Requests TERM for when the waiting parent is killed, because then nothing else could interrupt this process. On
/// Linux, the kernel drops the request when the user id changes.
pub fn stop_with_parent() -> io::Result<()> {
    let parent = std::env::var(PARENT).ok().and_then(|parent| parent.parse().ok());
    match parent {
        Some(parent) if parent == parent_id() => stop_after(parent),
        _ => Ok(()),
    }
}

/// Returns whether this process may have a controlling terminal: only this error rules it out.
pub fn has_terminal() -> bool {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    !matches!(rustix::fs::open("/dev/tty", flags, Mode::empty()), Err(rustix::io::Errno::NXIO))
}

/// Runs this program again in a child process, which does not lead a process group, and forwards signals. Returns the child's
/// exit status. If a signal killed the child, this process kills itself with the same signal.
fn run_in_child(arguments: &[OsString]) -> io::Result<u8> {
    let Some((name, rest)) = arguments.split_first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let passed_on = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
    let mut signals = Signals::new(passed_on.iter().chain(&[SIGCHLD, SIGCONT, SIGTSTP]))?;
    #[expect(clippy::disallowed_methods, reason = "it is this program")]
    let mut command = Command::new(this_program());
    let mut child = command.arg0(name).args(rest).env(PARENT, getpid().to_string()).spawn()?;
    for signal in signals.forever() {
        match signal {
            SIGCHLD => {
                if let Some(status) = child.try_wait()? {
                    return Ok(exit_as(status));
                }
            }
            // Nothing else can stop the child: its process group has no parent in its session.
            SIGTSTP => {
                pass_on(&child, Signal::STOP);
                emulate_default_handler(SIGTSTP)?;
            }
            _ => {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    pass_on(&child, signal);
                }
            }
        }
    }
    Err(io::ErrorKind::Other.into())
}

/// Signals a child that has not been reaped. It may have exited in the meantime.
fn pass_on(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Returns the child's exit status, or kills this process with the signal that killed the child.
fn exit_as(status: ExitStatus) -> u8 {
    let signal = status.signal().unwrap_or_default();
    if signal != 0 {
        let _ = emulate_default_handler(signal);
    }
    status.code().unwrap_or(128 + signal).try_into().unwrap_or(1)
}
