//! A directory held by a descriptor, and what is done to the names in it.
//!
//! Everything that writes, renames or removes in a site goes through here: one component at a time
//! and never through a symbolic link, so that nobody who swaps a directory for a link while we work
//! can lead us out of it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, Stat};

const OPEN_DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl Dir {
    /// Opens a directory by path, through links: for the roots that an admin names.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(fs::open(path, OPEN_DIRECTORY, Mode::empty())?))
    }

    /// Opens a directory in this one; a link is refused (`ELOOP` or `ENOTDIR`).
    pub fn open_dir(&self, name: &[u8]) -> io::Result<Self> {
        Ok(Self(fs::openat(&self.0, name, OPEN_DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?))
    }

    /// Another descriptor of the same directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Makes a directory, where there is nothing yet.
    pub fn make_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(fs::mkdirat(&self.0, name, Mode::from_raw_mode(mode))?)
    }

    /// Opens a directory, made before where it is missing.
    pub fn open_or_make_dir(&self, name: &[u8], mode: u32) -> io::Result<Self> {
        match self.make_dir(name, mode) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => self.open_dir(name),
        }
    }

    /// Creates a file, where there is nothing yet, not even a link.
    pub fn create_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Opens a file for reading, with what else `flags` asks for; a link is refused.
    pub fn open_file(&self, name: &[u8], flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&self.0, name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    /// Makes a symbolic link, where there is nothing yet.
    pub fn make_link(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        Ok(fs::symlinkat(target, &self.0, name)?)
    }

    /// Where a symbolic link leads.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&self.0, name, Vec::new())?.into_bytes())
    }

    /// What `lstat` says of a name.
    pub fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// What `fstat` says of this directory.
    pub fn own_stat(&self) -> io::Result<Stat> {
        Ok(fs::fstat(&self.0)?)
    }

    /// Free blocks and inodes of the file system.
    pub fn free_space(&self) -> io::Result<fs::StatVfs> {
        Ok(fs::fstatvfs(&self.0)?)
    }

    /// Whether a name exists, whatever it is.
    pub fn contains(&self, name: &[u8]) -> io::Result<bool> {
        match self.stat(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All names but `.` and `..`, in no order, with their kind where the file system tells it.
    pub fn names(&self) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        // A descriptor of its own, since reading moves the offset that clones share.
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

    /// Renames within or between directories; what is in the way is replaced, as rename(2) does.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> io::Result<()> {
        Ok(fs::renameat(&self.0, name, &to.0, new_name)?)
    }

    /// Renames where nothing is in the way; otherwise `AlreadyExists`.
    pub fn rename_new(&self, name: &[u8], to: &Self, new_name: &[u8]) -> io::Result<()> {
        match fs::renameat_with(&self.0, name, &to.0, new_name, fs::RenameFlags::NOREPLACE) {
            // A file system that cannot promise it, such as NFS.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.contains(new_name)? => {
                self.rename(name, to, new_name)
            }
            result => Ok(result?),
        }
    }

    /// Flushes the names in this directory to the disk.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.0)?)
    }

    /// Flushes the whole file system to the disk.
    pub fn sync_file_system(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.0)?)
    }

    /// Removes a name and all below it, whatever it is. Links are removed, not followed; a
    /// directory that its owner made unreadable is opened up first. Nothing there is fine.
    pub fn remove(&self, name: &[u8]) -> io::Result<()> {
        match self.unlink(name, AtFlags::empty()) {
            Err(error) if error.kind() == ErrorKind::IsADirectory => self.remove_tree(name),
            result => result,
        }
    }

    /// Depth first without recursion: a build may leave trees of any depth.
    fn remove_tree(&self, name: &[u8]) -> io::Result<()> {
        let mut open = vec![(name.to_vec(), self.open_writable(name)?, None::<Vec<(Vec<u8>, FileType)>>)];
        while let Some((_, dir, names)) = open.last_mut() {
            let names = match names {
                Some(names) => names,
                None => names.insert(dir.names()?),
            };
            if let Some((name, kind)) = names.pop() {
                let unlinked = if kind == FileType::Directory {
                    Err(ErrorKind::IsADirectory.into())
                } else {
                    dir.unlink(&name, AtFlags::empty())
                };
                match unlinked {
                    Err(error) if error.kind() == ErrorKind::IsADirectory => {
                        let child = dir.open_writable(&name)?;
                        open.push((name, child, None));
                    }
                    result => result?,
                }
            } else if let Some((name, dir, _)) = open.pop() {
                drop(dir);
                let parent = open.last().map_or(self, |(_, dir, _)| dir);
                parent.unlink(&name, AtFlags::REMOVEDIR)?;
            }
        }
        Ok(())
    }

    /// Opens a directory whose names are to be removed.
    fn open_writable(&self, name: &[u8]) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = fs::openat(&self.0, name, flags, Mode::empty())?;
        if fs::fstat(&path)?.st_mode & 0o700 != 0o700 {
            // A descriptor opened with O_PATH cannot be chmod-ed itself, only by its name in /proc.
            let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&path));
            fs::chmod(proc, Mode::from_raw_mode(0o700))?;
        }
        Ok(Self(fs::openat(&path, c".", OPEN_DIRECTORY, Mode::empty())?))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn unlink(&self, name: &[u8], flags: AtFlags) -> io::Result<()> {
        match fs::unlinkat(&self.0, name, flags) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
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
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn remove_never_follows_a_link_and_opens_what_is_closed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "kept").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let deep = inside.path().join("tree/a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("file"), "").unwrap();
        symlink(outside.path(), deep.join("link")).unwrap();
        std::fs::set_permissions(&deep, std::fs::Permissions::from_mode(0o000)).unwrap();
        let dir = Dir::open(inside.path()).unwrap();
        dir.remove(b"tree").unwrap();
        dir.remove(b"tree").unwrap();
        assert!(dir.names().unwrap().is_empty());
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn open_dir_refuses_links() {
        let temp = tempfile::tempdir().unwrap();
        symlink("/", temp.path().join("link")).unwrap();
        assert!(Dir::open(temp.path()).unwrap().open_dir(b"link").is_err());
    }
}
