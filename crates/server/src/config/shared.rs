//! `[shared]`: the paths that outlive releases. They are relative, stay inside the release, and do not overlap.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

/// The `[shared]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Shared {
    paths: Vec<SharedPath>,
}

/// One shared path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPath {
    /// The path relative to both the release and `shared/`.
    pub path: PathBuf,
    /// True for a directory, false for a file.
    pub is_dir: bool,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[derive(Default)]
struct Raw {
    dirs: Vec<RelativePath>,
    files: Vec<RelativePath>,
}

/// A relative path without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelativePath(PathBuf);

impl RelativePath {
    /// Iterates over the path's components.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(OsStrExt::as_bytes)
    }
}

impl AsRef<Path> for RelativePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl From<RelativePath> for PathBuf {
    fn from(RelativePath(path): RelativePath) -> Self {
        path
    }
}

impl<'de> Deserialize<'de> for RelativePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let path: PathBuf = Path::new(&text).components().collect();
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        // The path must be normalized: not `a//b`, `./a`, or `a/`.
        if !text.is_empty() && is_plain && path.as_os_str() == text.as_str() && !text.contains('\0') {
            return Ok(Self(path));
        }
        Err(de::Error::custom(format!(
            "invalid path `{}`, expected one inside a release like \"storage/uploads\"",
            text.escape_debug()
        )))
    }
}

impl TryFrom<Raw> for Shared {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let path = |is_dir| move |RelativePath(path): RelativePath| SharedPath { path, is_dir };
        let mut paths: Vec<SharedPath> =
            raw.dirs.into_iter().map(path(true)).chain(raw.files.into_iter().map(path(false))).collect();
        // Paths compare by component, so that a path directly precedes those below it.
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        for pair in paths.windows(2) {
            let (a, b) = (&pair[0].path, &pair[1].path);
            if a == b {
                let what = if pair[0].is_dir == pair[1].is_dir {
                    "listed twice"
                } else {
                    "in both `dirs` and `files`"
                };
                return Err(format!("`{}` is {what}", a.display()));
            }
            if b.starts_with(a) {
                return Err(format!(
                    "`{}` is inside `{}`, which is already shared",
                    b.display(),
                    a.display()
                ));
            }
        }
        Ok(Self { paths })
    }
}

impl Shared {
    /// Iterates over all paths, in order.
    pub fn iter(&self) -> impl Iterator<Item = &SharedPath> {
        self.paths.iter()
    }

    /// Returns whether nothing is shared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn paths_are_read_in_order() {
        let text = "[shared]\ndirs = ['storage/uploads', 'a']\nfiles = ['.env', 'storage/key']\n";
        let shared = Config::parse(text).unwrap().shared;
        let paths: Vec<_> =
            shared.iter().map(|shared| (shared.path.to_str().unwrap(), shared.is_dir)).collect();
        assert_eq!(paths, [(".env", false), ("a", true), ("storage/key", false), ("storage/uploads", true)]);
    }

    #[test]
    fn paths_that_lead_out_or_overlap_are_refused() {
        for path in ["", "/etc", "..", "a/../b", "./a", "a//b", "a/", ".", "a/./b"] {
            let (line, message) = Config::parse(&format!("[shared]\ndirs = ['{path}']\n")).unwrap_err();
            assert_eq!(
                (line, message),
                (
                    2,
                    format!(
                        "`shared.dirs[0]`: invalid path `{path}`, expected one inside a release like \"storage/uploads\""
                    )
                )
            );
        }
        for (lines, expected) in [
            ("dirs = ['a', 'a']", "`a` is listed twice"),
            ("dirs = ['a']\nfiles = ['a']", "`a` is in both `dirs` and `files`"),
            ("dirs = ['a', 'a.b', 'a/b/c']", "`a/b/c` is inside `a`, which is already shared"),
            ("files = ['a']\ndirs = ['a/b']", "`a/b` is inside `a`, which is already shared"),
        ] {
            let (_, message) = Config::parse(&format!("[shared]\n{lines}\n")).unwrap_err();
            assert_eq!(message, format!("`shared`: {expected}"));
        }
    }
}
