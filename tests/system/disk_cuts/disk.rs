//! A disk whose power can be cut: a file system in an image, stored on another file system with instant
//! copies. A copy contains what the disk held at that instant. Mounting the copy simulates the next boot.
//!
//! Everything is mounted in the thread's mount namespace, on a tmpfs, so it disappears with the thread.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// A file system under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Returns the mount options for a copy while the original is mounted.
    fn options(self) -> &'static str {
        if self == Self::Xfs { "loop,nouuid" } else { "loop" }
    }
}

/// A mounted disk, and a directory in memory that a power cut does not affect.
pub struct Disk {
    // Removed on drop, after the mounts in it.
    _temp: tempfile::TempDir,
    base: PathBuf,
    kind: FileSystem,
}

impl Disk {
    /// Creates and mounts a disk for this thread and its children.
    pub fn new(kind: FileSystem, options: &str) -> Self {
        // A user who can write to a parent directory could mount something there, and root would refuse to
        // work in it.
        let temp = tempfile::Builder::new().prefix("bluegreen-power-").tempdir_in("/run").unwrap();
        let disk = Self { base: temp.path().to_owned(), _temp: temp, kind };
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        disk.sh("mount --make-rprivate /
            mount -t tmpfs -o mode=755,size=3g power \"$PWD\"
            cd \"$PWD\"; mkdir pool disk home
            truncate -s 2G pool.img; mkfs.xfs -q -m reflink=1 pool.img; mount -o loop pool.img pool
            truncate -s 400M pool/disk.img");
        disk.sh(&format!("mkfs.{} -q pool/disk.img >made 2>&1 || {{ cat made; exit 1; }}", kind.name()));
        let options = ["loop", options].join(if options.is_empty() { "" } else { "," });
        disk.sh(&format!("mount -t {} -o {options} pool/disk.img disk", kind.name()));
        disk
    }

    /// Returns a path that a power cut does not affect.
    pub fn memory(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// Returns a path on the disk.
    pub fn path(&self, path: &str) -> PathBuf {
        self.base.join("disk").join(path)
    }

    /// Copies the disk's current contents.
    pub fn cut(&self) {
        self.sh("cp --reflink=always pool/disk.img pool/cut.img");
    }

    /// Boots from the copy: mounts it in place of the disk and calls `look`. Other threads keep using the
    /// disk.
    pub fn boot<T: Send>(&self, look: impl FnOnce() -> T + Send) -> T {
        let boot = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let (kind, options) = (self.kind.name(), self.kind.options());
            self.sh(&format!("mount -t {kind} -o {options} pool/cut.img disk"));
            let seen = look();
            // Git may run maintenance in the background after the last push.
            self.sh("n=0; until umount disk 2>busy; do
                    n=$((n + 1)); [ $n -lt 200 ] || { cat busy; exit 1; }; sleep 0.1
                done; rm pool/cut.img");
            seen
        };
        std::thread::scope(|scope| scope.spawn(boot).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn sh(&self, script: &str) {
        let output = Command::new("sh").args(["-ec", script]).current_dir(&self.base).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&said));
    }
}

/// Returns whether this machine supports the file system; skips the test otherwise.
pub fn can_cut_or_skip(kind: FileSystem) -> bool {
    let mkfs = format!("mkfs.{}", kind.name());
    crate::skip::root_or_skip()
        && ["mkfs.xfs", &mkfs].into_iter().all(|program| {
            let found = ["/usr/sbin", "/sbin"].iter().any(|place| Path::new(place).join(program).exists());
            if !found {
                crate::skip::skip(&format!("`{program}` is not installed"));
            }
            found
        })
}
