//! Damage to a release by a user who edits it in place, which must not happen but does.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The number of ways in which [`vandalise`] changes a release.
pub const WAYS: u8 = 21;

/// Changes one or two paths below `release`, chosen by index. `outside` is another directory that symlinks
/// may point to. A way that does not apply to the path does nothing.
pub fn vandalise(release: &Path, outside: &Path, way: u8, first: usize, second: usize) {
    match attempt(release, outside, way, first, second) {
        // An earlier change may have made a directory inaccessible to this one.
        Err(error) if !matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::AlreadyExists) => {
            panic!("way {way} in {}: {error}", release.display())
        }
        _ => {}
    }
}

fn attempt(release: &Path, outside: &Path, way: u8, first: usize, second: usize) -> io::Result<()> {
    let mut paths = Vec::new();
    list(release, &mut paths);
    if paths.is_empty() {
        return add(&release.join("added"));
    }
    let (path, other) = (&paths[first % paths.len()], &paths[second % paths.len()]);
    let is_file = path.symlink_metadata()?.is_file();
    let is_link = path.is_symlink();
    let is_dir = !is_link && path.is_dir();
    let chmod = |mode| fs::set_permissions(path, Permissions::from_mode(mode));
    match way {
        // Equal size and mtime: only content and ctime differ.
        0 if is_file => {
            let modified = path.metadata()?.modified()?;
            let content: Vec<u8> = fs::read(path)?.iter().map(|byte| byte ^ 1).collect();
            fs::write(path, content)?;
            File::options().write(true).open(path)?.set_modified(modified)?;
        }
        1 if is_file => {
            let aside = path.with_file_name("aside");
            fs::write(&aside, "replaced")?;
            fs::rename(aside, path)?;
        }
        2 if !is_link => chmod(0o777)?,
        3 if is_file => chmod(0o600)?,
        4 if is_file => {
            let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            File::options().write(true).open(path)?.set_modified(past)?;
        }
        5 => {
            remove(path)?;
            symlink(outside, path)?;
        }
        6 => {
            remove(path)?;
            fs::create_dir_all(path.join("a/b"))?;
            fs::write(path.join("a/file"), "in the way")?;
        }
        7 if is_dir => add(&path.join("a"))?,
        8 => add(&release.join(OsStr::from_bytes(b"\xff")))?,
        9 => remove(path)?,
        10 if is_dir => chmod(0)?,
        // Exchanges two paths. A directory cannot be exchanged with its own contents.
        11 if !path.starts_with(other) && !other.starts_with(path) => {
            exchange(path, other, &release.join("aside"))?;
        }
        12 if is_file && path != other && !path.starts_with(other) => {
            remove(other)?;
            fs::hard_link(path, other)?;
        }
        // A hard link: writing through this name changes a file elsewhere.
        13 if !is_dir => {
            remove(path)?;
            fs::hard_link(outside.join("precious"), path)?;
        }
        14 if is_file => fs::write(path, "")?,
        15 if !is_dir => {
            remove(path)?;
            rustix::fs::mknodat(
                rustix::fs::CWD,
                path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o644),
                0,
            )?;
        }
        // Rewrites identical content. Only the inode differs.
        16 if is_file => {
            let (content, mode) = (fs::read(path)?, path.metadata()?.permissions());
            remove(path)?;
            fs::write(path, content)?;
            fs::set_permissions(path, mode)?;
        }
        17 if is_dir => {
            remove(path)?;
            fs::write(path, "was a directory")?;
        }
        // Exchanges two directories, ideally with files of equal names and sizes.
        18 if let Some([one, other]) = two_of(&paths, first, second, Path::is_dir)
            && !one.starts_with(other)
            && !other.starts_with(one) =>
        {
            exchange(one, other, &release.join("aside"))?;
        }
        // Moves a directory into another one.
        19 if let Some([one, other]) = two_of(&paths, first, second, Path::is_dir)
            && !other.starts_with(one) =>
        {
            let moved = other.join("moved");
            if !moved.exists() {
                fs::rename(one, moved)?;
            }
        }
        // Exchanges two files, which does not change their parents' entries.
        20 if let Some([one, other]) = two_of(&paths, first, second, Path::is_file) => {
            exchange(one, other, &release.join("aside"))?;
        }
        _ => {}
    }
    Ok(())
}

/// Returns two paths of one type, chosen by index, but no symlinks.
fn two_of(paths: &[PathBuf], first: usize, second: usize, kind: fn(&Path) -> bool) -> Option<[&PathBuf; 2]> {
    let fit: Vec<&PathBuf> = paths.iter().filter(|path| !path.is_symlink() && kind(path)).collect();
    let (one, other) = (fit.get(first % fit.len().max(1))?, fit[second % fit.len()]);
    (*one != other).then_some([one, other])
}

/// Exchanges two paths.
fn exchange(one: &Path, other: &Path, aside: &Path) -> io::Result<()> {
    fs::rename(one, aside)?;
    fs::rename(other, one)?;
    fs::rename(aside, other)
}

/// Creates a new file. Opening an existing path could follow a symlink out of the tree.
fn add(path: &Path) -> io::Result<()> {
    File::create_new(path)?.write_all(b"added")
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Lists everything below a directory, sorted by name.
fn list(directory: &Path, paths: &mut Vec<PathBuf>) {
    // Unless it runs as root, the test cannot read a directory that is closed to its owner.
    let Ok(entries) = directory.read_dir() else { return };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    for path in found {
        let is_dir = !path.is_symlink() && path.is_dir();
        paths.push(path.clone());
        if is_dir {
            list(&path, paths);
        }
    }
}
