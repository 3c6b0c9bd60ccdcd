//! Small file systems for sites: full, without inodes, or read-only. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mount, unmounted on drop.
#[must_use = "dropping it unmounts the file system"]
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a tmpfs with these options, such as `size=1m` or `nr_inodes=50`.
    pub fn tmpfs(at: &Path, options: &str) -> Self {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("mode=755,{options}"), "tmpfs"])
            .arg(at));
        Self(at.into())
    }

    /// Bind-mounts a directory or a file at another path.
    pub fn bind(from: &Path, at: &Path) -> Self {
        run(Command::new("mount").arg("--bind").arg(from).arg(at));
        Self(at.into())
    }

    /// Takes over an existing mount, to unmount it on drop.
    pub fn adopt(at: &Path) -> Self {
        Self(at.into())
    }

    /// Remounts with other options, such as `ro`.
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
