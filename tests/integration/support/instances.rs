//! Instances of an application in a sandbox, without systemd.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::Sandbox;

impl Sandbox {
    /// Writes a helper that starts and stops instances with this command, and returns its path.
    pub fn control(&self, serve: &str) -> PathBuf {
        let control = self.path("control");
        let script =
            include_str!("control.sh").replace("ROOT", self.path("").to_str().unwrap().trim_end_matches('/'));
        std::fs::write(&control, script.replace("SERVE", serve)).unwrap();
        std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o755)).unwrap();
        control
    }

    /// Stops the instances that a test left running. Most tests have none.
    pub(super) fn stop_instances(&self) {
        let control = self.path("control");
        if control.exists() {
            let _ = std::process::Command::new(control).arg("stop-all").output();
        }
    }
}
