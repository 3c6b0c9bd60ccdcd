//! Push options: the arguments of `git push -o`. `bluegreen deploy` sets those that its own options stand for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use bluegreen_text::printable;

use crate::pusher::message::Message;
use bluegreen_report::Report;

/// The push options that this program knows.
#[expect(clippy::struct_excessive_bools, reason = "one for each option, none depends on another")]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PushOptions {
    /// Move the branch and deploy nothing.
    pub skip: bool,
    /// Deploy even if this side is public.
    pub public: bool,
    /// Run every build step, whatever a kept release has.
    pub no_cache: bool,
    /// Deploy although the server is locked. No push has this option.
    pub force: bool,
    /// Print every phase.
    pub verbose: bool,
}

impl PushOptions {
    /// Reads the options of a push, and warns of unknown ones.
    #[must_use]
    pub fn read<'o>(options: impl Iterator<Item = &'o [u8]>, report: &Report) -> Self {
        let mut read = Self::default();
        for option in options {
            match option {
                b"skip" => read.skip = true,
                b"public" => read.public = true,
                b"no-cache" => read.no_cache = true,
                b"verbose" => read.verbose = true,
                _ => report.warning(Message::UnknownOption(&printable(OsStr::from_bytes(option)))),
            }
        }
        read
    }
}
