//! Formatting of values in error messages.

use std::path::{Path, PathBuf};

use bluegreen_text::printable;

pub(super) fn place(file: &Path, line: usize) -> String {
    let file = printable(file);
    if line == 0 { file } else { format!("{file}:{line}") }
}

pub(super) fn foreign(owner: Option<&str>) -> String {
    owner.map_or_else(|| "may be written by others".into(), |name| format!("belongs to {name}"))
}

pub(super) fn no_log(release: Option<&str>) -> String {
    release.map_or_else(|| "there is no log yet".into(), |name| format!("release {name} has no log"))
}

pub(super) fn submodules(paths: &[PathBuf]) -> String {
    let noun = if paths.len() == 1 { "submodule" } else { "submodules" };
    format!("{} {noun} ({})", paths.len(), listed(paths))
}

/// Formats the first ten paths of a list, and how many more there are.
pub(super) fn listed(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<String> =
        paths.iter().take(SHOWN).map(|path| format!("`{}`", printable(path))).collect();
    if paths.len() > SHOWN {
        names.push(format!("and {} more", paths.len() - SHOWN));
    }
    names.join(", ")
}
