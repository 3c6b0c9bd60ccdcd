//! The commits that a promotion adds or removes for visitors, read from the clone.

use crate::config::git;
use bluegreen_git_types::ObjectId;
use bluegreen_protocol::MAX_SUBJECT_CHARS;
use bluegreen_text::{MAX_NAME_CHARS, truncated};

/// A commit that visitors get or lose with a promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// True if visitors get it, false if they lose it.
    pub is_gained: bool,
    /// The abbreviated id.
    pub commit: String,
    /// The first line of its message.
    pub subject: String,
    /// The name of its author.
    pub author: String,
}

impl Change {
    /// Formats the commit as the plan prints it: `+ 1a2b3c4 Subject (Author)`.
    #[must_use]
    pub fn line(&self) -> String {
        let sign = if self.is_gained { '+' } else { '-' };
        let line = format!("{sign} {} {} ({})", self.commit, self.subject, self.author);
        truncated(&line, MAX_SUBJECT_CHARS).into_owned()
    }
}

/// Returns the commits that visitors get and lose; none if the clone does not contain both ends.
#[must_use]
pub fn changes(old: &ObjectId, new: &ObjectId) -> Vec<Change> {
    let range = format!("{old}...{new}");
    // git replaces line ends in a subject, and neither it nor a name contains a NUL.
    let format = "--format=%m%x00%h%x00%an%x00%s";
    let text = git(&["log", "--left-right", format, "--no-color", &range, "--"]);
    text.iter().flat_map(|text| text.lines()).filter_map(parse).collect()
}

/// Returns the author of a commit, if the clone has it.
#[must_use]
pub fn author(commit: &ObjectId) -> Option<String> {
    let name = git(&["log", "--max-count=1", "--format=%an", "--no-color", &commit.to_string(), "--"])?;
    Some(truncated(&name, MAX_NAME_CHARS).into_owned())
}

fn parse(line: &str) -> Option<Change> {
    let mut parts = line.splitn(4, '\0');
    let (mark, commit) = (parts.next()?, parts.next()?);
    let (author, subject) = (parts.next()?, parts.next()?);
    Some(Change {
        is_gained: mark == ">",
        commit: truncated(commit, MAX_NAME_CHARS).into_owned(),
        subject: truncated(subject, MAX_SUBJECT_CHARS).into_owned(),
        author: truncated(author, MAX_NAME_CHARS).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_gained_or_lost() {
        let gained = parse(">\u{0}1a2b3c4\u{0}Ada (QA)\u{0}Show prices > 0\u{0}x").unwrap();
        assert_eq!(gained.line(), "+ 1a2b3c4 Show prices > 0\u{0}x (Ada (QA))");
        assert!(gained.is_gained && !parse("<\u{0}1\u{0}\u{0}").unwrap().is_gained);
        assert_eq!(parse("warning: something else"), None);
        let long = parse(&format!(">\u{0}1\u{0}a\u{0}{}", "x".repeat(1_000_000))).unwrap();
        assert_eq!((long.subject.len(), long.line().len()), (MAX_SUBJECT_CHARS, MAX_SUBJECT_CHARS));
    }
}
