//! Alternates: object directories that an object directory borrows from (`info/alternates`).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The depth to which alternates of alternates are followed. Git has the same limit.
const MAX_DEPTH: usize = 5;

/// Appends the alternates of these object directories, and their alternates.
pub(crate) fn append(directories: &mut Vec<PathBuf>) {
    let mut known = 0;
    for _ in 0..MAX_DEPTH {
        let level = known..directories.len();
        known = directories.len();
        for at in level {
            for directory in read(&directories[at]) {
                if !directories.contains(&directory) {
                    directories.push(directory);
                }
            }
        }
    }
}

/// Reads the alternates of one object directory.
fn read(objects: &Path) -> Vec<PathBuf> {
    let text = fs::read(objects.join("info/alternates")).unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    lines.map(|line| objects.join(OsStr::from_bytes(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternates_are_followed_once_and_to_a_limit() {
        let temp = tempfile::tempdir().unwrap();
        let path = |number: usize| temp.path().join(number.to_string());
        for number in 0..8 {
            let next = path(number + 1).display().to_string();
            fs::create_dir_all(path(number).join("info")).unwrap();
            fs::write(path(number).join("info/alternates"), format!("# comment\n\n{next}\n{next}\n"))
                .unwrap();
        }
        let mut found = vec![path(0)];
        append(&mut found);
        assert_eq!(found, (0..=5).map(path).collect::<Vec<_>>());
        fs::write(path(1).join("info/alternates"), path(0).display().to_string()).unwrap();
        let mut found = vec![path(0)];
        append(&mut found);
        assert_eq!(found, [path(0), path(1)]);
    }
}
