//! Removes directory trees of any depth, without following symlinks and without crossing mounts.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};

use super::{Dir, Identity, OPEN_DIRECTORY};

/// A parent of the directory that is being emptied. It is not kept open, so a deep tree needs no more descriptors
/// than a flat one.
struct Above {
    identity: Identity,
    /// The names that remain to be removed.
    names: Vec<(Vec<u8>, FileType)>,
    /// The child that is being emptied.
    entered: Vec<u8>,
}

impl Dir {
    /// Removes a file, a symlink, or a directory with its content. Symlinks are not followed. A directory that is not
    /// readable or writable gets mode 0700 first. Fails with `CrossesDevices` or `ResourceBusy` for a mount. Succeeds if
    /// the name does not exist.
    pub fn remove(&self, name: &[u8]) -> io::Result<()> {
        match self.unlink(name, AtFlags::empty()) {
            Err(error) if error.kind() == ErrorKind::IsADirectory => self.remove_tree(name),
            result => result,
        }
    }

    /// Removes a tree depth first. It does not recurse, because a build may leave trees of any depth.
    fn remove_tree(&self, name: &[u8]) -> io::Result<()> {
        let mut above: Vec<Above> = Vec::new();
        let mut dir = self.open_to_empty(name)?;
        let mut names = dir.names()?;
        loop {
            if let Some((name, kind)) = names.pop() {
                if kind == FileType::Directory || dir.is_dir_after_unlink(&name)? {
                    let child = dir.open_to_empty(&name)?;
                    let inside = child.names()?;
                    let names = std::mem::replace(&mut names, inside);
                    above.push(Above { identity: dir.identity()?, names, entered: name });
                    dir = child;
                }
            } else if let Some(parent) = above.pop() {
                dir = dir.parent(parent.identity)?;
                dir.unlink(&parent.entered, AtFlags::REMOVEDIR)?;
                names = parent.names;
            } else {
                return self.unlink(name, AtFlags::REMOVEDIR);
            }
        }
    }

    /// Removes a name unless it is a directory. Returns whether it is one.
    fn is_dir_after_unlink(&self, name: &[u8]) -> io::Result<bool> {
        match self.unlink(name, AtFlags::empty()) {
            Err(error) if error.kind() == ErrorKind::IsADirectory => Ok(true),
            result => result.map(|()| false),
        }
    }

    /// Opens the parent directory. Fails if it is no longer the expected one.
    fn parent(&self, expected: Identity) -> io::Result<Self> {
        let parent = Self(fs::openat(&self.0, c"..", OPEN_DIRECTORY, Mode::empty())?);
        if parent.identity()? == expected {
            return Ok(parent);
        }
        Err(io::Error::other("a directory was moved while it was being removed"))
    }

    /// Opens a directory to be emptied, and changes its mode to 0700 if necessary.
    fn open_to_empty(&self, name: &[u8]) -> io::Result<Self> {
        match self.open_inside(name) {
            Ok(dir) if dir.own_stat()?.st_mode & 0o700 == 0o700 => return Ok(dir),
            Err(error) if error.kind() != ErrorKind::PermissionDenied => return Err(error),
            _ => {}
        }
        // fchmod(2) does not work on a descriptor opened with O_PATH, but chmod(2) on its name in /proc does.
        let path = self.open_component(name, OFlags::PATH | OFlags::DIRECTORY)?;
        let proc = format!("/proc/self/fd/{}", path.0.as_raw_fd());
        fs::chmod(proc, Mode::from_raw_mode(0o700))?;
        Ok(Self(fs::openat(&path.0, c".", OPEN_DIRECTORY, Mode::empty())?))
    }

    #[expect(clippy::disallowed_methods, reason = "`Dir::remove` is the replacement that the lint names")]
    fn unlink(&self, name: &[u8], flags: AtFlags) -> io::Result<()> {
        match fs::unlinkat(&self.0, name, flags) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn remove_never_follows_a_link_and_empties_unreadable_directories() {
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
    fn a_tree_deeper_than_the_descriptor_limit_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        let mut at = root.try_clone().unwrap();
        for level in 0..10_000 {
            at = at.open_or_create_dir(b"down", 0o755).unwrap();
            if level % 100 == 0 {
                at.create_file(b"a", 0o644).unwrap();
                at.create_dir(b"z", 0o755).unwrap();
            }
        }
        drop(at);
        root.remove(b"down").unwrap();
        assert!(root.names().unwrap().is_empty());
    }
}
