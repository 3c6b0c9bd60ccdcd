//! `.bluegreen/logs/<release>.log`: the output of a release's steps.
//!
//! A log is removed with its release. The release of a failed deployment is removed immediately, so the logs of the last
//! few failed deployments are kept without one. The output of `[notify]` goes to `notify.log`.

use std::fs::File;
use std::io;
use std::time::SystemTime;

use bluegreen_sys::dir::Dir;
use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::release::ReleaseName;
use crate::site::paths::{STATE, log_name};
use crate::site::{LockedSite, Site};

const LOGS: &[u8] = b"logs";
const NOTICES: &[u8] = b"notify.log";

/// The length at which the log of `[notify]` is truncated, in bytes.
const MAX_NOTICES_SIZE: u64 = 1 << 20;

/// The number of logs kept without a release.
const MAX_ORPHANS: usize = 10;

/// Opens a release's log for appending, and removes surplus logs of failed deployments.
pub fn open(site: &LockedSite, release: &ReleaseName) -> io::Result<File> {
    let dir = site.state().open_or_create_dir(LOGS, 0o700)?;
    let mut orphans: Vec<ReleaseName> = names(&dir)?
        .into_iter()
        .filter(|name| name != release && matches!(site.has(name), Ok(false)))
        .collect();
    orphans.sort();
    for orphan in &orphans[..orphans.len().saturating_sub(MAX_ORPHANS - 1)] {
        dir.remove(log_name(orphan).as_bytes())?;
    }
    dir.open_regular(log_name(release).as_bytes(), OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
}

/// Opens the log of `[notify]` for appending, and truncates it if it is longer than [`MAX_NOTICES_SIZE`].
pub fn open_notices(site: &Site) -> Result<File> {
    let open = || {
        let state = site.dir.open_dir(STATE)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        let file = state.open_regular(NOTICES, flags)?;
        if file.metadata()?.len() > MAX_NOTICES_SIZE {
            file.set_len(0)?;
        }
        Ok(file)
    };
    open().map_err(Error::io("write", site.notices_path()))
}

/// Removes the log of a release.
pub fn remove(state: &Dir, release: &ReleaseName) -> io::Result<()> {
    match state.open_dir(LOGS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        dir => dir?.remove(log_name(release).as_bytes()),
    }
}

/// Opens a release's log for reading, if any.
pub fn read(site: &Site, release: &ReleaseName) -> io::Result<Option<File>> {
    let open = || logs(site)?.open_regular(log_name(release).as_bytes(), OFlags::RDONLY);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// Finds the release whose log was written last, if it was not written before `begun`.
pub fn newest(site: &Site, begun: Option<SystemTime>) -> io::Result<Option<ReleaseName>> {
    let names = match logs(site) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        dir => names(&dir?)?,
    };
    let written = |name: &ReleaseName| read(site, name).ok()??.metadata().ok()?.modified().ok();
    let dated = names.into_iter().filter_map(|name| Some((written(&name)?, name)));
    Ok(dated.filter(|(written, _)| begun.is_none_or(|begun| *written >= begun)).max().map(|(_, name)| name))
}

fn logs(site: &Site) -> io::Result<Dir> {
    site.dir.open_dir(STATE)?.open_dir(LOGS)
}

fn names(dir: &Dir) -> io::Result<Vec<ReleaseName>> {
    let names = dir.names()?;
    Ok(names.iter().filter_map(|(name, _)| ReleaseName::from_bytes(name.strip_suffix(b".log")?)).collect())
}
