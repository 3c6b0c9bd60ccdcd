//! The installer's lists: which repositories this server has, and which user owns each.
//!
//! Root writes them, so they decide what the login shell runs and where root's commands go. The rest of the installer's
//! ledger is readable by root alone.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directory with a file for each account, which lists the account's repositories, one path per line.
pub const LEDGERS: &str = "/var/lib/bluegreen/accounts";

/// The maximum size of a list, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// A repository in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its path.
    pub repository: PathBuf,
    /// The user who owns it.
    pub user: String,
}

/// Reads all lists. Files whose name starts with a dot are skipped: they are temporary files, and an installer that was
/// killed leaves one behind. A path without a line end is incomplete and skipped as well.
pub fn read(ledgers: &Path) -> Vec<Entry> {
    let files = ledgers.read_dir().into_iter().flatten().flatten();
    let mut entries: Vec<Entry> = files
        .filter(|file| !file.file_name().as_bytes().starts_with(b"."))
        .filter_map(|file| Some(parse(&text(&file.path())?, file.file_name().to_str()?)))
        .flatten()
        .collect();
    entries.sort();
    entries.dedup_by(|a, b| a.repository == b.repository);
    entries
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(MAX_SIZE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Parses the list of an account.
fn parse(list: &str, user: &str) -> Vec<Entry> {
    let lines = list.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let paths = lines.filter(|path| path.starts_with('/'));
    paths.map(|path| Entry { repository: path.into(), user: user.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_and_incomplete_lines_are_ignored() {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("deploy", "/home/deploy/a\n/srv/git/b\nrelative\n\n/srv/git/incompl"),
            (".deploy.bluegreen-new", "/home/deploy/c\n"),
            ("ann", "/home/ann/a\n"),
            ("bob", ""),
        ] {
            std::fs::write(temp.path().join(name), text).unwrap();
        }
        std::fs::create_dir(temp.path().join("directory")).unwrap();
        let entry = |repository: &str, user: &str| Entry { repository: repository.into(), user: user.into() };
        let expected =
            [entry("/home/ann/a", "ann"), entry("/home/deploy/a", "deploy"), entry("/srv/git/b", "deploy")];
        assert_eq!(read(temp.path()), expected);
        assert!(read(&temp.path().join("missing")).is_empty());
    }
}
