//! The installer's ledgers: which repositories this server has, and which user owns each.
//!
//! Root writes them, so they decide what the login shell runs and where root's commands go.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directory with one file per repository that the installer has set up.
pub const LEDGERS: &str = "/var/lib/bluegreen/repositories";

/// The maximum size of a ledger, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// A repository in a ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its path.
    pub repository: PathBuf,
    /// The user who owns it.
    pub user: String,
}

/// Reads all ledgers. Files whose name starts with a dot are skipped: they are temporary files, and an installer
/// that was killed leaves one behind. A ledger without a user or a repository is incomplete and skipped as well.
pub fn read(ledgers: &Path) -> Vec<Entry> {
    let files = ledgers.read_dir().into_iter().flatten().flatten();
    let mut entries: Vec<Entry> = files
        .filter(|file| !file.file_name().as_bytes().starts_with(b"."))
        .filter_map(|file| parse(&text(&file.path())?))
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

/// Parses a ledger; of several lines with one key, the last one counts.
fn parse(ledger: &str) -> Option<Entry> {
    let value = |key| ledger.lines().filter_map(|line| line.strip_prefix(key)).next_back();
    let user = value("user ").filter(|user| !user.is_empty())?.to_owned();
    let repository = value("repository ").filter(|path| path.starts_with('/'))?.into();
    Some(Entry { repository, user })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_key_counts() {
        let ledger = "repository /home/deploy/a\nuser deploy\nsite /srv/a\nrepository /home/deploy/b\n";
        let entry = Entry { repository: "/home/deploy/b".into(), user: "deploy".into() };
        assert_eq!(parse(ledger), Some(entry));
        for incomplete in ["user deploy\n", "repository /home/deploy/a\n", "", "user \nrepository /a\n"] {
            assert_eq!(parse(incomplete), None, "{incomplete}");
        }
    }

    #[test]
    fn temporary_and_incomplete_files_are_ignored() {
        let temp = tempfile::tempdir().unwrap();
        let ledger = "user deploy\nrepository /home/deploy/a\n";
        for (name, text) in [
            ("-home-deploy-a", ledger),
            ("..-home-deploy-a.bluegreen-new", ledger),
            (".-home-deploy-b.bluegreen-new", "user deploy\nrepository /home/deploy/b\n"),
            ("-home-deploy-c", "user deploy\n"),
            ("-home-deploy-a~", ledger),
        ] {
            std::fs::write(temp.path().join(name), text).unwrap();
        }
        std::fs::create_dir(temp.path().join("directory")).unwrap();
        let found = read(temp.path());
        assert_eq!(found, [Entry { repository: "/home/deploy/a".into(), user: "deploy".into() }]);
        assert!(read(&temp.path().join("missing")).is_empty());
    }
}
