//! The asset pool, `shared/.assets/`: copies of the hashed files of recent releases.
//!
//! A page that was loaded before an activation may request its style sheet after it. The web server then falls back to
//! the pool. The copies are created before activation. They are never hard links, because a write into one release must
//! not change what another one serves.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use rustix::fs::{FileType, OFlags};

use super::LockedSite;
use super::paths::INCOMING;
use crate::config::SiteConfig;
use crate::error::{Error, Result};
use crate::release::ReleaseName;
use bluegreen_sys::dir::Dir;

const POOL: &[u8] = b".assets";

/// A file of the pool: its directory relative to the pool, its name, and when a release last contained it.
struct Pooled {
    directory: Vec<u8>,
    name: Vec<u8>,
    used: SystemTime,
}

impl LockedSite {
    /// Copies a release's assets into the pool, and removes files that are too old or too many. The files of this release
    /// always stay.
    pub fn pool_assets(&self, release: &ReleaseName, config: &SiteConfig) -> Result<()> {
        if config.assets.is_empty() {
            return Ok(());
        }
        let now = SystemTime::now();
        let pool = || {
            let pool = self.open_or_create_shared()?.open_or_create_dir(POOL, 0o755)?;
            let dir = self.releases.open_inside(release.to_string().as_bytes())?;
            for path in &config.assets {
                copy(&dir, &pool, path.components(), now)?;
            }
            let mut files = Vec::new();
            list(&pool, b"", &mut files)?;
            files.retain(|file| file.used < now);
            files.sort_by_key(|file| file.used);
            let surplus = files.len().saturating_sub(config.assets_max as usize);
            for (at, file) in files.iter().enumerate() {
                let is_old = now.duration_since(file.used).is_ok_and(|age| age > config.assets_age);
                if at < surplus || is_old {
                    open_below(&pool, &file.directory)?.remove(&file.name)?;
                }
            }
            Ok(())
        };
        pool().map_err(Error::io("keep the assets in", self.shared_path().join(".assets")))
    }
}

/// Descends along a path in the release and in the pool, and copies the files there. A release without that directory has
/// no assets. A symlink there points to shared files, which need no pool.
fn copy<'a>(
    from: &Dir,
    to: &Dir,
    mut path: impl Iterator<Item = &'a [u8]>,
    now: SystemTime,
) -> io::Result<()> {
    let Some(name) = path.next() else { return copy_tree(from, to, now) };
    match from.open_inside(name) {
        Ok(below) => copy(&below, &to.open_or_create_dir(name, 0o755)?, path, now),
        Err(_)
            if !matches!(
                from.stat(name).map(|stat| FileType::from_raw_mode(stat.st_mode)),
                Ok(FileType::Directory)
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn copy_tree(from: &Dir, to: &Dir, now: SystemTime) -> io::Result<()> {
    for (name, _) in from.names()? {
        match FileType::from_raw_mode(from.stat(&name)?.st_mode) {
            FileType::Directory => {
                copy_tree(&from.open_inside(&name)?, &to.open_or_create_dir(&name, 0o755)?, now)?;
            }
            FileType::RegularFile => copy_file(from, to, &name, now)?,
            _ => {}
        }
    }
    Ok(())
}

/// Copies a file unless the pool has one with the same name and size: the name contains a hash of the contents.
fn copy_file(from: &Dir, to: &Dir, name: &[u8], now: SystemTime) -> io::Result<()> {
    let mut source = from.open_regular(name, OFlags::RDONLY)?;
    match to.open_regular(name, OFlags::RDONLY) {
        Ok(copy) if copy.metadata()?.size() == source.metadata()?.size() => return copy.set_modified(now),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let temporary = [INCOMING.as_bytes(), name].concat();
    // An asset's name may have almost the maximum length.
    let temporary = &temporary[..temporary.len().min(255)];
    to.remove(temporary)?;
    let mut copy: File = to.create_file(temporary, 0o644)?;
    io::copy(&mut source, &mut copy)?;
    copy.set_modified(now)?;
    to.rename(temporary, to, name)
}

fn list(dir: &Dir, path: &[u8], files: &mut Vec<Pooled>) -> io::Result<()> {
    for (name, _) in dir.names()? {
        match FileType::from_raw_mode(dir.stat(&name)?.st_mode) {
            FileType::Directory => {
                let below = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
                list(&dir.open_inside(&name)?, &below, files)?;
            }
            FileType::RegularFile => {
                let used = dir.open_regular(&name, OFlags::RDONLY)?.metadata()?.modified()?;
                files.push(Pooled { directory: path.to_vec(), name, used });
            }
            _ => {}
        }
    }
    Ok(())
}

fn open_below(pool: &Dir, path: &[u8]) -> io::Result<Dir> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
        .try_fold(pool.try_clone()?, |dir, name| dir.open_inside(name))
}
