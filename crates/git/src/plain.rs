//! Reads branches without git: from a loose ref or from `packed-refs`.
//!
//! Starting git takes longer than deploying a small release. Everything unusual is left to git: other ref formats,
//! extensions, symbolic refs, worktrees, and a config that git might reject.

use std::fs;
use std::io::ErrorKind;

use bluegreen_object_store::ObjectId;

use super::Repository;
use super::settings::RECOMMENDED;

/// The maximum size of `packed-refs`, in bytes. git searches larger files faster.
const MAX_PACKED: u64 = 1 << 20;

/// The state of a branch according to the files of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlainTip {
    Commit(ObjectId),
    Missing,
}

impl PlainTip {
    pub(super) fn commit(self) -> Option<ObjectId> {
        match self {
            Self::Commit(id) => Some(id),
            Self::Missing => None,
        }
    }
}

impl Repository {
    /// Reads the commit that a branch points to. Returns `None` if git might return something else.
    pub(super) fn plain_tip(&self, branch: &str) -> Option<PlainTip> {
        let config = fs::read_to_string(self.path.join("config")).ok()?;
        if !is_plain_name(branch) || !is_plain_config(&config) || self.path.join("commondir").exists() {
            return None;
        }
        let name = format!("refs/heads/{branch}");
        match fs::read(self.path.join(&name)) {
            Ok(text) => ObjectId::parse(text.strip_suffix(b"\n")?).map(PlainTip::Commit),
            // git writes `packed-refs` before it removes the file that was missing here.
            Err(error) if error.kind() == ErrorKind::NotFound => self.packed_tip(&name),
            Err(_) => None,
        }
    }

    /// Returns whether the repository is bare and has no linked work trees, so that no branch is checked out. May return
    /// false for a config that only git can read.
    pub(super) fn is_plainly_bare(&self) -> bool {
        let config = fs::read_to_string(self.path.join("config")).unwrap_or_default();
        let is_other = ["commondir", "worktrees"].iter().any(|name| self.path.join(name).exists());
        is_plain_config(&config) && !is_other && is_bare(&config)
    }

    fn packed_tip(&self, name: &str) -> Option<PlainTip> {
        let path = self.path.join("packed-refs");
        let text = match path.metadata() {
            Ok(metadata) if metadata.len() <= MAX_PACKED => fs::read(path).ok()?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Some(PlainTip::Missing),
            _ => return None,
        };
        let id = |line: &'_ [u8]| line.strip_suffix(name.as_bytes())?.strip_suffix(b" ").map(<[u8]>::to_vec);
        match text.split(|&byte| byte == b'\n').find_map(id) {
            Some(id) => ObjectId::parse(&id).map(PlainTip::Commit),
            None => Some(PlainTip::Missing),
        }
    }
}

/// Returns whether git uses a branch name unchanged, and the name is safe as a path.
fn is_plain_name(branch: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_component = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part.bytes().all(is_plain)
            && !part.contains("..")
            && !part.ends_with('.')
            && !part.to_ascii_lowercase().ends_with(".lock")
    };
    branch.split('/').all(is_component)
}

/// Returns whether a config resembles what `git init` writes: it does not affect where refs are stored, and git certainly
/// accepts it.
fn is_plain_config(text: &str) -> bool {
    let mut section = String::new();
    text.lines().map(str::trim).all(|line| {
        if line.is_empty() || line.starts_with(['#', ';']) {
            return true;
        }
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').unwrap_or_default().to_ascii_lowercase();
            let first = section.split(' ').next().unwrap_or_default();
            return ["core", "receive", "transfer", "http", "remote", "branch", "gc"].contains(&first)
                && !section.contains(['\\', ']', '[']);
        }
        let (key, value) =
            line.split_once('=').map_or((line, "true"), |(key, value)| (key.trim(), value.trim()));
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_switch = value == "true" || value == "false";
        is_key
            && !value.contains(['\\', '"', ';', '#'])
            && match (section.as_str(), key.to_ascii_lowercase().as_str()) {
                ("core", "repositoryformatversion") => value == "0",
                ("core", "bare" | "filemode" | "ignorecase" | "logallrefupdates") => is_switch,
                ("core", "fsync") => is_recommended("core.fsync", value),
                ("core", _) => false,
                (section, _) => !section.is_empty(),
            }
    })
}

/// Returns whether a plain config marks the repository as bare. The last setting wins.
fn is_bare(config: &str) -> bool {
    let mut section = "";
    let mut bare = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.eq_ignore_ascii_case("[core]") {
            let (key, value) = line.split_once('=').unwrap_or((line, "true"));
            if key.trim().eq_ignore_ascii_case("bare") {
                bare = value.trim() == "true";
            }
        }
    }
    bare
}

fn is_recommended(key: &str, value: &str) -> bool {
    RECOMMENDED.iter().any(|setting| setting.key == key && setting.value == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_as_git_init_writes_it_is_plain() {
        let plain = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
        assert!(is_plain_config(plain));
        let more = "[receive]\n\tdenyDeletes\n[remote \"origin\"]\n\turl = /srv/a.git\n# a comment\n";
        assert!(is_plain_config(&format!("{plain}{more}")));
        for setting in RECOMMENDED {
            let (section, key) = setting.key.split_once('.').unwrap();
            let set = format!("{plain}[{section}]\n\t{key} = {}\n", setting.value);
            assert!(is_plain_config(&set), "{set}");
        }
        for odd in [
            "[core]\nfsync",
            "[core]\nrepositoryformatversion = 1",
            "[core]\nbare = maybe",
            "[core]\nworktree = ..",
            "[core] bare = true",
            "[core",
            "[Extensions]\nrefStorage = reftable",
            "[include]\npath = other",
            "[includeIf \"gitdir:/x\"]\npath = other",
            "[gc]\nauto = \"0",
            "[gc]\nauto = 0 \\\n",
            "[gc]\n= 0",
            "[gc]\ntwo words = 0",
        ] {
            assert!(!is_plain_config(&format!("{plain}{odd}\n")), "{odd}");
        }
        assert!(!is_plain_config("bare = true"), "a key in no section");
    }

    #[test]
    fn the_last_setting_says_whether_a_repository_is_bare() {
        assert!(is_bare("[core]\n\tbare = true\n"));
        assert!(is_bare("[Core]\nBare\n"));
        for other in ["", "[core]\nbare = false", "[core]\nbare = true\nbare = false", "[gc]\nbare = true"] {
            assert!(!is_bare(other), "{other}");
        }
    }

    #[test]
    fn a_branch_is_read_or_missing_without_git() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        for folder in ["objects", "refs", "refs/heads", "refs/heads/folder"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        put("HEAD", "ref: refs/heads/master\n");
        put("config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n");
        let repository = Repository::open(dir.path()).unwrap();
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let commit = |text: &str| ObjectId::parse(text.as_bytes()).map(PlainTip::Commit);
        assert_eq!(repository.plain_tip("master"), Some(PlainTip::Missing));
        put(
            "packed-refs",
            &format!("# pack-refs with: peeled\n{one} refs/heads/master\n{one} refs/heads/x\n"),
        );
        assert_eq!(repository.plain_tip("master"), commit(&one));
        assert_eq!(repository.plain_tip("aster"), Some(PlainTip::Missing));
        put("refs/heads/master", &format!("{two}\n"));
        assert_eq!(repository.plain_tip("master"), commit(&two));
        // Everything unusual is left to git.
        put("refs/heads/link", "ref: refs/heads/master\n");
        put("packed-refs", "damaged refs/heads/damaged\n");
        for unusual in ["link", "folder", "damaged", "master/x", "a b"] {
            assert_eq!(repository.plain_tip(unusual), None, "{unusual}");
        }
        put("config", "[extensions]\n\trefStorage = reftable\n");
        assert_eq!(repository.plain_tip("missing"), None);
    }

    #[test]
    fn only_names_that_are_paths_too_are_plain() {
        for plain in ["master", "release/1.2", "a-b_c"] {
            assert!(is_plain_name(plain), "{plain}");
        }
        for odd in
            ["", "/a", "a/", "a//b", "..", "a/../b", ".a", "a..b", "a.lock", "a.", "-a", "a b", "a@{1}"]
        {
            assert!(!is_plain_name(odd), "{odd}");
        }
    }
}
