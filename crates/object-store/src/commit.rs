//! Parses commit objects.

use bluegreen_git_types::{ObjectFormat, ObjectId};

/// The length at which a subject is truncated, in characters.
const MAX_SUBJECT_CHARS: usize = 200;

/// The parts of a commit object that a deployment uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub tree: ObjectId,
    /// The first line of the message, at most 200 characters.
    pub subject: String,
}

impl Commit {
    /// Parses a commit object; [`None`] if it does not start with the id of a tree.
    #[must_use]
    pub fn parse(data: &[u8], format: ObjectFormat) -> Option<Self> {
        let digits = data.strip_prefix(b"tree ")?.get(..format.id_len() * 2)?;
        let tree = ObjectId::parse(digits)?;
        let message = data.windows(2).position(|end| end == b"\n\n").map_or(&data[..0], |at| &data[at + 2..]);
        let line = message.trim_ascii_start().split(|&byte| byte == b'\n').next().unwrap_or_default();
        let subject = String::from_utf8_lossy(&line[..line.len().min(4 * MAX_SUBJECT_CHARS)]);
        Some(Self { tree, subject: subject.trim().chars().take(MAX_SUBJECT_CHARS).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_have_a_tree_and_a_subject() {
        let tree = "1a".repeat(20);
        let parse = |text: &str| Commit::parse(text.as_bytes(), ObjectFormat::Sha1);
        let commit = parse(&format!("tree {tree}\nauthor A\n\n\nAdd x\n\nBecause.\n")).unwrap();
        assert_eq!((commit.tree.to_string(), commit.subject.as_str()), (tree.clone(), "Add x"));
        assert_eq!(parse(&format!("tree {tree}\nauthor A\n")).unwrap().subject, "");
        let long = parse(&format!("tree {tree}\n\n{}", "\u{e9}".repeat(1000))).unwrap();
        assert_eq!(long.subject.chars().count(), 200);
        for damaged in ["", "tree", "tree 1a2b\n", "parent x\n", &format!("tree {}", "g".repeat(40))] {
            assert_eq!(parse(damaged), None, "{damaged}");
        }
    }
}
