//! The site on the disk: what is live, which releases there are, and every change to them.
//!
//! Looking needs a [`Site`]; changing needs a [`LockedSite`], of which there is one at a time on the
//! whole machine. Nothing here has to be undone by clean-up code: a release is filled under a name
//! that is never live, becomes a release by a rename, and becomes live by another one.

use std::cell::RefCell;
use std::fmt::{self, Display};
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use git2::Oid;

use rustix::fs::{FileType, Mode, OFlags, fchmod, fstat};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::checkout::manifest::{self, Ctime, Manifest};
use crate::checkout::plan::Plan;
use crate::config::SiteConfig;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::history::{Action, Actor};
use crate::logs;
use crate::message::{bytes, count};
use crate::release::{Record, Release, ReleaseName, State};

const CURRENT: &[u8] = b"current";
/// The next `current`, for the moment between its making and the rename.
const NEXT: &[u8] = b".current.next";
const RELEASES: &[u8] = b"releases";
const STATE: &[u8] = b".bluegreen";
const SHARED: &[u8] = b"shared";
const INCOMING: &str = ".incoming-";
const LOCK: &[u8] = b"lock";

/// How often a waiting program tries the lock again.
const RETRY: Duration = Duration::from_millis(20);

/// A site whose directory exists.
#[derive(Debug)]
pub struct Site {
    root: PathBuf,
    dir: Dir,
    durable: bool,
}

/// What `current` leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// There is no `current`.
    Nothing,
    /// A release.
    Release(ReleaseName),
    /// A release that is gone.
    Gone(ReleaseName),
    /// Something that is no release: an admin's own link.
    Elsewhere(PathBuf),
}

impl Live {
    /// The live release.
    #[must_use]
    pub fn release(&self) -> Option<&ReleaseName> {
        if let Self::Release(name) = self { Some(name) } else { None }
    }
}

/// Who holds the lock, as the lock file says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// What it does.
    pub action: Action,
    /// Who asked for it.
    pub by: Actor,
    /// When it took the lock, RFC 3339, UTC.
    pub since: String,
    /// What it is doing now.
    pub phase: String,
}

impl Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a {} by {} (process {}, since {})", self.action, self.by, self.pid, self.since)
    }
}

impl Site {
    /// Opens the site that a config names.
    pub fn open(config: &SiteConfig) -> Result<Self> {
        let root = config.root.clone();
        match Dir::open(&root) {
            Ok(dir) => Ok(Self { root, dir, durable: config.durable }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::NoSite(root)),
            Err(error) => Err(Error::io("open", root)(error)),
        }
    }

    /// Its directory's path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a release.
    #[must_use]
    pub fn release_path(&self, name: &ReleaseName) -> PathBuf {
        self.root.join("releases").join(name.to_string())
    }

    /// Where a temporary directory is on the file system of the releases, and is swept after a crash.
    #[must_use]
    pub fn scratch_path(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// The path of the history.
    #[must_use]
    pub fn history_path(&self) -> PathBuf {
        self.state_path().join("history.jsonl")
    }

    /// The path of the lock.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.state_path().join("lock")
    }

    fn state_path(&self) -> PathBuf {
        self.root.join(".bluegreen")
    }

    /// What is live. A `current` that no rename can replace is an error.
    pub fn live(&self) -> Result<Live> {
        let path = self.root.join("current");
        let target = match self.dir.read_link(CURRENT) {
            Ok(target) => target,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Live::Nothing),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                let kind = if path.is_dir() { "a directory" } else { "a file" };
                return Err(Error::CurrentOccupied { path, kind });
            }
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let target = PathBuf::from(std::ffi::OsStr::from_bytes(&target));
        let relative = target.strip_prefix(&self.root).unwrap_or(&target);
        let name = relative
            .strip_prefix("releases")
            .ok()
            .and_then(|name| ReleaseName::from_bytes(name.as_os_str().as_bytes()));
        match name {
            Some(name) if self.release_path(&name).is_dir() => Ok(Live::Release(name)),
            Some(name) => Ok(Live::Gone(name)),
            None => Ok(Live::Elsewhere(target)),
        }
    }

    /// All releases, oldest first. Other names in `releases/` are nobody's business.
    pub fn releases(&self) -> Result<Vec<Release>> {
        let path = self.root.join("releases");
        let names = match self.dir.open_dir(RELEASES).and_then(|dir| dir.names()) {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let mut releases: Vec<Release> = names
            .iter()
            .filter(|(_, kind)| matches!(kind, FileType::Directory | FileType::Unknown))
            .filter_map(|(name, _)| ReleaseName::from_bytes(name))
            .map(|name| Release { record: self.record(&name), name })
            .collect();
        releases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(releases)
    }

    /// A release by its name.
    pub fn release(&self, name: &ReleaseName) -> Result<Release> {
        if self.release_path(name).is_dir() {
            Ok(Release { name: name.clone(), record: self.record(name) })
        } else {
            Err(Error::NoRelease(name.to_string()))
        }
    }

    /// The full id of the live commit, where it is known.
    #[must_use]
    pub fn commit(&self, live: &Live) -> Option<String> {
        Some(self.record(live.release()?)?.commit)
    }

    /// Whether what is live is a release that did not fail its verification.
    #[must_use]
    pub fn is_good(&self, live: &Live) -> bool {
        live.release().and_then(|name| self.release(name).ok()).is_some_and(|release| release.is_good())
    }

    fn record(&self, name: &ReleaseName) -> Option<Record> {
        let path = self.state_path().join("releases").join(format!("{name}.toml"));
        toml::from_str(&std::fs::read_to_string(path).ok()?).ok()
    }

    /// Who holds the lock right now, if anybody does.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        let mut file = File::open(self.state_path().join("lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => read_holder(&mut file),
            _ => None,
        }
    }

    /// Takes the lock, waiting for it up to `timeout` or until `go_on` fails; `announce` is called
    /// once if there is a wait.
    /// A lock dies with its process, whatever ends it, so that there are no stale ones.
    pub fn lock(
        self,
        holder: Holder,
        timeout: Duration,
        announce: impl FnOnce(&str),
        go_on: impl Fn() -> Result<()>,
    ) -> Result<LockedSite> {
        let make = |parent: &Dir, name: &[u8], mode| {
            let path = self.root.join(std::ffi::OsStr::from_bytes(name));
            parent.open_or_make_dir(name, mode).map_err(Error::io("make", path))
        };
        let state = make(&self.dir, STATE, 0o700)?;
        let records = make(&state, RELEASES, 0o700)?;
        let releases = make(&self.dir, RELEASES, 0o755)?;
        let path = self.state_path().join("lock");
        let lock = state.open_file(LOCK, OFlags::RDWR | OFlags::CREATE).map_err(Error::io("open", &path))?;
        let start = Instant::now();
        let mut announce = Some(announce);
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let name = || {
                read_holder_retrying(&path)
                    .map_or_else(|| "another process".into(), |other| other.to_string())
            };
            if start.elapsed() >= timeout {
                return Err(Error::Locked { holder: name(), waited: timeout });
            }
            if let Some(announce) = announce.take() {
                announce(&name());
            }
            go_on()?;
            thread::sleep(RETRY);
        }
        let _ = write_holder(&lock, &holder);
        Ok(LockedSite { site: self, state, records, releases, lock, holder: RefCell::new(holder) })
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The holder writes its name just after it took the lock.
fn read_holder_retrying(path: &Path) -> Option<Holder> {
    (0..10).find_map(|_| {
        let holder = File::open(path).ok().and_then(|mut file| read_holder(&mut file));
        if holder.is_none() {
            thread::sleep(RETRY);
        }
        holder
    })
}

fn write_holder(mut lock: &File, holder: &Holder) -> io::Result<()> {
    use std::io::Seek;
    let text = serde_json::to_string(holder)?;
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(text.as_bytes())
}

/// A site that this process alone may change.
#[derive(Debug)]
pub struct LockedSite {
    site: Site,
    state: Dir,
    records: Dir,
    releases: Dir,
    lock: File,
    holder: RefCell<Holder>,
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

    /// A release that can be turned into another one: it is known what it held, and its root is a
    /// directory of ours.
    #[must_use]
    pub fn recycle(&self, name: ReleaseName) -> Option<Recycled> {
        let dir = self.releases.open_dir(name.to_string().as_bytes()).ok()?;
        let stat = dir.own_stat().ok()?;
        let is_ours = stat.st_mode & 0o7777 == 0o755 && stat.st_uid == geteuid().as_raw();
        let manifest = self.manifest(&name).filter(|_| is_ours)?;
        Some(Recycled { name, dir, manifest })
    }

    /// Makes room for a new release: in a recycled one, or else in an empty directory.
    pub fn stage(&self, recycled: Option<Recycled>) -> Result<Staged<'_>> {
        let at = self.free_incoming()?;
        let path = self.root.join("releases").join(&at);
        let (dir, manifest) = if let Some(old) = recycled {
            let name = old.name.to_string();
            self.releases
                .rename(name.as_bytes(), &self.releases, at.as_bytes())
                .map_err(Error::io("recycle", path))?;
            self.remove_records(&old.name)?;
            self.remove_log(&old.name)?;
            (old.dir, Some(old.manifest))
        } else {
            self.releases.make_dir(at.as_bytes(), 0o755).map_err(Error::io("make", &path))?;
            (self.releases.open_dir(at.as_bytes()).map_err(Error::io("open", path))?, None)
        };
        Ok(Staged { site: self, dir, at, manifest, name: None, done: false })
    }

    /// Refuses a release that the file system has no room for, before anything is written.
    pub fn refuse_full_disk(&self, plan: &Plan) -> Result<()> {
        let space = self.dir.free_space().map_err(Error::io("read", &self.root))?;
        let block = space.f_frsize.max(512);
        let sizes = || plan.new_entries().map(|entry| plan.listing.entries[entry as usize].size);
        let needed =
            sizes().map(|size| size.div_ceil(block).saturating_mul(block)).fold(0_u64, u64::saturating_add);
        let free = space.f_bavail.saturating_mul(block);
        let refused = |needed, free| Err(Error::NoSpace { path: self.root.clone(), needed, free });
        if needed > free {
            return refused(bytes(needed), bytes(free));
        }
        let inodes = sizes().count() as u64;
        // Some file systems make inodes as they need them, and say that they have none at all.
        if space.f_files > 0 && inodes > space.f_favail {
            return refused(count(inodes, "inode"), count(space.f_favail, "inode"));
        }
        Ok(())
    }

    /// A name for a directory that is being filled; one that could not be swept stays in its place.
    fn free_incoming(&self) -> Result<String> {
        for attempt in std::process::id().. {
            let name = format!("{INCOMING}{:06}", attempt % 1_000_000);
            let path = self.root.join("releases").join(&name);
            if !self.releases.contains(name.as_bytes()).map_err(Error::io("read", path))? {
                return Ok(name);
            }
        }
        Err(Error::io("find a name in", self.root.join("releases"))(ErrorKind::AlreadyExists.into()))
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
        let name = newest.map_or_else(
            || ReleaseName::next(SystemTime::now(), &Oid::ZERO_SHA1, None),
            |newest| newest.name,
        );
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
            ..Record::new(Oid::ZERO_SHA1, "What the site held before".into(), 0)
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
    fn manifest(&self, name: &ReleaseName) -> Option<Manifest> {
        let mut data = Vec::new();
        let mut file = self.records.open_file(manifest_name(name).as_bytes(), OFlags::RDONLY).ok()?;
        file.read_to_end(&mut data).ok()?;
        Manifest::parse(&data)
    }

    /// The file system's own clock, as it stamps what is written now.
    fn clock(&self) -> Result<Ctime> {
        let name = format!("{INCOMING}clock");
        let read = || {
            self.records.remove(name.as_bytes())?;
            let file = self.records.create_file(name.as_bytes(), 0o600)?;
            let now = manifest::ctime(&fstat(&file)?);
            self.records.remove(name.as_bytes())?;
            Ok(now)
        };
        read().map_err(Error::io("write", self.state_path().join("releases")))
    }

    fn remove_log(&self, name: &ReleaseName) -> Result<()> {
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

    fn remove_records(&self, name: &ReleaseName) -> Result<()> {
        for file in [record_name(name), manifest_name(name)] {
            let path = self.state_path().join("releases").join(&file);
            self.records.remove(file.as_bytes()).map_err(Error::io("remove", path))?;
        }
        Ok(())
    }

    fn write_record(&self, name: &ReleaseName, record: &Record) -> Result<()> {
        let text = toml::to_string(record)
            .map_err(|error| Error::io("write", record_name(name))(io::Error::other(error)))?;
        // A staged record is flushed with its release; a later one says something that must be true.
        let durable = self.durable && record.state != State::Staged;
        self.write_file(&record_name(name), durable, |file| file.write_all(text.as_bytes()))
    }

    /// Writes a file of `.bluegreen/releases/`, whole or not at all.
    fn write_file(
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

fn record_name(name: &ReleaseName) -> String {
    format!("{name}.toml")
}

fn manifest_name(name: &ReleaseName) -> String {
    format!("{name}.manifest")
}

/// A release that is to be turned into another one.
#[derive(Debug)]
pub struct Recycled {
    name: ReleaseName,
    dir: Dir,
    /// What it held when it was written.
    pub manifest: Manifest,
}

/// A release that is being made. Whatever ends it before [`Staged::keep`] removes it.
#[derive(Debug)]
#[must_use = "dropping it removes the release that is being made"]
pub struct Staged<'a> {
    site: &'a LockedSite,
    dir: Dir,
    manifest: Option<Manifest>,
    at: String,
    name: Option<ReleaseName>,
    done: bool,
}

impl Staged<'_> {
    /// The directory to fill.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// What the directory holds before, where it is recycled.
    #[must_use]
    pub fn recycled(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The file system's own clock, as it stamps what is written now.
    pub fn clock(&self) -> Result<Ctime> {
        self.site.clock()
    }

    /// Gives the release its name and place; its record says that it is not ready.
    pub fn place(&mut self, name: &ReleaseName, record: &Record, manifest: &Manifest) -> Result<()> {
        let path = self.site.release_path(name);
        let text = name.to_string();
        // The record comes first: a release without one is not ours to judge.
        self.name = Some(name.clone());
        self.site.write_record(name, record)?;
        self.site.write_file(&manifest_name(name), false, |file| manifest.write(file))?;
        fchmod(&self.dir, Mode::from_raw_mode(0o755))
            .map_err(|error| Error::io("change", &path)(error.into()))?;
        self.site
            .releases
            .rename(self.at.as_bytes(), &self.site.releases, text.as_bytes())
            .map_err(Error::io("place", path))?;
        self.at = text;
        Ok(())
    }

    /// Makes the release durable, and only then ready. On a disk that lost a write `syncfs` fails, and
    /// with it the deployment.
    pub fn seal(&self, name: &ReleaseName, record: &Record) -> Result<()> {
        if self.site.durable {
            let path = self.site.release_path(name);
            self.dir.sync_file_system().map_err(Error::io("flush", path))?;
        }
        self.site.write_record(name, record)
    }

    /// Lets the release stay: it is live.
    pub fn keep(mut self) {
        self.done = true;
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let removed = self.site.releases.remove(self.at.as_bytes()).map_err(Error::io("remove", &self.at));
        let forgotten = self.name.as_ref().map_or(Ok(()), |name| self.site.remove_records(name));
        if let Err(error) = removed.and(forgotten) {
            log::warn!("{error}; the next deployment tries again");
        }
    }
}
