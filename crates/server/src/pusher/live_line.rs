//! The sentence about the live release after every failure: "blue still serves ...".

use std::fmt::{self, Display};

use bluegreen_text::printable;

use crate::release::ReleaseName;
use crate::site::Live;

/// A server and its live release.
#[derive(Debug)]
pub struct LiveLine {
    server: String,
    /// "still ", unless the live release has changed.
    still: &'static str,
    what: What,
}

#[derive(Debug)]
enum What {
    Unknown,
    Nothing,
    Gone(ReleaseName),
    Release { name: ReleaseName, commit: String },
    Elsewhere(String),
}

impl LiveLine {
    /// Creates the sentence about `live`; `None` stands for an unreadable site.
    #[must_use]
    pub fn new(server: &str, live: Option<&Live>) -> Self {
        let what = match live {
            None => What::Unknown,
            Some(Live::Nothing) => What::Nothing,
            Some(Live::Gone(name)) => What::Gone(name.clone()),
            Some(Live::Release(name)) => {
                What::Release { name: name.clone(), commit: name.commit().to_owned() }
            }
            Some(Live::Elsewhere(path)) => What::Elsewhere(printable(path)),
        };
        Self { server: server.to_owned(), still: "still ", what }
    }

    /// Returns the same sentence without "still", after a change.
    #[must_use]
    pub fn anew(self) -> Self {
        Self { still: "", ..self }
    }
}

impl Display for LiveLine {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, still, what } = self;
        match what {
            What::Unknown if still.is_empty() => write!(to, "what {server} serves is unknown"),
            What::Unknown => write!(to, "{server} still serves what it served before"),
            What::Nothing => write!(to, "{server} serves nothing yet"),
            What::Gone(name) => {
                write!(
                    to,
                    "{server} serves nothing: `current` points to release {name}, which does not exist"
                )
            }
            What::Release { name, commit } => write!(to, "{server} {still}serves {commit} (release {name})"),
            What::Elsewhere(path) => write!(to, "{server} {still}serves `{path}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_claims_no_more_than_is_known() {
        let line = |live: Option<&Live>| LiveLine::new("blue", live);
        assert_eq!(line(None).to_string(), "blue still serves what it served before");
        assert_eq!(line(None).anew().to_string(), "what blue serves is unknown", "after an activation");
        let name = "20261122T201500Z-1a2b3c4d5e6f".parse().unwrap();
        assert_eq!(
            line(Some(&Live::Gone(name))).to_string(),
            "blue serves nothing: `current` points to release 20261122T201500Z-1a2b3c4d5e6f, which does not exist"
        );
    }
}
