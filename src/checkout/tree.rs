//! Parses and validates raw tree objects. Pure functions.
//!
//! The rules are git's own (`verify_path` in read-cache.c and `fsck_tree` in fsck.c), with all options strict,
//! because a push can bring trees that no git would write.

use std::cmp::Ordering;

use rustix::fs::FileType;

/// The kind of a tree entry: the part of its mode that a checkout keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Another tree.
    Directory,
    /// A file, 0644.
    File,
    /// A file, 0755.
    Executable,
    /// A symbolic link; the blob is its target.
    Link,
    /// A commit of another repository.
    Submodule,
}

impl Kind {
    /// All kinds, in their order.
    pub const ALL: [Self; 5] = [Self::Directory, Self::File, Self::Executable, Self::Link, Self::Submodule];

    /// Reads a mode. Of a file's mode only the executable bit counts; set-user-id and other bits are dropped.
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

    /// The mode after a checkout, with the file type.
    #[must_use]
    pub fn mode(self) -> u32 {
        match self {
            Self::File => FileType::RegularFile.as_raw_mode() | 0o644,
            Self::Executable => FileType::RegularFile.as_raw_mode() | 0o755,
            Self::Link => FileType::Symlink.as_raw_mode() | 0o777,
            Self::Directory | Self::Submodule => FileType::Directory.as_raw_mode() | 0o755,
        }
    }

    /// Returns whether it becomes a directory.
    #[must_use]
    pub fn is_directory(self) -> bool {
        matches!(self, Self::Directory | Self::Submodule)
    }
}

/// One entry of a tree object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeEntry<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its name, one component.
    pub name: &'a [u8],
    /// The id of its object, raw.
    pub id: &'a [u8],
}

/// An entry that must not be checked out, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Its name in the tree.
    pub name: Vec<u8>,
    /// The problem, as the pusher reads it.
    pub problem: &'static str,
}

/// Parses a tree object whose ids have `id_len` bytes, 20 or 32, into entries in git's order.
pub fn parse(mut data: &[u8], id_len: usize) -> Result<Vec<TreeEntry<'_>>, Unfit> {
    let mut entries: Vec<TreeEntry> = Vec::with_capacity(data.len() / (id_len + 16));
    while !data.is_empty() {
        let (entry, rest) = parse_entry(data, id_len)?;
        let unfit = |problem| Unfit { name: entry.name.to_vec(), problem };
        if let Some(problem) = name_problem(entry.name) {
            return Err(unfit(problem));
        }
        if entry.kind == Kind::Link && is_dot_gitmodules(entry.name) {
            return Err(unfit("`.gitmodules` is a link"));
        }
        if let Some(last) = entries.last() {
            match order(last, &entry) {
                Ordering::Less => {}
                Ordering::Equal => return Err(unfit("duplicate entry")),
                Ordering::Greater => return Err(unfit("entries are not sorted")),
            }
        }
        if entry.kind == Kind::Directory && has_sibling_file(&entries, entry.name) {
            return Err(unfit("duplicate entry"));
        }
        entries.push(entry);
        data = rest;
    }
    Ok(entries)
}

/// Gives the ids of the directories in a tree object, up to the first entry that cannot be parsed. Nothing is validated.
pub fn directories(mut data: &[u8], id_len: usize) -> impl Iterator<Item = &[u8]> {
    let entries = std::iter::from_fn(move || {
        let (entry, rest) = parse_entry(data, id_len).ok()?;
        data = rest;
        Some(entry)
    });
    entries.filter(|entry| entry.kind == Kind::Directory).map(|entry| entry.id)
}

/// Compares two entries in git's order: a directory's name counts as if it ended in `/`.
#[must_use]
pub fn order(a: &TreeEntry, b: &TreeEntry) -> Ordering {
    sort_key(a.kind, a.name).cmp(sort_key(b.kind, b.name))
}

/// The bytes by which git sorts a name.
pub fn sort_key(kind: Kind, name: &[u8]) -> impl Iterator<Item = &u8> {
    let slash: &[u8] = if kind == Kind::Directory { b"/" } else { b"" };
    name.iter().chain(slash)
}

/// Returns whether a file of the same name precedes the directory `name`. In git's order, all names between the
/// two begin with `name`.
fn has_sibling_file(entries: &[TreeEntry], name: &[u8]) -> bool {
    entries.iter().rev().take_while(|entry| entry.name.starts_with(name)).any(|entry| entry.name == name)
}

fn parse_entry(data: &[u8], id_len: usize) -> Result<(TreeEntry<'_>, &[u8]), Unfit> {
    let broken = || Unfit { name: data[..data.len().min(64)].to_vec(), problem: "the tree object is broken" };
    let space = data.iter().take(8).position(|&byte| byte == b' ').ok_or_else(broken)?;
    let mode = std::str::from_utf8(&data[..space]).ok().and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let rest = &data[space + 1..];
    let end = rest.iter().position(|&byte| byte == 0).ok_or_else(broken)?;
    let (name, rest) = (&rest[..end], &rest[end + 1..]);
    let id = rest.get(..id_len).ok_or_else(broken)?;
    let kind = mode.and_then(Kind::from_mode).ok_or_else(|| Unfit {
        name: name.to_vec(),
        problem: "neither file, directory, link nor submodule",
    })?;
    Ok((TreeEntry { kind, name, id }, &rest[id_len..]))
}

fn name_problem(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("empty name"),
        b"." | b".." => Some("`.` and `..` are not names"),
        _ if name.contains(&b'/') => Some("`/` in a name"),
        _ if name.len() > 255 => Some("name longer than 255 bytes"),
        _ if is_dot_git(name) => Some("`.git` is git's own"),
        _ => None,
    }
}

/// Returns whether a name is `.git` in any case, or a name that NTFS or HFS+ treats as `.git`.
fn is_dot_git(name: &[u8]) -> bool {
    // NTFS ignores trailing dots and spaces, and everything after `:` or `\`. `git~1` is its short name.
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

/// Returns a name without the code points that HFS+ ignores (`next_hfs_char` in git's utf8.c).
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
        parse(&object(entries), 20).unwrap_err().problem
    }

    #[test]
    fn entries_are_read_in_order() {
        let data = object(&[
            ("100644", b"a"),
            ("100755", b"b"),
            ("40000", b"c"),
            ("120000", b"d"),
            ("160000", b"e"),
        ]);
        let kinds: Vec<Kind> = parse(&data, 20).unwrap().iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [Kind::File, Kind::Executable, Kind::Directory, Kind::Link, Kind::Submodule]);
        assert_eq!(parse(b"", 20).unwrap(), []);
    }

    #[test]
    fn of_a_mode_only_the_executable_bit_stays() {
        let data = object(&[("100664", b"a"), ("104755", b"b"), ("107777", b"c")]);
        let kinds: Vec<Kind> = parse(&data, 20).unwrap().iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [Kind::File, Kind::Executable, Kind::Executable]);
    }

    #[test]
    fn names_that_git_refuses_are_refused() {
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
            assert!(parse(&object(&[("100644", name)]), 20).is_err(), "{}", name.escape_ascii());
        }
        assert!(parse(&object(&[("100644", &[b'x'; 256])]), 20).is_err());
        assert!(parse(&object(&[("120000", b".gitmodules")]), 20).is_err());
        for name in [&b".gitignore"[..], b".gitmodules", b"git", b".gitx", b"...", b"a.git", b"caf\xe9", b" "]
        {
            assert!(parse(&object(&[("100644", name)]), 20).is_ok(), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn order_and_duplicates_are_checked() {
        assert_eq!(problem(&[("100644", b"b"), ("100644", b"a")]), "entries are not sorted");
        assert_eq!(problem(&[("100644", b"a"), ("100644", b"a")]), "duplicate entry");
        assert_eq!(problem(&[("120000", b"a"), ("100644", b"a.b"), ("40000", b"a")]), "duplicate entry");
        assert!(parse(&object(&[("100644", b"a.b"), ("40000", b"a"), ("100644", b"a0")]), 20).is_ok());
    }

    #[test]
    fn broken_objects_are_refused() {
        assert_eq!(problem(&[("60644", b"device")]), "neither file, directory, link nor submodule");
        for broken in [&b"100644"[..], b"100644 a", b"100644 a\0short", b"1006440000 a\0", b"x a\0"] {
            assert!(parse(broken, 20).is_err(), "{}", broken.escape_ascii());
        }
    }
}
