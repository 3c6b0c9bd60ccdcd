//! A path walk: opens a path one component at a time, and records each component that users other than root can change.
//!
//! Root must not resolve a path twice, because the owner of a directory in it can replace an entry in between. Each
//! component is therefore opened with `O_NOFOLLOW`, and its owner and the target of a symlink are read from the descriptor.
//! The program works on the last descriptor.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::unistd::Uid;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};

use crate::error::{Error, Result};
use bluegreen_git::login_name;

/// The maximum number of symlinks in a path, as in the kernel.
const MAX_SYMLINKS: usize = 40;

const STICKY: u32 = 0o1000;
/// The bits of a mode that let others than the owner write.
pub const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A path that was walked to its last component.
#[derive(Debug)]
pub struct PathWalk {
    path: PathBuf,
    end: OwnedFd,
    stat: Stat,
    /// The components that users other than root can change.
    weak: Vec<Weak>,
}

/// A component that users other than root can change.
#[derive(Debug)]
struct Weak {
    path: PathBuf,
    /// Its owner; root if it is root's and writable by others.
    owner: Uid,
}

impl PathWalk {
    /// Walks from the root directory to an absolute path, following symlinks.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut at = PathBuf::from("/");
        let end = openat(rustix::fs::CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&end)?;
        let mut walk = Self { path: path.into(), end, stat, weak: Vec::new() };
        walk.record_if_weak(&at, None);
        let mut links = 0;
        let mut left = components(path);
        while let Some(name) = left.pop() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = openat(&walk.end, name.as_os_str(), flags, Mode::empty())?;
            let parent = std::mem::replace(&mut walk.stat, fstat(&next)?);
            let here = at.join(&name);
            walk.record_if_weak(&here, Some(&parent));
            if FileType::from_raw_mode(walk.stat.st_mode) == FileType::Symlink {
                links += 1;
                if links > MAX_SYMLINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let target =
                    PathBuf::from(OsString::from_vec(readlinkat(&next, "", Vec::new())?.into_bytes()));
                left.extend(components(&target));
                walk.stat = parent;
                if target.is_absolute() {
                    walk.end = openat(&walk.end, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                    walk.stat = fstat(&walk.end)?;
                    at = PathBuf::from("/");
                }
            } else {
                walk.end = next;
                at = here;
            }
        }
        Ok(walk)
    }

    /// Records the component if users other than root can change it.
    fn record_if_weak(&mut self, path: &Path, parent: Option<&Stat>) {
        let stat = &self.stat;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let is_sticky = |stat: &Stat| stat.st_mode & STICKY != 0;
        // In a sticky directory such as /tmp, other users cannot replace root's files. But they can hard-link
        // one of root's symlinks into it, or mount a file system of their own there.
        let is_planted = parent.is_some_and(|parent| {
            parent.st_mode & WRITABLE_BY_OTHERS != 0 && (is_link || parent.st_dev != stat.st_dev)
        });
        let is_open = !is_link && stat.st_mode & WRITABLE_BY_OTHERS != 0 && !is_sticky(stat);
        if stat.st_uid != 0 || is_planted || is_open {
            self.weak.push(Weak { path: path.into(), owner: Uid::from_raw(stat.st_uid) });
        }
    }

    /// Returns the descriptor of the last component, opened with `O_PATH`.
    pub fn end(&self) -> &OwnedFd {
        &self.end
    }

    /// Returns whether the last component is a directory that contains this name.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        statat(&self.end, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Returns the owner of the last component if the path can be trusted: root only if no other user can change any component,
    /// another user only if every component is owned by that user or root.
    pub fn owner(&self) -> Result<Uid> {
        let owner = Uid::from_raw(self.stat.st_uid);
        let is_foreign = |weak: &&Weak| owner.is_root() || !(weak.owner == owner || weak.owner.is_root());
        self.weak.iter().find(is_foreign).map_or(Ok(owner), |weak| Err(self.foreign(weak)))
    }

    /// Refuses a path that users other than root can change.
    pub fn refuse_others(&self) -> Result<()> {
        self.weak.first().map_or(Ok(()), |weak| Err(self.foreign(weak)))
    }

    fn foreign(&self, weak: &Weak) -> Error {
        let other = Some(weak.owner).filter(|owner| !owner.is_root()).map(login_name);
        let owner = login_name(Uid::from_raw(self.stat.st_uid));
        Error::ForeignPath(self.path.clone(), owner, weak.path.clone(), other)
    }
}

/// Returns the components of a path without its leading `/`, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::from_bytes(b"..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.rev().map(OsStr::to_owned).collect()
}
