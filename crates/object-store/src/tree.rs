//! Parses and validates tree objects.
//!
//! The rules are those of `verify_path` in git's read-cache.c and of `fsck_tree` in fsck.c, all of them strict, because a
//! push can contain trees that git would never write.

use std::cmp::Ordering;

use bluegreen_git_types::{ObjectFormat, ObjectId};

/// The type of a tree entry: the part of its mode that a checkout preserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    File,
    Executable,
    /// A symlink, whose blob is its target.
    Link,
    /// A gitlink: a commit of another repository.
    Submodule,
}

impl EntryKind {
    /// All types, in the order of their declaration.
    pub const ALL: [Self; 5] = [Self::Directory, Self::File, Self::Executable, Self::Link, Self::Submodule];

    /// Converts a mode. The owner's executable bit is the only permission that counts.
    fn from_mode(mode: u32) -> Option<Self> {
        match (mode & 0o170_000, mode & 0o100) {
            (0o040_000, _) => Some(Self::Directory),
            (0o100_000, 0) => Some(Self::File),
            (0o100_000, _) => Some(Self::Executable),
            (0o120_000, _) => Some(Self::Link),
            (0o160_000, _) => Some(Self::Submodule),
            _ => None,
        }
    }

    /// Returns the mode of the file after a checkout, including the file type bits.
    #[must_use]
    pub fn mode(self) -> u32 {
        match self {
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Link => 0o120_777,
            Self::Directory | Self::Submodule => 0o040_755,
        }
    }

    /// Returns whether a checkout creates a directory for it.
    #[must_use]
    pub fn is_directory(self) -> bool {
        matches!(self, Self::Directory | Self::Submodule)
    }
}

/// One entry of a tree object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeEntry<'a> {
    pub kind: EntryKind,
    /// A single path component.
    pub name: &'a [u8],
    pub id: ObjectId,
}

/// An entry that must not be checked out, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}`: {problem}", name.escape_ascii())]
pub struct InvalidTree {
    /// The name of the entry, or the start of the data that cannot be parsed.
    pub name: Vec<u8>,
    pub problem: &'static str,
}

/// Parses a tree object into entries in git's order.
pub fn parse(mut data: &[u8], format: ObjectFormat) -> Result<Vec<TreeEntry<'_>>, InvalidTree> {
    let mut entries: Vec<TreeEntry> = Vec::with_capacity(data.len() / (format.id_len() + 16));
    while !data.is_empty() {
        let (entry, rest) = parse_entry(data, format)?;
        let invalid = |problem| InvalidTree { name: entry.name.to_vec(), problem };
        if let Some(problem) = name_problem(entry.name) {
            return Err(invalid(problem));
        }
        if entry.kind == EntryKind::Link && is_dot_gitmodules(entry.name) {
            return Err(invalid("`.gitmodules` is a symlink"));
        }
        if let Some(last) = entries.last() {
            match compare(last, &entry) {
                Ordering::Less => {}
                Ordering::Equal => return Err(invalid("duplicate entry")),
                Ordering::Greater => return Err(invalid("entries are not sorted")),
            }
        }
        if entry.kind == EntryKind::Directory && has_sibling_file(&entries, entry.name) {
            return Err(invalid("duplicate entry"));
        }
        entries.push(entry);
        data = rest;
    }
    Ok(entries)
}

/// Returns the ids of the subtrees of a tree object, up to the first entry that cannot be parsed. Validates nothing.
pub fn subtrees(mut data: &[u8], format: ObjectFormat) -> impl Iterator<Item = ObjectId> {
    let entries = std::iter::from_fn(move || {
        let (entry, rest) = parse_entry(data, format).ok()?;
        data = rest;
        Some(entry)
    });
    entries.filter(|entry| entry.kind == EntryKind::Directory).map(|entry| entry.id)
}

/// Compares two entries in git's order: the names of directories compare as if they ended in `/`.
#[must_use]
pub fn compare(a: &TreeEntry, b: &TreeEntry) -> Ordering {
    sort_key(a.kind, a.name).cmp(sort_key(b.kind, b.name))
}

/// Returns the bytes by which git sorts a name.
pub fn sort_key(kind: EntryKind, name: &[u8]) -> impl Iterator<Item = &u8> {
    let slash: &[u8] = if kind == EntryKind::Directory { b"/" } else { b"" };
    name.iter().chain(slash)
}

/// Returns whether a file with the same name precedes the directory `name`. In git's order, all names between the two
/// start with `name`.
fn has_sibling_file(entries: &[TreeEntry], name: &[u8]) -> bool {
    entries.iter().rev().take_while(|entry| entry.name.starts_with(name)).any(|entry| entry.name == name)
}

fn parse_entry(data: &[u8], format: ObjectFormat) -> Result<(TreeEntry<'_>, &[u8]), InvalidTree> {
    let broken =
        || InvalidTree { name: data[..data.len().min(64)].to_vec(), problem: "the tree object is damaged" };
    let space = data.iter().take(8).position(|&byte| byte == b' ').ok_or_else(broken)?;
    let mode = std::str::from_utf8(&data[..space]).ok().and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let rest = &data[space + 1..];
    let end = rest.iter().position(|&byte| byte == 0).ok_or_else(broken)?;
    let (name, rest) = (&rest[..end], &rest[end + 1..]);
    let id = rest.get(..format.id_len()).and_then(ObjectId::from_bytes).ok_or_else(broken)?;
    let kind = mode
        .and_then(EntryKind::from_mode)
        .ok_or_else(|| InvalidTree { name: name.to_vec(), problem: "invalid mode" })?;
    Ok((TreeEntry { kind, name, id }, &rest[format.id_len()..]))
}

fn name_problem(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("empty name"),
        b"." | b".." => Some("`.` and `..` are reserved"),
        _ if name.contains(&b'/') => Some("name contains `/`"),
        _ if name.len() > 255 => Some("name longer than 255 bytes"),
        _ if is_dot_git(name) => Some("names equivalent to `.git` are reserved"),
        _ => None,
    }
}

/// Returns whether a name is `.git` in any case, or equivalent to it on NTFS or HFS+.
fn is_dot_git(name: &[u8]) -> bool {
    // NTFS ignores trailing dots and spaces, and everything from `:` or `\` on. `git~1` is its short name for `.git`.
    let end = name.iter().position(|byte| matches!(byte, b':' | b'\\')).unwrap_or(name.len());
    let stem = name[..end].trim_ascii_end();
    let stem =
        stem.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(&stem[..0], |at| &stem[..=at]);
    if stem.eq_ignore_ascii_case(b".git") || stem.eq_ignore_ascii_case(b"git~1") {
        return true;
    }
    without_ignorables(name).is_some_and(|name| name.eq_ignore_ascii_case(".git"))
}

fn is_dot_gitmodules(name: &[u8]) -> bool {
    without_ignorables(name).is_some_and(|name| name.eq_ignore_ascii_case(".gitmodules"))
}

/// Removes the code points that HFS+ ignores (`next_hfs_char` in git's utf8.c). Returns `None` for a name that cannot be
/// equivalent to a dotfile.
fn without_ignorables(name: &[u8]) -> Option<String> {
    if !name.starts_with(b".") && name.is_ascii() {
        return None;
    }
    let ignored = |character: char| matches!(character, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    Some(std::str::from_utf8(name).ok()?.chars().filter(|&character| !ignored(character)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(entries: &[(&str, &[u8])]) -> Vec<u8> {
        entries
            .iter()
            .flat_map(|(mode, name)| [mode.as_bytes(), b" ", name, b"\0", &[7; 20]].concat())
            .collect()
    }

    fn problem(entries: &[(&str, &[u8])]) -> &'static str {
        parse(&object(entries), ObjectFormat::Sha1).unwrap_err().problem
    }

    #[test]
    fn entries_are_parsed_in_order() {
        let data = object(&[
            ("100644", b"a"),
            ("100755", b"b"),
            ("40000", b"c"),
            ("120000", b"d"),
            ("160000", b"e"),
        ]);
        let kinds: Vec<EntryKind> =
            parse(&data, ObjectFormat::Sha1).unwrap().iter().map(|entry| entry.kind).collect();
        assert_eq!(
            kinds,
            [
                EntryKind::File,
                EntryKind::Executable,
                EntryKind::Directory,
                EntryKind::Link,
                EntryKind::Submodule
            ]
        );
        assert_eq!(parse(b"", ObjectFormat::Sha1).unwrap(), []);
    }

    #[test]
    fn only_the_executable_bit_of_a_mode_is_preserved() {
        let data = object(&[("100664", b"a"), ("104755", b"b"), ("107777", b"c")]);
        let kinds: Vec<EntryKind> =
            parse(&data, ObjectFormat::Sha1).unwrap().iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [EntryKind::File, EntryKind::Executable, EntryKind::Executable]);
    }

    #[test]
    fn names_that_git_rejects_are_rejected() {
        for name in [
            &b""[..],
            b".",
            b"..",
            b"a/b",
            b".git",
            b".GIT",
            b".Git",
            b"git~1",
            b"GIT~1",
            b".git ",
            b".git.",
            b".git. .",
            b".git::$INDEX_ALLOCATION",
            b".git\\x",
            b".g\xe2\x80\x8cit",
            b"\xe2\x80\x8c.git",
        ] {
            assert!(
                parse(&object(&[("100644", name)]), ObjectFormat::Sha1).is_err(),
                "{}",
                name.escape_ascii()
            );
        }
        assert!(parse(&object(&[("100644", &[b'x'; 256])]), ObjectFormat::Sha1).is_err());
        assert!(parse(&object(&[("120000", b".gitmodules")]), ObjectFormat::Sha1).is_err());
        for name in [&b".gitignore"[..], b".gitmodules", b"git", b".gitx", b"...", b"a.git", b"caf\xe9", b" "]
        {
            assert!(
                parse(&object(&[("100644", name)]), ObjectFormat::Sha1).is_ok(),
                "{}",
                name.escape_ascii()
            );
        }
    }

    #[test]
    fn order_and_duplicates_are_checked() {
        assert_eq!(problem(&[("100644", b"b"), ("100644", b"a")]), "entries are not sorted");
        assert_eq!(problem(&[("100644", b"a"), ("100644", b"a")]), "duplicate entry");
        assert_eq!(problem(&[("120000", b"a"), ("100644", b"a.b"), ("40000", b"a")]), "duplicate entry");
        assert!(
            parse(&object(&[("100644", b"a.b"), ("40000", b"a"), ("100644", b"a0")]), ObjectFormat::Sha1)
                .is_ok()
        );
    }

    #[test]
    fn damaged_objects_are_rejected() {
        assert_eq!(problem(&[("60644", b"device")]), "invalid mode");
        for damaged in [&b"100644"[..], b"100644 a", b"100644 a\0short", b"1006440000 a\0", b"x a\0"] {
            assert!(parse(damaged, ObjectFormat::Sha1).is_err(), "{}", damaged.escape_ascii());
        }
    }
}
