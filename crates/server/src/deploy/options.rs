//! Push options: the arguments of `git push -o`. Some options of `bluegreen deploy` set them as well.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use bluegreen_text::printable;

use crate::pusher::message::Message;
use bluegreen_report::Report;

/// The push options that this program supports.
#[expect(clippy::struct_excessive_bools, reason = "one for each option, none depends on another")]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PushOptions {
    /// Move the branch and deploy nothing.
    pub skip: bool,
    /// Deploy even if this side is public.
    pub public: bool,
    /// Run every build step instead of reusing outputs of kept releases.
    pub no_cache: bool,
    /// Deploy although the server is locked. No push has this option.
    pub force: bool,
    /// Print every phase.
    pub verbose: bool,
    /// Print how long each phase took.
    pub timing: bool,
}

impl PushOptions {
    /// Parses push options, and warns about unknown ones.
    #[must_use]
    pub fn read<'o>(options: impl Iterator<Item = &'o [u8]>, report: &Report) -> Self {
        let mut read = Self::default();
        for option in options {
            match option {
                b"skip" => read.skip = true,
                b"public" => read.public = true,
                b"no-cache" => read.no_cache = true,
                b"verbose" => read.verbose = true,
                b"timing" => read.timing = true,
                _ => report.warning(Message::UnknownOption(&printable(OsStr::from_bytes(option)))),
            }
        }
        read
    }
}
