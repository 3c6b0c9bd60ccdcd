//! Shared paths: directories and files of `<site>/shared/`, linked into every release.
//!
//! Nothing under `shared/` is ever overwritten or removed here. A shared directory that is still empty gets the
//! files that the commit has at its path; the files of later commits are left out. The links are relative, so
//! that a site can be moved.

use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bluegreen_sys::dir::Dir;
use rustix::fs::FileType;

use crate::config::{Shared, SharedPath};
use crate::error::{Error, Result};
use crate::pusher::message::Message;
use crate::pusher::report::Report;
use crate::site::{LockedSite, Site};

const SHARED: &str = "shared";
/// The file of `.bluegreen/` that names the shared directory that is being filled: after a crash the next
/// deployment goes on filling it.
const SEEDING: &str = "seeding";

/// Refuses a shared path that is missing or of the wrong kind, before a release is made.
pub fn require(site: &Site, shared: &Shared) -> Result<()> {
    for SharedPath { path, is_dir } in shared.iter() {
        let at = site.shared_path().join(path);
        // Follows symlinks: an admin may have put one there.
        match (at.metadata(), is_dir) {
            (Ok(found), true) if !found.is_dir() => {
                return Err(Error::SharedKind { path: at, wanted: "directory" });
            }
            (Ok(found), false) if found.is_dir() => {
                return Err(Error::SharedKind { path: at, wanted: "file" });
            }
            (Ok(_), _) => {}
            (Err(error), true) if error.kind() == ErrorKind::NotFound && !at.is_symlink() => {}
            (Err(error), false) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::SharedMissing(at));
            }
            (Err(error), _) => return Err(Error::io("read", at)(error)),
        }
    }
    Ok(())
}

/// Makes the links in a release that is being made.
pub fn link(site: &LockedSite, shared: &Shared, release: &Dir, report: &Report) -> Result<()> {
    shared.iter().try_for_each(|path| Linking { site, report, path }.link(release))
}

/// The linking of one shared path into a release.
struct Linking<'a> {
    site: &'a LockedSite,
    report: &'a Report,
    path: &'a SharedPath,
}

impl Linking<'_> {
    fn link(&self, release: &Dir) -> Result<()> {
        let in_release = |error| Error::io("link", &self.path.path)(error);
        let (parents, name) = self.split();
        let parent = self.descend(release, &parents)?;
        match parent.stat(name).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Directory) if self.path.is_dir => {
                self.seed(&parent.open_dir(name).map_err(in_release)?)?;
            }
            Ok(FileType::Directory) => return Err(self.in_the_way(&self.path.path, "a directory")),
            Ok(FileType::RegularFile) if self.path.is_dir => {
                return Err(self.in_the_way(&self.path.path, "a file"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(in_release(error)),
        }
        if self.path.is_dir {
            self.open_or_make()?;
        }
        let target = Path::new(&"../".repeat(parents.len() + 2)).join(SHARED).join(&self.path.path);
        parent
            .remove(name)
            .and_then(|()| parent.make_link(target.as_os_str().as_bytes(), name))
            .map_err(in_release)
    }

    /// Splits the path into the names of its directories and the last name.
    fn split(&self) -> (Vec<&OsStr>, &[u8]) {
        let mut names: Vec<&OsStr> = self.path.path.iter().collect();
        let name = names.pop().unwrap_or_default();
        (names, name.as_bytes())
    }

    /// Opens the directory in the release that will hold the link, or makes it.
    fn descend(&self, release: &Dir, parents: &[&OsStr]) -> Result<Dir> {
        let (mut dir, mut at) =
            (release.try_clone().map_err(Error::io("open", &self.path.path))?, PathBuf::new());
        for name in parents {
            at.push(name);
            let made = match dir.make_dir(name.as_bytes(), 0o755) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => dir.open_inside(name.as_bytes()),
            };
            dir = made.map_err(|error| match error.kind() {
                ErrorKind::NotADirectory => self.in_the_way(&at, "not a directory"),
                _ => Error::io("make", &at)(error),
            })?;
        }
        Ok(dir)
    }

    fn in_the_way(&self, path: &Path, kind: &'static str) -> Error {
        let wanted = if self.path.is_dir { "dirs" } else { "files" };
        Error::SharedInTheWay { path: path.into(), kind, shared: self.path.path.clone(), wanted }
    }

    /// Opens or makes the directory in `shared/`; `None` if it is an admin's symlink.
    fn open_or_make(&self) -> Result<Option<Dir>> {
        let path = self.site.shared_path().join(&self.path.path);
        let open = || {
            let mut dir = self.site.open_or_make_shared()?;
            let (parents, name) = self.split();
            for parent in parents {
                dir = dir.open_or_make_dir(parent.as_bytes(), 0o755)?;
            }
            match dir.stat(name) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Ok(None),
                _ => dir.open_or_make_dir(name, 0o755).map(Some),
            }
        };
        open().map_err(Error::io("make", path))
    }

    /// Moves the files that the commit has at the shared path into the shared directory, if that is still empty.
    fn seed(&self, commits: &Dir) -> Result<()> {
        let failed = |error| Error::io("fill", self.site.shared_path().join(&self.path.path))(error);
        let Some(shared) = self.open_or_make()? else { return Ok(()) };
        let seeding = self.site.state_file(SEEDING);
        let path = self.path.path.as_os_str().as_bytes();
        // A crash may have interrupted an earlier run while it filled this directory.
        let was_cut_off = seeding.read()?.is_some_and(|begun| begun == path);
        if !was_cut_off && !shared.names().map_err(failed)?.is_empty() {
            return Ok(());
        }
        seeding.replace(false, |file| file.write_all(path))?;
        for (name, _) in commits.names().map_err(failed)? {
            match commits.rename_new(&name, &shared, &name) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                    self.report.warning(Message::NotSeeded(&self.path.path));
                    break;
                }
                result => result.map_err(failed)?,
            }
        }
        seeding.remove()
    }
}
