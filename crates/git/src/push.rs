//! Parses the lines `<old> <new> <ref>` that git writes to a hook's standard input.

use bluegreen_object_store::ObjectId;

use super::error::{Error, Result};

/// A ref that a push moved, created, or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The old id; the null id for a new ref.
    pub old: ObjectId,
    /// The new id; the null id for a deleted ref.
    pub new: ObjectId,
    /// The full name, such as `refs/heads/master`. It may not be UTF-8.
    pub name: Vec<u8>,
}

impl RefUpdate {
    /// Parses a line without its newline. Ids have 40 digits, or 64 in a SHA-256 repository.
    pub fn parse(line: &[u8]) -> Result<Self> {
        let mut words = line.splitn(3, |&byte| byte == b' ');
        let mut id = || words.next().and_then(ObjectId::parse);
        let (old, new) = (id(), id());
        match (old, new, words.next()) {
            (Some(old), Some(new), Some(name)) if old.format() == new.format() && is_ref_name(name) => {
                Ok(Self { old, new, name: name.to_vec() })
            }
            _ => Err(Error::InvalidRefUpdate(line[..line.len().min(200)].to_vec())),
        }
    }

    /// Parses a hook's standard input. The newline after the last line is optional.
    pub fn parse_all(input: &[u8]) -> Result<Vec<Self>> {
        let lines = input.strip_suffix(b"\n").unwrap_or(input);
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        lines.split(|&byte| byte == b'\n').map(Self::parse).collect()
    }

    /// Returns whether the ref is exactly `refs/heads/<branch>`, not a tag or `x/<branch>`.
    #[must_use]
    pub fn is_branch(&self, branch: &str) -> bool {
        self.name.strip_prefix(b"refs/heads/") == Some(branch.as_bytes())
    }

    /// Returns whether the push deleted the ref.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.new.is_null()
    }
}

fn is_ref_name(name: &[u8]) -> bool {
    name.starts_with(b"refs/") && !name.iter().any(|&byte| byte <= b' ' || byte == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";

    #[test]
    fn lines_become_updates() {
        let zero = "0".repeat(40);
        let input = format!("{OLD} {NEW} refs/heads/master\n{OLD} {zero} refs/tags/v1\n");
        let updates = RefUpdate::parse_all(input.as_bytes()).unwrap();
        assert_eq!(updates.len(), 2);
        assert!(updates[0].is_branch("master") && !updates[0].is_deletion());
        assert!(updates[1].is_deletion());
        assert_eq!(RefUpdate::parse_all(b"").unwrap(), []);
        assert_eq!(RefUpdate::parse_all(input.trim_end().as_bytes()).unwrap(), updates);
    }

    #[test]
    fn only_the_exact_branch_deploys() {
        for other in ["refs/tags/master", "refs/heads/x/master", "refs/heads/master2", "refs/master"] {
            let update = RefUpdate::parse(format!("{OLD} {NEW} {other}").as_bytes()).unwrap();
            assert!(!update.is_branch("master"), "{other}");
        }
    }

    #[test]
    fn sha256_ids_and_names_that_are_not_utf8_are_fine() {
        let id = "a".repeat(64);
        let line = [format!("{id} {id} refs/heads/").as_bytes(), b"caf\xe9"].concat();
        assert_eq!(RefUpdate::parse(&line).unwrap().name, b"refs/heads/caf\xe9");
    }

    #[test]
    fn anything_else_is_refused() {
        let id64 = "a".repeat(64);
        for line in [
            "garbage".to_string(),
            format!("{OLD} {NEW}"),
            format!("{OLD} {NEW} "),
            format!("{OLD}  {NEW} refs/heads/master"),
            format!("{OLD} {NEW} master"),
            format!("{OLD} {id64} refs/heads/master"),
            format!("{} {NEW} refs/heads/master", &OLD[1..]),
            format!("{} {NEW} refs/heads/master", OLD.replace('1', "g")),
            format!("{OLD} {NEW} refs/heads/mas\x1bter"),
        ] {
            let error = RefUpdate::parse(line.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("expected `<old> <new> <ref>`"), "{line}: {error}");
        }
        assert!(RefUpdate::parse_all(format!("{OLD} {NEW} refs/heads/a\n\n").as_bytes()).is_err());
    }
}
