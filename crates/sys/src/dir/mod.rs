//! Directories as file descriptors, and changes to the names in them.
//!
//! Every write, rename, and removal in a site goes through [`Dir`] and never follows a symlink: paths are opened one
//! component at a time, or by one call that refuses symlinks. Exchanging a directory for a symlink cannot redirect them.

mod mounts;
mod remove;

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

use self::mounts::Mount;

const OPEN_DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);
/// A file that must not exist yet, not even as a dangling symlink.
const CREATE_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub struct Dir(OwnedFd);

/// Device and inode number. Two names refer to the same file or directory if and only if these are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
}

impl Dir {
    /// Opens a directory by its path and follows symlinks. Only for roots that an administrator has configured.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(fs::open(path, OPEN_DIRECTORY, Mode::empty())?))
    }

    /// Opens a subdirectory. Fails with `ELOOP` or `ENOTDIR` if the name is a symlink.
    pub fn open_dir(&self, name: &[u8]) -> io::Result<Self> {
        Ok(Self(fs::openat(&self.0, name, OPEN_DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?))
    }

    /// Opens a subdirectory that is not a mount point. Fails like [`Dir::open_dir`] for a symlink, and with
    /// `CrossesDevices` for a mount.
    pub fn open_inside(&self, name: &[u8]) -> io::Result<Self> {
        self.open_component(name, OPEN_DIRECTORY)
    }

    fn open_component(&self, name: &[u8], flags: OFlags) -> io::Result<Self> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat2(&self.0, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
            // Kernels before 5.6 lack openat2(2), and some sandboxes forbid it.
            Err(Errno::NOSYS | Errno::PERM) => {
                let opened = Self(fs::openat(&self.0, name, flags, Mode::empty())?);
                if Mount::of(&opened)? == Mount::of(self)? { Ok(opened) } else { Err(Errno::XDEV.into()) }
            }
            opened => Ok(Self(opened?)),
        }
    }

    /// Duplicates the descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Creates a directory. Fails if the name exists.
    pub fn create_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(fs::mkdirat(&self.0, name, Mode::from_raw_mode(mode))?)
    }

    /// Opens a directory, and creates it first if it does not exist.
    pub fn open_or_create_dir(&self, name: &[u8], mode: u32) -> io::Result<Self> {
        match self.create_dir(name, mode) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => self.open_dir(name),
        }
    }

    /// Creates a file. Fails if the name exists, even as a dangling symlink.
    pub fn create_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        Ok(fs::openat(&self.0, name, CREATE_FILE, Mode::from_raw_mode(mode))?.into())
    }

    /// Creates a file at any depth below this directory. Fails if the file exists, or if a component of the path is a
    /// symlink or a mount point. Returns [`None`] if the kernel cannot check that in one call.
    pub fn create_file_below(&self, path: &[u8], mode: u32) -> Option<io::Result<File>> {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        match fs::openat2(&self.0, path, CREATE_FILE, Mode::from_raw_mode(mode), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => None,
            created => Some(created.map(File::from).map_err(io::Error::from)),
        }
    }

    /// Opens a file with these flags. Fails for a symlink.
    pub fn open_file(&self, name: &[u8], flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&self.0, name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    /// Opens a regular file like [`Dir::open_file`]. Anything else is an error, and a FIFO does not block.
    pub fn open_regular(&self, name: &[u8], flags: OFlags) -> io::Result<File> {
        let file = self.open_file(name, flags | OFlags::NONBLOCK)?;
        match FileType::from_raw_mode(fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "not a regular file")),
        }
    }

    /// Creates a symlink. Fails if the name exists.
    pub fn create_symlink(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        Ok(fs::symlinkat(target, &self.0, name)?)
    }

    /// Reads the target of a symbolic link.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&self.0, name, Vec::new())?.into_bytes())
    }

    /// Calls `lstat` on a name or a path. Symlinks in all components but the last are followed.
    pub fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Calls `fstat` on this directory.
    pub fn own_stat(&self) -> io::Result<Stat> {
        Ok(fs::fstat(&self.0)?)
    }

    pub fn identity(&self) -> io::Result<Identity> {
        Ok(Identity::from(&self.own_stat()?))
    }

    /// Returns whether inode numbers survive a reboot. Overlayfs and FUSE may assign them when a directory is read.
    pub fn has_lasting_inodes(&self) -> io::Result<bool> {
        const OVERLAYFS: u64 = 0x794c_7630;
        const FUSE: u64 = 0x6573_5546;
        // The magic number has 32 bits; some platforms sign-extend it.
        let kind = fs::fstatfs(&self.0)?.f_type.cast_unsigned() & 0xffff_ffff;
        Ok(kind != OVERLAYFS && kind != FUSE)
    }

    /// Returns the free blocks and inodes of the file system.
    pub fn free_space(&self) -> io::Result<fs::StatVfs> {
        Ok(fs::fstatvfs(&self.0)?)
    }

    /// Returns whether a name exists, whatever its type.
    pub fn contains(&self, name: &[u8]) -> io::Result<bool> {
        match self.stat(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lists all names except `.` and `..`, in no order, with their type if the file system reports it.
    pub fn names(&self) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        // Reading moves the offset, which duplicated descriptors share. Open the directory again.
        let listing = fs::openat(&self.0, c".", OPEN_DIRECTORY, Mode::empty())?;
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut entries = RawDir::new(listing, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_vec(), entry.file_type()));
            }
        }
        Ok(names)
    }

    /// Renames within or between directories, and replaces the target as rename(2) does.
    #[expect(clippy::disallowed_methods, reason = "callers of `Dir` never pass a path that follows symlinks")]
    pub fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> io::Result<()> {
        Ok(fs::renameat(&self.0, name, &to.0, new_name)?)
    }

    /// Renames unless the new name exists. Fails with `AlreadyExists` if it does.
    pub fn rename_new(&self, name: &[u8], to: &Self, new_name: &[u8]) -> io::Result<()> {
        match fs::renameat_with(&self.0, name, &to.0, new_name, fs::RenameFlags::NOREPLACE) {
            // Some file systems, such as NFS, do not support RENAME_NOREPLACE.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.contains(new_name)? => {
                self.rename(name, to, new_name)
            }
            result => Ok(result?),
        }
    }

    /// Flushes the entries of this directory to the disk (`fsync`).
    pub fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.0)?)
    }

    /// Flushes the whole file system to the disk (`syncfs`).
    pub fn sync_file_system(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.0)?)
    }
}

impl From<&Stat> for Identity {
    fn from(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn open_dir_refuses_links() {
        let temp = tempfile::tempdir().unwrap();
        symlink("/", temp.path().join("link")).unwrap();
        assert!(Dir::open(temp.path()).unwrap().open_dir(b"link").is_err());
    }

    #[test]
    fn create_file_below_follows_no_link_and_replaces_no_file() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        std::fs::create_dir_all(temp.path().join("a/b")).unwrap();
        symlink("b", temp.path().join("a/link")).unwrap();
        let create = |path: &str| dir.create_file_below(path.as_bytes(), 0o644).unwrap().map(|_| ());
        assert!(create("a/b/file").is_ok() && temp.path().join("a/b/file").is_file());
        for path in ["a/b/file", "a/link/file", "a/link", "a/missing/file"] {
            assert!(create(path).is_err(), "{path}");
        }
    }
}
