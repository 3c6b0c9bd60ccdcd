//! Parts of the wording of [`super::message`].

use std::fmt;
use std::time::Duration;

use bluegreen_text::{bytes, count, printable, seconds};

use crate::release::ReleaseName;
use crate::site::Live;
use crate::site::history::Action;

/// Writes that a new release is live, how many files have changed, and the number and size of all.
pub fn live(
    to: &mut fmt::Formatter<'_>,
    release: &ReleaseName,
    changed: u64,
    (files, size): (u64, u64),
    took: Duration,
) -> fmt::Result {
    write!(to, "Release {release} is live: {} changed, {}", count(changed, "file"), seconds(took))?;
    // The size of a small site is not worth a word.
    if size < 1_000_000 {
        return Ok(());
    }
    write!(to, " ({} of {} in all)", bytes(size), count(files, "file"))
}

/// Formats the message that an older release is live again, with the one that was live before.
pub fn rolled_back(
    to: &mut fmt::Formatter<'_>,
    release: &ReleaseName,
    from: &Live,
    took: Duration,
) -> fmt::Result {
    write!(to, "Release {release} is live again")?;
    match from {
        Live::Release(from) | Live::Gone(from) => write!(to, ", instead of {from}")?,
        Live::Elsewhere(path) => write!(to, ", instead of `{}`", printable(path))?,
        Live::Nothing => {}
    }
    write!(to, ": {}", seconds(took))
}

/// Capitalizes the first letter of a word.
pub fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// Writes the progress of a checkout.
pub fn writing(to: &mut fmt::Formatter<'_>, done: u64, total: u64) -> fmt::Result {
    let percent = (done * 100).checked_div(total).unwrap_or(100);
    write!(to, "Writing files: {percent:>3}% ({done}/{total})")
}

/// Writes the size of a release that a dry run has planned.
pub fn contents(
    to: &mut fmt::Formatter<'_>,
    files: u64,
    changed: u64,
    recycled: Option<&ReleaseName>,
) -> fmt::Result {
    write!(to, ": {}, {} changed", count(files, "file"), count(changed, "file"))?;
    recycled.map_or(Ok(()), |name| write!(to, ", recycling {name}"))
}

/// Returns the participle of an action, for "Not deployed".
pub fn participle(action: Action) -> &'static str {
    match action {
        Action::Deploy => "deployed",
        Action::Rollback => "rolled back",
        Action::Adopt => "adopted",
        Action::Promote => "promoted",
        Action::Lock => "locked",
        Action::Unlock => "unlocked",
    }
}
