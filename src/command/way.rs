//! The way to a path, one component at a time on descriptors, and whose word is taken on it.
//!
//! Root looks at nothing by its name alone: between two look-ups whoever owns a directory on the way can
//! put something else there. So each component is opened without following it, then asked who owns it, and
//! a link is read from its own descriptor. The last descriptor is the one that is worked on.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::unistd::Uid;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};

use crate::error::{Error, Result};
use crate::git::login_name;

/// As many links as the kernel follows on one way.
const LINKS: usize = 40;

const STICKY: u32 = 0o1000;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A path that was walked to its end.
#[derive(Debug)]
pub struct Way {
    path: PathBuf,
    end: OwnedFd,
    stat: Stat,
    /// The components that somebody can change who is not root.
    weak: Vec<Weak>,
}

/// A component that somebody else than root can change.
#[derive(Debug)]
struct Weak {
    path: PathBuf,
    /// Its owner; root where it may be written by others.
    owner: Uid,
}

impl Way {
    /// Walks from the root directory to an absolute path, through links.
    pub fn walk(path: &Path) -> io::Result<Self> {
        let mut at = PathBuf::from("/");
        let end = openat(rustix::fs::CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&end)?;
        let mut way = Self { path: path.into(), end, stat, weak: Vec::new() };
        way.judge(&at, None);
        let mut links = 0;
        let mut left = components(path);
        while let Some(name) = left.pop() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = openat(&way.end, name.as_os_str(), flags, Mode::empty())?;
            let parent = std::mem::replace(&mut way.stat, fstat(&next)?);
            let here = at.join(&name);
            way.judge(&here, Some(&parent));
            if FileType::from_raw_mode(way.stat.st_mode) == FileType::Symlink {
                links += 1;
                if links > LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let target =
                    PathBuf::from(OsString::from_vec(readlinkat(&next, "", Vec::new())?.into_bytes()));
                left.extend(components(&target));
                way.stat = parent;
                if target.is_absolute() {
                    way.end = openat(&way.end, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                    way.stat = fstat(&way.end)?;
                    at = PathBuf::from("/");
                }
            } else {
                way.end = next;
                at = here;
            }
        }
        Ok(way)
    }

    /// Notes a component that is not root's alone.
    fn judge(&mut self, path: &Path, parent: Option<&Stat>) {
        let stat = &self.stat;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let is_sticky = |stat: &Stat| stat.st_mode & STICKY != 0;
        // In a directory such as /tmp nobody can replace what is root's, but anybody can lay a link of old
        // or mount a file system of their own.
        let is_planted = parent.is_some_and(|parent| {
            parent.st_mode & WRITABLE_BY_OTHERS != 0 && (is_link || parent.st_dev != stat.st_dev)
        });
        let is_open = !is_link && stat.st_mode & WRITABLE_BY_OTHERS != 0 && !is_sticky(stat);
        if stat.st_uid != 0 || is_planted || is_open {
            self.weak.push(Weak { path: path.into(), owner: Uid::from_raw(stat.st_uid) });
        }
    }

    /// The descriptor of its end, which can be entered but not read.
    pub fn end(&self) -> &OwnedFd {
        &self.end
    }

    /// Returns whether it ends at a directory with that name in it.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        statat(&self.end, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The user who owns the end, and whose rights are enough to have laid all of the way: root only where
    /// nobody else can change any of it, and another only where the way is that user's and root's.
    pub fn owner(&self) -> Result<Uid> {
        let owner = Uid::from_raw(self.stat.st_uid);
        let is_foreign = |weak: &&Weak| owner.is_root() || !(weak.owner == owner || weak.owner.is_root());
        self.weak.iter().find(is_foreign).map_or(Ok(owner), |weak| Err(self.foreign(weak)))
    }

    /// Refuses a way that somebody else than root can change.
    pub fn refuse_others(&self) -> Result<()> {
        self.weak.first().map_or(Ok(()), |weak| Err(self.foreign(weak)))
    }

    fn foreign(&self, weak: &Weak) -> Error {
        let other = Some(weak.owner).filter(|owner| !owner.is_root()).map(login_name);
        let owner = login_name(Uid::from_raw(self.stat.st_uid));
        Error::ForeignWay(self.path.clone(), owner, weak.path.clone(), other)
    }
}

/// The components of a path but for its beginning, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::from_bytes(b"..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.rev().map(OsStr::to_owned).collect()
}
