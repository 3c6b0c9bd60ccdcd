//! [`Options`]: everything that the caller of a checkout decides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// The options of a checkout.
#[derive(Debug, Clone)]
pub struct Options {
    /// The number of threads; 0 stands for one per core.
    pub threads: usize,
    /// The maximum number of files, links, and directories.
    pub max_files: u32,
    /// The maximum size of all files together, in bytes.
    pub max_size: u64,
    /// The folder of the commit that is written; empty for the whole commit.
    pub subdirectory: PathBuf,
    pub symlinks: Symlinks,
    /// Paths that the caller will replace by symlinks that may point outside, in any order.
    pub replaced: Vec<PathBuf>,
    pub submodules: Submodules,
    /// The timeout for fetching one submodule.
    pub submodule_timeout: Duration,
    pub lfs: Lfs,
    /// The timeout for git and its filters while they convert files.
    pub filter_timeout: Duration,
    /// A directory on the file system of the release, for temporary files.
    pub scratch: PathBuf,
    /// The start of the names of temporary files in `scratch`.
    pub scratch_prefix: &'static str,
}

/// The treatment of symlinks that point outside the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symlinks {
    /// They are errors.
    Inside,
    /// They are written as they are.
    Any,
}

/// The treatment of submodules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Submodules {
    /// They stay empty directories. The caller prints a warning.
    Warn,
    /// They are errors.
    Refuse,
    /// They are fetched and written.
    Fetch,
}

/// The treatment of Git LFS files whose content is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lfs {
    /// They are errors.
    Refuse,
    /// Their pointers are written, with a warning.
    Warn,
}

impl Options {
    /// Returns the number of levels of `path` below a replaced path: 0 for that path itself, [`None`] outside.
    #[must_use]
    pub fn depth_in_replaced(&self, path: &Path) -> Option<u32> {
        let mut depths = self.replaced.iter().filter_map(|replaced| path.strip_prefix(replaced).ok());
        depths.next().map(|rest| rest.components().count() as u32)
    }

    /// Returns the number of threads to start.
    pub(super) fn threads(&self) -> usize {
        match self.threads {
            0 => bluegreen_sys::parallel::available(),
            threads => threads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_count_levels_below_replaced_paths() {
        let options = Options {
            threads: 0,
            max_files: 1,
            max_size: 1,
            subdirectory: PathBuf::new(),
            symlinks: Symlinks::Inside,
            replaced: vec!["storage/uploads".into(), "a".into()],
            submodules: Submodules::Warn,
            submodule_timeout: Duration::ZERO,
            lfs: Lfs::Refuse,
            filter_timeout: Duration::ZERO,
            scratch: PathBuf::new(),
            scratch_prefix: "",
        };
        let depth = |path: &str| options.depth_in_replaced(Path::new(path));
        assert_eq!(["storage/uploads/x/y", "a", "storage", "ab"].map(depth), [Some(2), Some(0), None, None]);
    }
}
