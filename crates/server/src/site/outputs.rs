//! The outputs of build steps: copied from one release into another, and fingerprinted to detect changes.
//!
//! Copies are reflinks where the file system supports them. They are never hard links, through which a process in the old
//! release could write into the new one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bluegreen_sys::dir::Dir;
use bluegreen_sys::parallel::for_each_found;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, fchmod, fstat, futimens, utimensat,
};
use sha2::{Digest, Sha256};

use bluegreen_process::signals::Stop;

/// A digest of an output's files: their paths, types, modes, sizes, and ctimes, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Returns the combined fingerprint of two outputs.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{:032x}", self.0)
    }
}

/// Fingerprints a file, or a directory with its contents, at a path in a release. Fails if the path crosses a symlink or a
/// mount point.
pub fn fingerprint(release: &Dir, path: &Path, threads: usize, stop: &Stop) -> io::Result<Fingerprint> {
    walk(release, None, path, threads, stop)
}

/// Copies a file, or a directory with its contents, from one release to another, and fingerprints the original. Preserves
/// modes and modification times, but not the set-user-id and set-group-id bits. After a failure, part of the copy may
/// exist.
pub fn copy(from: &Dir, to: &Dir, path: &Path, threads: usize, stop: &Stop) -> io::Result<Fingerprint> {
    walk(from, Some(to), path, threads, stop)
}

/// Opens the directory that contains a path. Creates it and its parents if `create` is true. Fails if one of them is a
/// symlink.
pub fn open_parent(release: &Dir, path: &Path, create: bool) -> io::Result<Dir> {
    let parents = path.parent().unwrap_or(Path::new(""));
    parents.iter().try_fold(release.try_clone()?, |dir, name| match dir.open_inside(name.as_bytes()) {
        Err(error) if create && error.kind() == ErrorKind::NotFound => {
            dir.open_or_create_dir(name.as_bytes(), 0o755)
        }
        opened => opened,
    })
}

/// The state shared by the threads of a walk.
struct Walk<'a> {
    from: &'a Dir,
    to: Option<&'a Dir>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    sum: u128,
    error: Option<io::Error>,
    /// The directories of the copy. Their modes and times are set at the end, because a mode may forbid writing.
    directories: Vec<(PathBuf, Stat)>,
}

fn walk(from: &Dir, to: Option<&Dir>, path: &Path, threads: usize, stop: &Stop) -> io::Result<Fingerprint> {
    let walk = Walk { from, to, found: Mutex::default() };
    let parents = (open_parent(from, path, false)?, to.map(|to| open_parent(to, path, true)).transpose()?);
    let first = walk.entry(&parents.0, parents.1.as_ref(), path)?;
    drop(parents);
    let work = |(): &mut (), directory: PathBuf| {
        if walk.lock().error.is_some() {
            return Vec::new();
        }
        let interrupted = |_| io::Error::from(ErrorKind::Interrupted);
        stop.check().map_err(interrupted).and_then(|()| walk.directory(&directory)).unwrap_or_else(|error| {
            walk.lock().error.get_or_insert(error);
            Vec::new()
        })
    };
    for_each_found(threads, first.into_iter().collect(), || (), work);
    let Found { sum, error, directories } = walk.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    error.map_or(Ok(()), Err)?;
    to.map_or(Ok(()), |to| finish_directories(to, directories))?;
    Ok(Fingerprint(sum))
}

impl Walk<'_> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Processes the entries of a directory. Returns its subdirectories.
    fn directory(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        // The parent of any name in the directory is the directory itself.
        let inside = path.join("x");
        let from = open_parent(self.from, &inside, false)?;
        let to = self.to.map(|to| open_parent(to, &inside, false)).transpose()?;
        let mut directories = Vec::new();
        for (name, _) in from.names()? {
            directories.extend(self.entry(&from, to.as_ref(), &path.join(OsStr::from_bytes(&name)))?);
        }
        Ok(directories)
    }

    /// Processes one entry. Returns its path if it is a directory.
    fn entry(&self, from: &Dir, to: Option<&Dir>, path: &Path) -> io::Result<Option<PathBuf>> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let stat = from.stat(name)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if let Some(to) = to {
            match kind {
                FileType::Directory => to.create_dir(name, 0o700)?,
                FileType::RegularFile => copy_file(from, to, name, &stat)?,
                FileType::Symlink => {
                    to.create_symlink(&from.read_link(name)?, name)?;
                    utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                _ => {
                    return Err(io::Error::new(ErrorKind::Unsupported, "contains a socket, FIFO, or device"));
                }
            }
        }
        let is_directory = kind == FileType::Directory;
        let mut found = self.lock();
        found.sum = found.sum.wrapping_add(summand(path, &stat, is_directory));
        if is_directory && to.is_some() {
            found.directories.push((path.to_owned(), stat));
        }
        Ok(is_directory.then(|| path.to_owned()))
    }
}

fn copy_file(from: &Dir, to: &Dir, name: &[u8], stat: &Stat) -> io::Result<()> {
    let mut source = from.open_regular(name, OFlags::RDONLY)?;
    let mut copy = to.create_file(name, 0o600)?;
    // Between two files this is copy_file_range(2), which creates a reflink if the file system supports it.
    io::copy(&mut source, &mut copy)?;
    let now = fstat(&source)?;
    if state_of(&now) != state_of(stat) || now.st_ino != stat.st_ino {
        return Err(io::Error::other("a file was changed while it was copied"));
    }
    take_over(&copy, stat)
}

/// Copies the mode and the modification time.
fn take_over(copy: &File, stat: &Stat) -> io::Result<()> {
    fchmod(copy, Mode::from_raw_mode(stat.st_mode & 0o777))?;
    Ok(futimens(copy, &times(stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() };
    Timestamps { last_access: time, last_modification: time }
}

fn finish_directories(to: &Dir, mut directories: Vec<(PathBuf, Stat)>) -> io::Result<()> {
    // Children come before their parents.
    directories.sort_by(|(a, _), (b, _)| b.cmp(a));
    directories.iter().try_for_each(|(path, stat)| {
        let copy = open_parent(to, &path.join("x"), false)?;
        // The set-group-id bit may be inherited from the site.
        let inherited = copy.own_stat()?.st_mode & Mode::SGID.bits();
        fchmod(&copy, Mode::from_raw_mode(stat.st_mode & 0o777 | inherited))?;
        Ok(futimens(&copy, &times(stat))?)
    })
}

/// Returns what a change of a file's content changes: its size, and a time.
fn state_of(stat: &Stat) -> (i64, i64, u64) {
    // No program can set the ctime. However, it also changes with every new hard link, which package stores create.
    match stat.st_nlink {
        1 => (stat.st_size, stat.st_ctime, stat.st_ctime_nsec),
        _ => (stat.st_size, stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Returns the contribution of one entry to the fingerprint.
fn summand(path: &Path, stat: &Stat, is_directory: bool) -> u128 {
    let mut digest = Sha256::new();
    digest.update(path.as_os_str().as_bytes());
    digest.update([0]);
    digest.update(stat.st_mode.to_le_bytes());
    if !is_directory {
        let (size, seconds, nanoseconds) = state_of(stat);
        digest.update(size.to_le_bytes());
        digest.update(seconds.to_le_bytes());
        digest.update(nanoseconds.to_le_bytes());
    }
    let digest: [u8; 32] = digest.finalize().into();
    digest.first_chunk().map_or(0, |first| u128::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tree() -> (tempfile::TempDir, Dir, Dir) {
        let root = tempfile::tempdir().unwrap();
        let (old, new) = (root.path().join("old"), root.path().join("new"));
        for dir in [old.join("out/deep/er"), old.join("out/empty"), new.clone()] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(old.join("out/program"), "run").unwrap();
        fs::set_permissions(old.join("out/program"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::write(old.join("out/deep/er/file"), vec![7; 100_000]).unwrap();
        symlink("../../../elsewhere", old.join("out/deep/link")).unwrap();
        fs::set_permissions(old.join("out/deep"), fs::Permissions::from_mode(0o555)).unwrap();
        let opened = (Dir::open(&old).unwrap(), Dir::open(&new).unwrap());
        (root, opened.0, opened.1)
    }

    #[test]
    fn a_copy_has_contents_modes_times_and_links() {
        let (root, old, new) = tree();
        let stop = Stop::never();
        let copied = copy(&old, &new, Path::new("out"), 4, &stop).unwrap();
        assert_eq!(copied, fingerprint(&old, Path::new("out"), 1, &stop).unwrap());
        let (old, new) = (root.path().join("old/out"), root.path().join("new/out"));
        let modified = |path: PathBuf| fs::symlink_metadata(path).unwrap().modified().unwrap();
        for name in ["program", "deep", "deep/er/file", "deep/link", "empty"] {
            assert_eq!(modified(old.join(name)), modified(new.join(name)), "{name}");
        }
        assert_eq!(fs::read(new.join("deep/er/file")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::read_link(new.join("deep/link")).unwrap(), Path::new("../../../elsewhere"));
        let mode = |name: &str| fs::metadata(new.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("program"), mode("deep")), (0o755, 0o555));
        for dir in [&old, &new] {
            fs::set_permissions(dir.join("deep"), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn a_change_of_any_file_shows() {
        let (root, old, _) = tree();
        let out = root.path().join("old/out");
        fs::set_permissions(out.join("deep"), fs::Permissions::from_mode(0o755)).unwrap();
        let now = || fingerprint(&old, Path::new("out"), 2, &Stop::never()).unwrap();
        let mut seen = vec![now()];
        let mut differs = |change: &str| {
            let next = now();
            assert!(!seen.contains(&next), "{change}");
            seen.push(next);
        };
        fs::write(out.join("empty/new"), "").unwrap();
        differs("a new file");
        Dir::open(&out).unwrap().remove(b"deep").unwrap();
        differs("a removed directory");
        // The ctime only changes at the next tick of the clock.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let modified = fs::metadata(out.join("program")).unwrap().modified().unwrap();
        fs::write(out.join("program"), "RUN").unwrap();
        File::options().write(true).open(out.join("program")).unwrap().set_modified(modified).unwrap();
        differs("the same size and time, but other content");
    }

    #[test]
    fn nothing_outside_of_the_release_is_read_or_written() {
        let (root, old, new) = tree();
        let outside = root.path().join("outside");
        fs::create_dir_all(outside.join("x")).unwrap();
        symlink(&outside, root.path().join("old/away")).unwrap();
        symlink(&outside, root.path().join("new/out")).unwrap();
        let stop = Stop::never();
        fingerprint(&old, Path::new("away/x"), 1, &stop).unwrap_err();
        copy(&old, &new, Path::new("out/deep"), 1, &stop).unwrap_err();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        let link = fingerprint(&old, Path::new("away"), 1, &stop).unwrap();
        copy(&old, &new, Path::new("away"), 1, &stop).unwrap();
        assert_eq!(fs::read_link(root.path().join("new/away")).unwrap(), outside);
        assert_ne!(link, Fingerprint::default());
    }

    #[test]
    fn a_file_that_changes_while_it_is_copied_is_an_error() {
        let (root, old, new) = tree();
        let out = open_parent(&old, Path::new("out/x"), false).unwrap();
        let stat = out.stat(b"program").unwrap();
        copy_file(&out, &new, b"program", &stat).unwrap();
        fs::write(root.path().join("old/out/program"), "longer").unwrap();
        new.remove(b"program").unwrap();
        copy_file(&out, &new, b"program", &stat).unwrap_err();
    }

    #[test]
    fn sockets_are_not_copied() {
        let (root, old, new) = tree();
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("old/out/s")).unwrap();
        let error = copy(&old, &new, Path::new("out"), 2, &Stop::never()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
