//! Shared paths: directories and files in `<site>/shared/`, symlinked into every release.
//!
//! Nothing under `shared/` is ever overwritten or removed here. An empty shared directory is seeded with the files that
//! the commit has at its path; the files of later commits are ignored. The symlinks are relative, so that a site can be
//! moved.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bluegreen_sys::dir::Dir;
use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use crate::config::{Shared, SharedPath};
use crate::error::{Error, Result};
use crate::pusher::message::Message;
use crate::release::ReleaseName;
use crate::site::{LockedSite, Site};
use bluegreen_report::Report;

const SHARED: &str = "shared";
/// The file in `.bluegreen/` that lists the shared directories seeded from a commit that is not live yet.
const SEEDING: &str = "seeding";

/// The shared directories that a deployment seeds from its commit. If its release does not become live, the seeded files
/// are removed, and the next deployment seeds the directories again.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seeding {
    /// The release of that deployment; empty after the deployment.
    release: String,
    /// The shared paths, as bytes.
    paths: Vec<Vec<u8>>,
    /// The files that were moved, relative to `shared/`.
    files: Vec<Seed>,
}

/// A file that was moved into a shared directory.
#[derive(Debug, Serialize, Deserialize)]
struct Seed {
    path: Vec<u8>,
    inode: u64,
    size: i64,
    modified: (i64, u64),
}

impl Seed {
    fn new(path: Vec<u8>, stat: &Stat) -> Self {
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        Self { path, inode: stat.st_ino, size: stat.st_size, modified }
    }

    fn is(&self, stat: &Stat) -> bool {
        let other = Self::new(Vec::new(), stat);
        (self.inode, self.size, self.modified) == (other.inode, other.size, other.modified)
    }
}

impl Seeding {
    /// Reads the file. A damaged file counts as missing, so that nothing is removed from `shared/`.
    fn read(site: &LockedSite) -> Result<Option<Self>> {
        let text = site.state_file(SEEDING).read()?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    fn write(&self, site: &LockedSite) -> Result<()> {
        let text = serde_json::to_vec(self)
            .map_err(|error| Error::io("write", site.state_path().join(SEEDING))(error.into()))?;
        site.write_state(SEEDING, &text)
    }
}

/// Completes the seeding of a finished deployment. If its release is not live, removes the seeded files that were not
/// modified since.
pub fn finish_seeding(site: &LockedSite) -> Result<()> {
    let Some(seeding) = Seeding::read(site)? else { return site.state_file(SEEDING).remove() };
    if seeding.release.is_empty() {
        return Ok(());
    }
    if site.live()?.release().is_some_and(|live| live.to_string() == seeding.release) {
        return site.state_file(SEEDING).remove();
    }
    let failed = Error::io("empty", site.shared_path());
    undo(site, &seeding.files).map_err(failed)?;
    Seeding { paths: seeding.paths, ..Seeding::default() }.write(site)
}

fn undo(site: &LockedSite, files: &[Seed]) -> io::Result<()> {
    let shared = site.open_or_create_shared()?;
    for seed in files {
        let mut names: Vec<&[u8]> = seed.path.split(|&byte| byte == b'/').collect();
        let name = names.pop().unwrap_or_default();
        let open = || names.iter().try_fold(shared.try_clone()?, |dir, name| dir.open_dir(name));
        match open().and_then(|dir| Ok((dir.stat(name)?, dir))) {
            Ok((stat, dir)) if seed.is(&stat) => dir.remove(name)?,
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Lists the files below a directory, as paths that begin with `at`.
fn seeds(dir: &Dir, at: &[u8], found: &mut Vec<Seed>) -> io::Result<()> {
    for (name, _) in dir.names()? {
        let (path, stat) = ([at, b"/", &name].concat(), dir.stat(&name)?);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            seeds(&dir.open_dir(&name)?, &path, found)?;
        } else {
            found.push(Seed::new(path, &stat));
        }
    }
    Ok(())
}

/// Moves the entries of a directory into another one, except for those that exist there.
fn merge(from: &Dir, to: &Dir) -> io::Result<()> {
    for (name, _) in from.names()? {
        match from.rename_new(&name, to, &name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if let (Ok(from), Ok(to)) = (from.open_dir(&name), to.open_dir(&name)) {
                    merge(&from, &to)?;
                }
            }
            result => result?,
        }
    }
    Ok(())
}

/// Fails if a shared path is missing or of the wrong kind, before a release is created.
pub fn require(site: &Site, shared: &Shared) -> Result<()> {
    for SharedPath { path, is_dir } in shared.iter() {
        let at = site.shared_path().join(path);
        // This follows symlinks, because an admin may have placed one there.
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

/// Returns the first shared directory that a release does not link to `shared/`, because the release is older than that
/// config.
#[must_use]
pub fn first_unlinked(site: &Site, shared: &Shared, release: &ReleaseName) -> Option<PathBuf> {
    let release = site.release_path(release);
    let is_linked = |path: &SharedPath| {
        release.join(&path.path).read_link().is_ok_and(|target| target == link_target(&path.path))
    };
    shared.iter().find(|path| path.is_dir && !is_linked(path)).map(|path| path.path.clone())
}

/// Returns a shared directory that is a real directory in a release and contains files written after the release was
/// filled. Such files may be uploads without another copy.
pub fn own_files(site: &LockedSite, shared: &Shared, release: &ReleaseName) -> Result<Option<PathBuf>> {
    for SharedPath { path, .. } in shared.iter().filter(|path| path.is_dir) {
        if site.has_files_since_filled(release, path)? {
            return Ok(Some(path.clone()));
        }
    }
    Ok(None)
}

fn link_target(path: &Path) -> PathBuf {
    Path::new(&"../".repeat(path.components().count() + 1)).join(SHARED).join(path)
}

/// Creates the symlinks in a new release.
pub fn link(
    site: &LockedSite,
    shared: &Shared,
    name: &ReleaseName,
    release: &Dir,
    report: &Report,
) -> Result<()> {
    shared.iter().try_for_each(|path| Linking { site, report, path, name }.link(release))
}

/// One shared path that is linked into a release.
struct Linking<'a> {
    site: &'a LockedSite,
    report: &'a Report,
    path: &'a SharedPath,
    /// The release's name.
    name: &'a ReleaseName,
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
            self.open_or_create()?;
        }
        let target = link_target(&self.path.path);
        parent
            .remove(name)
            .and_then(|()| parent.create_symlink(target.as_os_str().as_bytes(), name))
            .map_err(in_release)
    }

    /// Splits the path into the names of its directories and the file name.
    fn split(&self) -> (Vec<&OsStr>, &[u8]) {
        let mut names: Vec<&OsStr> = self.path.path.iter().collect();
        let name = names.pop().unwrap_or_default();
        (names, name.as_bytes())
    }

    /// Opens or creates the directory that will contain the symlink.
    fn descend(&self, release: &Dir, parents: &[&OsStr]) -> Result<Dir> {
        let (mut dir, mut at) =
            (release.try_clone().map_err(Error::io("open", &self.path.path))?, PathBuf::new());
        for name in parents {
            at.push(name);
            let made = match dir.create_dir(name.as_bytes(), 0o755) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => dir.open_inside(name.as_bytes()),
            };
            dir = made.map_err(|error| match error.kind() {
                ErrorKind::NotADirectory => self.in_the_way(&at, "not a directory"),
                _ => Error::io("create", &at)(error),
            })?;
        }
        Ok(dir)
    }

    fn in_the_way(&self, path: &Path, kind: &'static str) -> Error {
        let wanted = if self.path.is_dir { "dirs" } else { "files" };
        Error::SharedInTheWay { path: path.into(), kind, shared: self.path.path.clone(), wanted }
    }

    /// Opens or creates the directory in `shared/`; `None` if it is an admin's symlink.
    fn open_or_create(&self) -> Result<Option<Dir>> {
        let path = self.site.shared_path().join(&self.path.path);
        let open = || {
            let mut dir = self.site.open_or_create_shared()?;
            let (parents, name) = self.split();
            for parent in parents {
                dir = dir.open_or_create_dir(parent.as_bytes(), 0o755)?;
            }
            match dir.stat(name) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Ok(None),
                _ => dir.open_or_create_dir(name, 0o755).map(Some),
            }
        };
        open().map_err(Error::io("create", path))
    }

    /// Moves the commit's files at the shared path into the shared directory if that is empty.
    fn seed(&self, commits: &Dir) -> Result<()> {
        let failed = |error| Error::io("fill", self.site.shared_path().join(&self.path.path))(error);
        let Some(shared) = self.open_or_create()? else { return Ok(()) };
        let path = self.path.path.as_os_str().as_bytes();
        let mut seeding = Seeding::read(self.site)?.unwrap_or_default();
        // The steps of a failed deployment may have left files in a directory that it seeded.
        let is_pending = seeding.paths.iter().any(|pending| pending == path);
        if !is_pending && !shared.names().map_err(failed)?.is_empty() {
            return Ok(());
        }
        seeding.release = self.name.to_string();
        if !is_pending {
            seeding.paths.push(path.to_vec());
        }
        seeds(commits, path, &mut seeding.files).map_err(failed)?;
        seeding.write(self.site)?;
        match merge(commits, &shared) {
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                self.report.warning(Message::NotSeeded(&self.path.path));
                Ok(())
            }
            result => result.map_err(failed),
        }
    }
}
