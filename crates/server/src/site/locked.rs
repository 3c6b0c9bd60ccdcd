//! [`LockedSite`]: exclusive write access to a site. Every change is one of its methods.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use bluegreen_sys::dir::Dir;

use super::lock::{Holder, write_holder};
use super::paths::{CURRENT, NEXT, SHARED};
use super::{Site, StateFile, record_name};
use crate::error::{Error, Result};
use crate::release::{Record, ReleaseName, State};
use crate::site::logs;
use bluegreen_checkout::manifest::{Manifest, ctime};

/// A site whose lock is held by this process.
#[derive(Debug)]
pub struct LockedSite {
    pub(super) site: Site,
    pub(super) state: Dir,
    pub(super) records: Dir,
    pub(super) releases: Dir,
    pub(super) lock: File,
    pub(super) holder: RefCell<Holder>,
}

/// The result of an activation that took place.
#[derive(Debug)]
#[must_use = "an activation that is not on the disk is a failure"]
pub enum Activated {
    /// It was flushed to disk, or `durable` is false.
    Done,
    /// Flushing failed, so it may not survive a power cut.
    Unflushed(Error),
}

impl Activated {
    /// Converts an unflushed activation into an error after activation.
    pub fn flushed(self) -> Result<()> {
        match self {
            Self::Done => Ok(()),
            Self::Unflushed(error) => Err(Error::AfterActivation(Box::new(error))),
        }
    }
}

impl std::ops::Deref for LockedSite {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl LockedSite {
    /// Writes the phase into the lock file, for `status`.
    pub fn phase(&self, phase: &str) {
        let mut holder = self.holder.borrow_mut();
        phase.clone_into(&mut holder.phase);
        // Errors are ignored, for example on a full disk: nothing depends on the phase.
        let _ = write_holder(&self.lock, &holder);
    }

    /// Returns the directory `.bluegreen`.
    #[must_use]
    pub fn state(&self) -> &Dir {
        &self.state
    }

    /// Opens the directory of a release.
    pub fn open_release(&self, name: &ReleaseName) -> io::Result<Dir> {
        self.releases.open_inside(name.to_string().as_bytes())
    }

    /// Opens the directory `shared`, which an admin may have replaced with a symlink, or creates it.
    pub fn open_or_create_shared(&self) -> io::Result<Dir> {
        match self.dir.create_dir(SHARED, 0o755) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Dir::open(&self.shared_path()),
        }
    }

    /// Activates a release: the only place in the program that replaces `current`. After an error, `current` is
    /// unchanged.
    pub fn activate(&self, name: &ReleaseName) -> Result<Activated> {
        let path = self.current_path();
        let target = format!("releases/{name}");
        self.dir.remove(NEXT).map_err(Error::io("replace", &path))?;
        self.dir.create_symlink(target.as_bytes(), NEXT).map_err(Error::io("replace", &path))?;
        self.dir.rename(NEXT, &self.dir, CURRENT).map_err(Error::io("replace", &path))?;
        let flushed = if self.durable { self.releases.sync().and_then(|()| self.dir.sync()) } else { Ok(()) };
        Ok(flushed
            .map_or_else(|error| Activated::Unflushed(Error::io("flush", path)(error)), |()| Activated::Done))
    }

    /// Marks a release as bad, so that it is never chosen again.
    pub fn mark_bad(&self, name: &ReleaseName) -> Result<()> {
        match self.read_record(name)? {
            Some(record) => self.write_record(name, &Record { state: State::Bad, ..record }),
            None => Ok(()),
        }
    }

    /// Reads a release's manifest, if any.
    pub(super) fn manifest(&self, name: &ReleaseName) -> Option<Manifest> {
        Manifest::parse(&self.record_file(manifest_name(name)).read().ok()??)
    }

    pub(super) fn has_manifest(&self, name: &ReleaseName) -> bool {
        self.records.contains(manifest_name(name).as_bytes()).unwrap_or(false)
    }

    /// Returns whether a directory in a release contains a file, at any depth, that was modified after the release was filled.
    /// Without a manifest, every file counts as modified. Does not follow symlinks or mounts.
    pub fn has_files_since_filled(&self, release: &ReleaseName, path: &Path) -> Result<bool> {
        let failed = |error| Error::io("read", self.release_path(release).join(path))(error);
        let mut dir = self.open_release(release).map_err(failed)?;
        for name in path {
            dir = match dir.open_inside(name.as_bytes()) {
                Err(error)
                    if matches!(
                        Errno::from_io_error(&error),
                        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
                    ) =>
                {
                    return Ok(false);
                }
                opened => opened.map_err(failed)?,
            };
        }
        // An unreadable manifest is not a missing one.
        let manifest = self.record_file(manifest_name(release)).read()?;
        let filled = manifest.and_then(|text| Manifest::parse(&text)).map(|manifest| manifest.instant);
        let is_newer = |found: &Stat| filled.is_none_or(|filled| ctime(found) > filled);
        contains(dir, is_newer).map_err(failed)
    }

    /// Returns a file in `.bluegreen/`.
    #[must_use]
    pub fn state_file(&self, name: &str) -> StateFile<'_> {
        StateFile::new(&self.state, self.state_path().join(name))
    }

    /// Replaces a file in `.bluegreen/`.
    pub fn write_state(&self, name: &str, data: &[u8]) -> Result<()> {
        self.state_file(name).replace(self.durable, |file| file.write_all(data))
    }

    pub(super) fn remove_log(&self, name: &ReleaseName) -> Result<()> {
        logs::remove(&self.state, name).map_err(Error::io("remove", self.logs_path()))
    }

    pub(super) fn remove_records(&self, name: &ReleaseName) -> Result<()> {
        self.record_file(record_name(name)).remove()?;
        self.record_file(manifest_name(name)).remove()
    }

    pub(super) fn write_record(&self, name: &ReleaseName, record: &Record) -> Result<()> {
        let text = toml::to_string(record)
            .map_err(|error| Error::io("write", record_name(name))(io::Error::other(error)))?;
        // The record of a staged release is flushed when the release is sealed.
        let durable = self.durable && record.state != State::Staged;
        self.record_file(record_name(name)).replace(durable, |file| file.write_all(text.as_bytes()))
    }

    /// Writes a release's manifest. It is flushed with the release.
    pub(super) fn write_manifest(&self, name: &ReleaseName, manifest: &Manifest) -> Result<()> {
        self.record_file(manifest_name(name)).replace(false, |file| manifest.write(file))
    }

    /// Flushes a release's manifest to disk. Its name in the directory is flushed with that of the record.
    pub(super) fn flush_manifest(&self, name: &ReleaseName) -> io::Result<()> {
        self.records.open_regular(manifest_name(name).as_bytes(), OFlags::RDONLY)?.sync_data()
    }

    /// Returns a file in `.bluegreen/releases/`.
    fn record_file(&self, name: String) -> StateFile<'_> {
        StateFile::new(&self.records, self.records_path().join(name))
    }
}

/// Returns whether a directory contains a wanted file at any depth. Opens as many directories at the same time as the tree has
/// levels.
fn contains(dir: Dir, is_wanted: impl Fn(&Stat) -> bool) -> io::Result<bool> {
    let names = dir.names()?.into_iter();
    let mut open = vec![(dir, names)];
    while let Some((dir, names)) = open.last_mut() {
        let Some((name, _)) = names.next() else {
            open.pop();
            continue;
        };
        let found = dir.stat(&name)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            let inner = dir.open_inside(&name)?;
            let names = inner.names()?.into_iter();
            open.push((inner, names));
        } else if is_wanted(&found) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn manifest_name(name: &ReleaseName) -> String {
    format!("{name}.manifest")
}
