//! Git LFS pointers, and whether their content is on this server.
//!
//! git-lfs itself writes the content, as a filter. Depending on its settings, it fails, fetches from a remote, or
//! leaves the pointer if the object is missing. A site of pointers would be broken, so they are found in advance.

use std::path::{Path, PathBuf};

/// The maximum length of a pointer, in bytes, according to the Git LFS specification.
pub const MAX_POINTER: u64 = 1024;

/// The content of a pointer file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The SHA-256 of the content, as 64 digits.
    pub oid: String,
    /// The size of the content, in bytes.
    pub size: u64,
}

impl Pointer {
    /// Parses a pointer file. Returns `None` for any other content.
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        if data.len() as u64 > MAX_POINTER {
            return None;
        }
        let mut lines = std::str::from_utf8(data).ok()?.lines();
        let version = lines.next()?.strip_prefix("version ")?;
        if ![
            "https://git-lfs.github.com/spec/v1",
            "http://git-media.io/v/2",
            "https://hawser.github.com/spec/v1",
        ]
        .contains(&version)
        {
            return None;
        }
        let (mut oid, mut size) = (None, None);
        for line in lines {
            match line.split_once(' ')? {
                ("oid", value) => oid = value.strip_prefix("sha256:").map(str::to_owned),
                ("size", value) => size = value.parse().ok(),
                _ => {}
            }
        }
        let oid = oid.filter(|oid| oid.len() == 64 && oid.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        Some(Self { oid, size: size? })
    }

    /// Returns whether one of the LFS stores contains the content, with its full size.
    #[must_use]
    pub fn is_in(&self, stores: &[PathBuf]) -> bool {
        let place = |store: &Path| store.join(&self.oid[..2]).join(&self.oid[2..4]).join(&self.oid);
        let is_whole = |path: PathBuf| path.metadata().is_ok_and(|object| object.len() == self.size);
        // git-lfs stores no empty content.
        self.size == 0 || stores.iter().any(|store| is_whole(place(store)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    #[test]
    fn pointers_are_parsed_and_other_files_are_not() {
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n");
        assert_eq!(Pointer::parse(text.as_bytes()), Some(Pointer { oid: OID.into(), size: 12345 }));
        let extended = text.replace("oid", &format!("ext-0-foo sha256:{OID}\noid"));
        assert!(Pointer::parse(extended.as_bytes()).is_some());
        for other in ["", "version 1\n", &text.replace("size", "length"), &text.replace("4d7a", "../.")] {
            assert_eq!(Pointer::parse(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Pointer::parse(&[text.as_bytes(), &[b'\n'; 2000]].concat()), None);
    }
}
