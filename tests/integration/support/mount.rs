//! A small file system for a site: full, without inodes, or read-only. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs, unmounted when it is dropped.
#[must_use = "dropping it unmounts the file system"]
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a tmpfs with these options, `size=1m` or `nr_inodes=50`.
    pub fn tmpfs(at: &Path, options: &str) -> Self {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("mode=755,{options}"), "tmpfs"])
            .arg(at));
        Self(at.into())
    }

    /// Shows a directory or a file at another path too.
    pub fn bind(from: &Path, at: &Path) -> Self {
        run(Command::new("mount").arg("--bind").arg(from).arg(at));
        Self(at.into())
    }

    /// Unmounts later what is mounted there already.
    pub fn adopt(at: &Path) -> Self {
        Self(at.into())
    }

    /// Mounts it again with other options, `ro`.
    pub fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
