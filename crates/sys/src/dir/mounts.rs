//! Finds mounts below a directory. Their files must not be removed.
//!
//! The kernel's mount table is read before a removal starts, so that no directory is emptied halfway. If a file system
//! is mounted later, [`Dir::open_inside`](super::Dir::open_inside) fails, because it never crosses a mount.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::Dir;

/// The mount that contains a directory. Kernels before 5.8 report no mount id. On these, two mounts of one file system
/// compare equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mount {
    Id(u64),
    Device(u32, u32),
}

impl Mount {
    /// Returns the mount that contains an open directory.
    pub(super) fn of(dir: &Dir) -> io::Result<Self> {
        let stat = statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        Ok(if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            Self::Device(stat.stx_dev_major, stat.stx_dev_minor)
        } else {
            Self::Id(stat.stx_mnt_id)
        })
    }
}

impl Dir {
    /// Finds a mount at one of these names in the directory, or below one of them. Single files can be mount points, too.
    pub fn find_mount(&self, names: &[&[u8]]) -> io::Result<Option<PathBuf>> {
        let own = fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd()))?;
        let paths: Vec<Vec<u8>> =
            names.iter().map(|name| own.join(OsStr::from_bytes(name)).into_os_string().into_vec()).collect();
        let is_below = |mount: &Vec<u8>| {
            let below = |path: &Vec<u8>| mount.strip_prefix(path.as_slice());
            paths.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let list = fs::read("/proc/self/mountinfo")?;
        let found = list.split(|&byte| byte == b'\n').filter_map(mount_point).find(is_below);
        Ok(found.map(|mount| PathBuf::from(OsString::from_vec(mount))))
    }
}

/// Parses the mount point, the fifth field, of a line of `/proc/<pid>/mountinfo` (proc(5)). Spaces and backslashes are
/// escaped as octal numbers, such as `\040`.
fn mount_point(line: &[u8]) -> Option<Vec<u8>> {
    let mut rest = line.split(|&byte| byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                path.push(byte);
                rest = &after[3..];
            }
            _ => {
                path.push(first);
                rest = after;
            }
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let line = br"36 35 98:0 /mnt1 /srv/a\040b\134c\011 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line).unwrap(), b"/srv/a b\\c\t");
        assert_eq!(mount_point(b""), None);
    }

    #[test]
    fn mounts_are_found() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert_eq!(dir.find_mount(&[b"a", b"b"]).unwrap(), None);
        assert_eq!(Mount::of(&dir).unwrap(), Mount::of(&dir).unwrap());
        // Every machine has this one.
        let root = Dir::open(std::path::Path::new("/")).unwrap();
        assert_eq!(root.find_mount(&[b"etc", b"proc"]).unwrap(), Some("/proc".into()));
        assert_eq!(root.find_mount(&[b"pro"]).unwrap(), None);
    }
}
