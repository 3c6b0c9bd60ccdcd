//! The git settings that decide how files are converted.
//!
//! In `core`, only the repository's own settings count. With those of the deploy user, two servers could serve different files
//! from one commit. Filter drivers may also come from the user and the system, because a tree can only name them. For example,
//! `git lfs install` defines one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The `core` settings that the repository's own config may set, with the defaults that replace any others.
const OWN: [(&str, &str); 4] = [
    ("core.autocrlf", "false"),
    ("core.eol", "native"),
    ("core.ignorecase", "false"),
    ("core.attributesfile", "/dev/null"),
];

/// Words of which one must occur in the repository's config file if it sets one of [`OWN`] that converts.
const WORDS: [&[u8]; 4] = [b"autocrlf", b"eol", b"attributesfile", b"include"];

/// The settings that decide about conversions.
#[derive(Debug, Default)]
pub struct Settings {
    own: [Option<Vec<u8>>; 4],
    /// `filter.*`, as `<key>\n<value>`, in git's order.
    filters: Vec<Vec<u8>>,
    lfs_storage: Option<PathBuf>,
    /// Whether git-lfs has a remote from which it could fetch objects.
    pub has_lfs_remote: bool,
}

impl Settings {
    /// Returns whether the text of the repository's config file could set anything that converts.
    #[must_use]
    pub fn may_be_in(text: &[u8]) -> bool {
        let text = text.to_ascii_lowercase();
        WORDS.iter().any(|word| text.windows(word.len()).any(|window| window == *word))
    }

    /// Parses the output of `git config --list --show-scope -z`. Later settings override earlier ones.
    #[must_use]
    pub fn parse(output: &[u8]) -> Self {
        let mut settings = Self::default();
        let mut parts = output.split(|&byte| byte == 0);
        while let (Some(scope), Some(setting)) = (parts.next(), parts.next()) {
            let mut lines = setting.splitn(2, |&byte| byte == b'\n');
            // A key without a value means "true".
            let (key, value) = (lines.next().unwrap_or_default(), lines.next().unwrap_or(b"true"));
            let is_own = scope == b"local" || scope == b"worktree";
            if let Some(at) = OWN.iter().position(|(own, _)| own.as_bytes() == key).filter(|_| is_own) {
                settings.own[at] = Some(value.to_vec());
            } else if key.starts_with(b"filter.") {
                settings.filters.push(setting.to_vec());
            } else if key == b"lfs.storage" {
                settings.lfs_storage = Some(OsStr::from_bytes(value).into());
            } else if key == b"lfs.url" || key.starts_with(b"remote.") && key.ends_with(b"url") {
                settings.has_lfs_remote = true;
            }
        }
        settings
    }

    /// Returns the `-c` arguments that pass these settings to git.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let own = OWN.iter().zip(&self.own).map(|((key, default), value)| {
            let value = value.as_deref().unwrap_or(default.as_bytes());
            OsStr::from_bytes(&[key.as_bytes(), b"=", value].concat()).to_owned()
        });
        own.flat_map(|setting| ["-c".into(), setting]).collect()
    }

    /// Returns whether text is written with CRLF if no attribute decides (`text_eol_is_crlf` in git's convert.c).
    #[must_use]
    pub fn has_crlf(&self) -> bool {
        let is = |at: usize, word: &str| {
            self.own[at].as_ref().is_some_and(|value| value.eq_ignore_ascii_case(word.as_bytes()))
        };
        self.converts_all() || !is(0, "input") && is(1, "crlf")
    }

    /// Returns whether every text file is written with CRLF, with or without attributes.
    #[must_use]
    pub fn converts_all(&self) -> bool {
        let no = [&b"input"[..], b"false", b"no", b"off", b"0", b""];
        self.own[0].as_ref().is_some_and(|value| !no.contains(&value.to_ascii_lowercase().as_slice()))
    }

    /// Returns whether attributes match names case-insensitively.
    #[must_use]
    pub fn ignores_case(&self) -> bool {
        self.own[2].as_ref().is_some_and(|value| value != b"false")
    }

    /// Returns the `core.attributesFile` of the repository's own config.
    #[must_use]
    pub fn attributes_file(&self) -> Option<&Path> {
        self.own[3].as_deref().map(|path| Path::new(OsStr::from_bytes(path)))
    }

    /// Returns whether a filter driver is defined.
    #[must_use]
    pub fn has_filter(&self, driver: &[u8]) -> bool {
        self.drivers().any(|name| name == driver)
    }

    /// Returns the names of all filter drivers that are defined.
    pub fn drivers(&self) -> impl Iterator<Item = &[u8]> {
        self.filters.iter().filter_map(|setting| {
            let key = setting.split(|&byte| byte == b'\n').next()?.strip_prefix(b"filter.")?;
            Some(&key[..key.iter().rposition(|&byte| byte == b'.')?])
        })
    }

    /// Returns the directories in which git-lfs stores the objects of the repository at `git_dir`.
    #[must_use]
    pub fn lfs_stores(&self, git_dir: &Path) -> Vec<PathBuf> {
        let own = self.lfs_storage.clone().unwrap_or_else(|| "lfs".into());
        let alternates = std::fs::read(git_dir.join("objects/info/alternates")).unwrap_or_default();
        let alternates = alternates
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
            .map(|line| git_dir.join("objects").join(OsStr::from_bytes(line)).join("../lfs/objects"));
        std::iter::once(git_dir.join(own).join("objects")).chain(alternates).collect()
    }

    /// Concatenates all settings that decide how files are converted, for comparison with another release.
    #[must_use]
    pub fn fingerprint(&self) -> Vec<u8> {
        let own = self.own.iter().map(|value| value.clone().unwrap_or_default());
        own.chain(self.filters.iter().cloned()).collect::<Vec<_>>().join(&0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_repositorys_own_core_settings_count() {
        let settings = Settings::parse(
            b"global\0core.autocrlf\ntrue\0global\0filter.lfs.smudge\ngit-lfs smudge -- %f\0\
              local\0core.eol\nCRLF\0worktree\0core.ignorecase\0local\0remote.origin.url\nx\0",
        );
        assert!(!settings.converts_all() && settings.has_crlf() && settings.ignores_case());
        assert!(settings.has_filter(b"lfs") && !settings.has_filter(b"lf") && settings.has_lfs_remote);
        let arguments = settings.arguments().join(OsStr::new(" "));
        assert_eq!(
            arguments,
            "-c core.autocrlf=false -c core.eol=CRLF -c core.ignorecase=true -c core.attributesfile=/dev/null"
        );
    }

    #[test]
    fn autocrlf_is_read_as_git_does() {
        let own = |value: &str| Settings::parse(format!("local\0core.autocrlf\n{value}\0").as_bytes());
        assert!(["true", "1", "yes", "TRUE"].map(|value| own(value).converts_all()).iter().all(|is| *is));
        assert!(["input", "false", "0"].map(|value| own(value).has_crlf()).iter().all(|is| !*is));
    }

    #[test]
    fn an_ordinary_config_needs_no_git() {
        assert!(!Settings::may_be_in(b"[core]\n\tbare = true\n[receive]\n\tdenyDeletes = true\n"));
        assert!(Settings::may_be_in(b"[core]\n\tAutoCRLF = input\n"));
        assert!(Settings::may_be_in(b"[includeIf \"gitdir:/x\"]\n\tpath = y\n"));
    }
}
