//! Every change to a site: what a [`LockedSite`] may do and a [`Site`] may not.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::SystemTime;

use rustix::fs::OFlags;

use super::lock::{Holder, write_holder};
use super::{CURRENT, INCOMING, Live, NEXT, RELEASES, SHARED, STATE, Site};
use crate::checkout::manifest::Manifest;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::git::id::CommitId;
use crate::release::{Record, ReleaseName, State};
use crate::site::logs;

/// A site that this process alone may change.
#[derive(Debug)]
pub struct LockedSite {
    pub(super) site: Site,
    pub(super) state: Dir,
    pub(super) records: Dir,
    pub(super) releases: Dir,
    pub(super) lock: File,
    pub(super) holder: RefCell<Holder>,
}

impl std::ops::Deref for LockedSite {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl LockedSite {
    /// Tells `status` what is being done.
    pub fn phase(&self, phase: &str) {
        let mut holder = self.holder.borrow_mut();
        phase.clone_into(&mut holder.phase);
        // Nothing depends on it, not even on a full disk.
        let _ = write_holder(&self.lock, &holder);
    }

    /// The directory `.bluegreen`.
    #[must_use]
    pub fn state(&self) -> &Dir {
        &self.state
    }

    /// The directory `shared`, which an admin may have put elsewhere with a link.
    pub fn open_or_make_shared(&self) -> io::Result<Dir> {
        match self.dir.make_dir(SHARED, 0o755) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Dir::open(&self.root.join("shared")),
        }
    }

    /// Removes what a crash left: half-filled releases, releases whose steps never ended, temporary
    /// files. What cannot be removed is handed back, and is in nobody's way.
    pub fn sweep(&self) -> Result<Vec<Error>> {
        let live = self.live()?;
        let mut leftovers = Vec::new();
        let mut remove = |dir: &Dir, path: PathBuf, name: &[u8]| {
            let path = path.join(std::ffi::OsStr::from_bytes(name));
            log::info!("sweeping {}", path.display());
            leftovers.extend(dir.remove(name).map_err(Error::io("remove", path)).err());
        };
        if self.dir.read_link(NEXT).is_ok() {
            remove(&self.dir, self.root.clone(), NEXT);
        }
        for release in self.releases()? {
            let unfinished = release.record.as_ref().is_some_and(|record| record.state == State::Staged);
            if unfinished && live.release() != Some(&release.name) {
                remove(&self.releases, self.root.join("releases"), release.name.to_string().as_bytes());
            }
        }
        for (dir, path) in [
            (&self.releases, self.root.join("releases")),
            (&self.records, self.state_path().join("releases")),
        ] {
            for (name, _) in dir.names().map_err(Error::io("read", &path))? {
                if name.starts_with(INCOMING.as_bytes()) || self.is_orphan(dir, &name) {
                    remove(dir, path.clone(), &name);
                }
            }
        }
        Ok(leftovers)
    }

    /// Whether a name in `.bluegreen/releases/` belongs to a release that is gone.
    fn is_orphan(&self, dir: &Dir, name: &[u8]) -> bool {
        let stem = name.rsplitn(2, |&byte| byte == b'.').last().unwrap_or(name);
        std::ptr::eq(dir, &raw const self.records)
            && ReleaseName::from_bytes(stem).is_some_and(|name| !self.release_path(&name).is_dir())
    }

    /// Makes a release live: THE flip, the only one in the program.
    pub fn activate(&self, name: &ReleaseName) -> Result<()> {
        let path = self.root.join("current");
        let target = format!("releases/{name}");
        self.dir.remove(NEXT).map_err(Error::io("replace", &path))?;
        self.dir.make_link(target.as_bytes(), NEXT).map_err(Error::io("replace", &path))?;
        self.dir.rename(NEXT, &self.dir, CURRENT).map_err(Error::io("replace", &path))?;
        if self.durable {
            let sync = self.releases.sync().and_then(|()| self.dir.sync());
            sync.map_err(|error| Error::AfterFlip(Box::new(Error::io("flush", path)(error))))?;
        }
        Ok(())
    }

    /// Removes a release: first its name, so that half of it is never a release.
    pub fn remove(&self, name: &ReleaseName) -> Result<()> {
        let (path, at) = (self.release_path(name), self.free_incoming()?);
        self.releases
            .rename(name.to_string().as_bytes(), &self.releases, at.as_bytes())
            .map_err(Error::io("remove", &path))?;
        self.remove_records(name)?;
        self.remove_log(name)?;
        self.releases.remove(at.as_bytes()).map_err(Error::io("remove", path))
    }

    /// Moves everything in the site that is not ours into a release, and gives its name; nothing to
    /// move, or a `current`, and there is nothing to do.
    pub fn adopt(&self) -> Result<Option<ReleaseName>> {
        let is_ours = |name: &[u8]| [CURRENT, NEXT, RELEASES, STATE, SHARED].contains(&name);
        let names = self.dir.names().map_err(Error::io("read", &self.root))?;
        let names: Vec<&[u8]> =
            names.iter().map(|(name, _)| name.as_slice()).filter(|name| !is_ours(name)).collect();
        if names.is_empty() || self.live()? != Live::Nothing {
            return Ok(None);
        }
        // The release is named at once: what was moved by a run that was cut off must not be swept.
        let newest = self.releases()?.pop().filter(|release| release.record.is_none());
        let name = newest
            .map_or_else(|| ReleaseName::next(SystemTime::now(), CommitId::NONE, None), |newest| newest.name);
        let path = self.release_path(&name);
        let release = self
            .releases
            .open_or_make_dir(name.to_string().as_bytes(), 0o755)
            .map_err(Error::io("make", &path))?;
        for file in &names {
            self.dir.rename(file, &release, file).map_err(Error::io("move what is in", &self.root))?;
        }
        let record = Record {
            state: State::Ready,
            ..Record::new(CommitId::NONE, "What the site held before".into(), 0)
        };
        self.write_record(&name, &record)?;
        self.activate(&name)?;
        Ok(Some(name))
    }

    /// Marks a release, so that nobody chooses it again.
    pub fn mark_bad(&self, name: &ReleaseName) -> Result<()> {
        match self.record(name) {
            Some(record) => self.write_record(name, &Record { state: State::Bad, ..record }),
            None => Ok(()),
        }
    }

    /// What a release held when it was written, where that is known.
    pub(super) fn manifest(&self, name: &ReleaseName) -> Option<Manifest> {
        let mut data = Vec::new();
        let mut file = self.records.open_file(manifest_name(name).as_bytes(), OFlags::RDONLY).ok()?;
        file.read_to_end(&mut data).ok()?;
        Manifest::parse(&data)
    }

    pub(super) fn remove_log(&self, name: &ReleaseName) -> Result<()> {
        logs::remove(&self.state, name).map_err(Error::io("remove", self.state_path().join("logs")))
    }

    /// Writes a small file of `.bluegreen/`, whole or not at all.
    pub fn write_state(&self, name: &[u8], data: &[u8]) -> io::Result<()> {
        let temporary = [name, b".new"].concat();
        self.state.remove(&temporary)?;
        let mut file = self.state.create_file(&temporary, 0o600)?;
        file.write_all(data)?;
        if self.durable {
            file.sync_data()?;
        }
        self.state.rename(&temporary, &self.state, name)?;
        if self.durable { self.state.sync() } else { Ok(()) }
    }

    pub(super) fn remove_records(&self, name: &ReleaseName) -> Result<()> {
        for file in [record_name(name), manifest_name(name)] {
            let path = self.state_path().join("releases").join(&file);
            self.records.remove(file.as_bytes()).map_err(Error::io("remove", path))?;
        }
        Ok(())
    }

    pub(super) fn write_record(&self, name: &ReleaseName, record: &Record) -> Result<()> {
        let text = toml::to_string(record)
            .map_err(|error| Error::io("write", record_name(name))(io::Error::other(error)))?;
        // A staged record is flushed with its release; a later one says something that must be true.
        let durable = self.durable && record.state != State::Staged;
        self.write_file(&record_name(name), durable, |file| file.write_all(text.as_bytes()))
    }

    /// Writes a file of `.bluegreen/releases/`, whole or not at all.
    pub(super) fn write_file(
        &self,
        name: &str,
        durable: bool,
        fill: impl Fn(&mut File) -> io::Result<()>,
    ) -> Result<()> {
        let temporary = format!("{INCOMING}{name}");
        let write = || {
            self.records.remove(temporary.as_bytes())?;
            let mut file = self.records.create_file(temporary.as_bytes(), 0o600)?;
            fill(&mut file)?;
            if durable {
                file.sync_data()?;
            }
            self.records.rename(temporary.as_bytes(), &self.records, name.as_bytes())?;
            if durable { self.records.sync() } else { Ok(()) }
        };
        write().map_err(Error::io("write", self.state_path().join("releases").join(name)))
    }
}

pub(super) fn record_name(name: &ReleaseName) -> String {
    format!("{name}.toml")
}

pub(super) fn manifest_name(name: &ReleaseName) -> String {
    format!("{name}.manifest")
}
