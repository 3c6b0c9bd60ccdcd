//! The session that a command runs in: a fresh one, which shares nothing with the caller's.
//!
//! A child process with the caller's controlling terminal could read what an administrator types, and with
//! `TIOCSTI` type commands into the administrator's shell. One with the caller's session keyring could read its
//! keys. So both are left before privileges are dropped, and before any file of the deploy user is read. No
//! child process has to do it, because the deploy user could trace the child until it had.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt, parent_id};
use std::process::{Child, Command, ExitStatus};

use keyutils_raw::{KEY_SPEC_SESSION_KEYRING, keyctl_get_keyring_id, keyctl_join_session_keyring};
use nix::errno::Errno;
use nix::unistd::{Uid, getpid, getsid, setsid};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::error::{Error, Result};

/// This program, even if another one has replaced its file.
const OURSELVES: &str = "/proc/self/exe";

/// The environment variable by which the child recognizes the parent that waits for it.
const PARENT: &str = "BLUEGREEN_PARENT";

/// The process that runs the command.
#[derive(Debug, PartialEq, Eq)]
pub enum Runner {
    /// This process.
    Ourselves,
    /// A child process, which has exited with this status.
    Child(u8),
}

/// Leaves the caller's terminal and keyring, for a command of the server. Only root, and callers with a
/// terminal, have something to leave: a hook that git runs over ssh does not.
pub fn leave_callers(arguments: &[OsString]) -> Result<Runner> {
    let is_needed = Uid::effective().is_root() || has_terminal();
    let runner = leave_terminal(arguments)?;
    if is_needed && runner == Runner::Ourselves {
        leave_keyring().map_err(Error::io("leave", "the session keyring"))?;
    }
    Ok(runner)
}

/// Leaves the caller's terminal, if it has one, and root's session in any case. A process that leads a process
/// group, as a shell's jobs do, cannot start a session: a child process does, and runs the command.
pub fn leave_terminal(arguments: &[OsString]) -> Result<Runner> {
    let has_terminal = has_terminal();
    if !has_terminal && !Uid::effective().is_root() {
        return Ok(Runner::Ourselves);
    }
    let failed = Error::io("start a session with", OURSELVES);
    match setsid() {
        Ok(_) => {}
        // Without a terminal, a session of our own is as good as a fresh one.
        Err(Errno::EPERM) if !has_terminal && getsid(None) == Ok(getpid()) => {}
        Err(Errno::EPERM) => return run_in_child(arguments).map(Runner::Child).map_err(failed),
        Err(error) => return Err(failed(error.into())),
    }
    stop_with_parent().map_err(failed)?;
    Ok(Runner::Ourselves)
}

/// Requests TERM for the moment at which the parent that waits for us is killed, so that we do not go on without
/// anybody who could interrupt us. The kernel forgets the request when the user changes.
pub fn stop_with_parent() -> io::Result<()> {
    let parent = std::env::var(PARENT).ok().and_then(|parent| parent.parse().ok());
    if parent == Some(parent_id()) {
        set_parent_process_death_signal(Some(Signal::TERM))?;
    }
    Ok(())
}

/// Returns whether we have a controlling terminal, or could have one: only this error rules it out.
fn has_terminal() -> bool {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    !matches!(rustix::fs::open("/dev/tty", flags, Mode::empty()), Err(rustix::io::Errno::NXIO))
}

/// Replaces the session keyring by an empty one. A kernel without keys, or a sandbox that refuses keyctl(2), keeps
/// our child processes from all keys, too.
fn leave_keyring() -> io::Result<()> {
    match keyctl_join_session_keyring(None) {
        Err(error) if keyctl_get_keyring_id(KEY_SPEC_SESSION_KEYRING, false).is_ok() => {
            Err(io::Error::from_raw_os_error(error.0))
        }
        _ => Ok(()),
    }
}

/// Runs this program again in a child process that leads no process group, and passes signals on. Returns its
/// exit status; if a signal killed it, the same signal kills us.
fn run_in_child(arguments: &[OsString]) -> io::Result<u8> {
    let Some((name, rest)) = arguments.split_first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let passed_on = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
    let mut signals = Signals::new(passed_on.iter().chain(&[SIGCHLD, SIGCONT, SIGTSTP]))?;
    #[expect(clippy::disallowed_methods, reason = "it is this program")]
    let mut command = Command::new(OURSELVES);
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

/// Signals a child that has not been reaped. One that has exited meanwhile needs no signal.
fn pass_on(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Returns an exit status, or ends this process as the child was ended.
fn exit_as(status: ExitStatus) -> u8 {
    let signal = status.signal().unwrap_or_default();
    if signal != 0 {
        let _ = emulate_default_handler(signal);
    }
    status.code().unwrap_or(128 + signal).try_into().unwrap_or(1)
}
