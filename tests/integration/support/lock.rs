//! Holds a site's lock as another deployment would, for as long as a test needs.

use std::fs::File;
use std::io::Write;

use super::Sandbox;

/// The lock, held until it is dropped.
#[must_use = "dropping it gives the lock back"]
pub struct HeldLock(File);

impl HeldLock {
    /// Takes the lock for a deployment by alice; the site must have been deployed to before.
    pub fn take(sandbox: &Sandbox) -> Self {
        let path = sandbox.site().join(".bluegreen/lock");
        let mut lock = File::options().read(true).write(true).open(path).unwrap();
        lock.lock().unwrap();
        lock.set_len(0).unwrap();
        let holder = serde_json::json!({
            "pid": std::process::id(),
            "action": "deploy",
            "by": { "user": "deploy", "sudo": "alice", "ssh": "192.0.2.7" },
            "since": "2026-11-22T20:15:00Z",
            "phase": "check out",
        });
        lock.write_all(holder.to_string().as_bytes()).unwrap();
        Self(lock)
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        // A child that another test starts just now has the descriptor too, until it runs its program.
        self.0.unlock().unwrap();
    }
}
