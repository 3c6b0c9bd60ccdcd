//! Holds a site's lock as another deployment would.

use std::fs::File;
use std::io::Write;

use super::Sandbox;

/// A site's lock, released on drop.
#[must_use = "dropping it gives the lock back"]
pub struct HeldLock(File);

impl HeldLock {
    /// Takes the lock on behalf of a deployment by alice. The site must have been deployed to before.
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
        // A child that another test is starting has inherited the descriptor until it executes its program.
        self.0.unlock().unwrap();
    }
}
