//! Which signals reach the program.

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::setsid;

/// Lets a hook outlive the client that it answers: once the ref has moved, a lost connection or an
/// impatient Ctrl-C must not stop the deployment half-way. git (from 2.54 on) passes on to its hooks
/// what it is sent itself. A blocked signal stays pending for good; the programs that we start begin
/// with none blocked, as the standard library sees to.
pub fn outlive_the_client() {
    // Fails where the program leads its process group already, which then is its own.
    let _ = setsid();
    let mut client = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGPIPE] {
        client.add(signal);
    }
    if let Err(error) = client.thread_block() {
        log::warn!("cannot block signals: {error}");
    }
}
