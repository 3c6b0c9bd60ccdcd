//! Leaves the caller's terminal and keyring.
//!
//! A child process with the caller's controlling terminal could read an administrator's input, and use `TIOCSTI` to type
//! commands into the administrator's shell. One with the caller's session keyring could read its keys. The program therefore
//! leaves both before it drops privileges and before it reads any file of the deploy user. A child process that leaves them
//! itself could be traced by the deploy user until then.

use std::ffi::OsString;
use std::io;

use keyutils_raw::{KEY_SPEC_SESSION_KEYRING, keyctl_get_keyring_id, keyctl_join_session_keyring};
use nix::unistd::Uid;

use crate::command::session::{Runner, has_terminal, leave_terminal};
use crate::error::{Error, Result};

/// Leaves the caller's terminal and keyring, for a command on a server. Only root and callers with a terminal have something
/// to leave; a hook that git runs over ssh does not.
pub fn leave_callers(arguments: &[OsString]) -> Result<Runner> {
    let is_needed = Uid::effective().is_root() || has_terminal();
    let runner = leave_terminal(arguments)?;
    if is_needed && runner == Runner::Ourselves {
        leave_keyring().map_err(Error::io("leave", "the session keyring"))?;
    }
    Ok(runner)
}

/// Replaces the session keyring with an empty one. Failing with a kernel without keys, or in a sandbox that forbids keyctl(2),
/// is harmless, because child processes cannot read keys either.
fn leave_keyring() -> io::Result<()> {
    match keyctl_join_session_keyring(None) {
        Err(error) if keyctl_get_keyring_id(KEY_SPEC_SESSION_KEYRING, false).is_ok() => {
            Err(io::Error::from_raw_os_error(error.0))
        }
        _ => Ok(()),
    }
}
