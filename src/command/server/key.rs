//! The ssh key that a client logged in with, and the name of its owner.
//!
//! With `ExposeAuthInfo`, which the installer sets, sshd writes the key to the file `SSH_USER_AUTH`. sshd removes the file
//! when the connection ends, so it is read first. The deploy user can write both this file and `authorized_keys`, so the name
//! is good enough for the history, but not for permissions.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use nix::unistd::{Uid, User};
use sha2::{Digest, Sha256};

use bluegreen_server::site::history::Key;

/// The maximum number of bytes read from a file.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// The maximum length of a name, in characters.
const MAX_NAME_CHARS: usize = 100;

const CERTIFICATE: &str = "-cert-v01@openssh.com";

/// Returns this connection's key, if sshd exposes it.
pub fn of_connection() -> Option<Key> {
    let auth_info = text(Path::new(&std::env::var_os("SSH_USER_AUTH")?))?;
    let home = User::from_uid(Uid::effective()).ok().flatten()?.dir;
    let authorized_keys = text(&home.join(".ssh/authorized_keys")).unwrap_or_default();
    identify(&auth_info, &authorized_keys)
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE_SIZE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Parses the contents of `SSH_USER_AUTH`, and looks up the key's name in its certificate or in `authorized_keys`.
fn identify(auth_info: &str, authorized_keys: &str) -> Option<Key> {
    let (kind, word) =
        auth_info.lines().filter_map(|line| line.strip_prefix("publickey ")?.split_once(' ')).next_back()?;
    let word = word.split(' ').next()?;
    let blob = BASE64_STANDARD.decode(word).ok()?;
    let (name, blob) = match kind.strip_suffix(CERTIFICATE) {
        Some(kind) => {
            let (id, key) = certificate(kind, &blob)?;
            (Some(id), key)
        }
        None => (authorized_keys.lines().find_map(|line| comment(line, word)), blob),
    };
    let name = name.map(|name| {
        name.chars().filter(|letter| !letter.is_control()).take(MAX_NAME_CHARS).collect::<String>()
    });
    let fingerprint = format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(&blob)));
    Some(Key { name: name.filter(|name| !name.is_empty()), fingerprint })
}

/// Returns the comment of this key's line in `authorized_keys`, which may begin with options.
fn comment(line: &str, word: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!(" {word}"))?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then(|| rest.trim().to_owned())
}

/// Reads the key id of a certificate and the public key that it certifies (OpenSSH's PROTOCOL.certkeys).
/// For these lines, the crate `ssh-key` 0.6 would add 19 crates, among them a second `sha2`.
fn certificate(kind: &str, blob: &[u8]) -> Option<(String, Vec<u8>)> {
    let fields = match kind {
        "ssh-ed25519" => 1,
        "ssh-rsa"
        | "ecdsa-sha2-nistp256"
        | "ecdsa-sha2-nistp384"
        | "ecdsa-sha2-nistp521"
        | "sk-ssh-ed25519" => 2,
        "sk-ecdsa-sha2-nistp256" => 3,
        _ => return None,
    };
    let mut rest = blob;
    let (_kind, _nonce) = (string(&mut rest)?, string(&mut rest)?);
    let before = rest;
    for _ in 0..fields {
        string(&mut rest)?;
    }
    let parts = &before[..before.len() - rest.len()];
    // The type names of security keys end with OpenSSH's domain.
    let kind = if kind.starts_with("sk-") { format!("{kind}@openssh.com") } else { kind.to_owned() };
    let key = [&u32::try_from(kind.len()).ok()?.to_be_bytes(), kind.as_bytes(), parts].concat();
    // A serial number of eight bytes and a type of four.
    rest = rest.get(12..)?;
    Some((String::from_utf8_lossy(string(&mut rest)?).into_owned(), key))
}

/// Splits a string off the front: its length in four bytes, then its bytes.
fn string<'b>(from: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = from.split_first_chunk::<4>()?;
    let (string, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *from = rest;
    Some(string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSHluNEPZiPwiolxMFozjDiDs32c9AFAhNxRsUTuqVq";
    const ED25519_FINGERPRINT: &str = "SHA256:edWxbVtZrAO3mAlXIEpnoVdMdXGSqMX/ARXOdfU7L4k";
    const CERTIFICATES: [(&str, &str); 2] = [
        (
            "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIIROD\
            wsMWJy2q0tcem27dmd3Blan65VEecoApL7EZvQUAAAAIKSHluNEPZiPwiolxMFozjDiDs32c9AFAhNxRsUTuqVqAAA\
            AAAAAAAAAAAABAAAAEGRhdmVAZXhhbXBsZS5vcmcAAAAKAAAABmRlcGxveQAAAAAAAAAA//////////8AAAAAAAAAg\
            gAAABVwZXJtaXQtWDExLWZvcndhcmRpbmcAAAAAAAAAF3Blcm1pdC1hZ2VudC1mb3J3YXJkaW5nAAAAAAAAABZwZXJ\
            taXQtcG9ydC1mb3J3YXJkaW5nAAAAAAAAAApwZXJtaXQtcHR5AAAAAAAAAA5wZXJtaXQtdXNlci1yYwAAAAAAAAAAA\
            AAAMwAAAAtzc2gtZWQyNTUxOQAAACAmSW8t/BZcROetIfYjGoRHRLcBdv6YzF6ro/eA4NS6hgAAAFMAAAALc3NoLWV\
            kMjU1MTkAAABAX2+BWL1WU2lMANKDDUCFUJ5jLk6QCTsnxHYk40WNc499gtvIt8MZ9VhnztpX7UZxPkjg2dd3+gitT\
            oQOFcebAQ==",
            "SHA256:edWxbVtZrAO3mAlXIEpnoVdMdXGSqMX/ARXOdfU7L4k",
        ),
        (
            "ecdsa-sha2-nistp256-cert-v01@openssh.com AAAAKGVjZHNhLXNoYTItbmlzdHAyNTYtY2VydC12MDFAb3Blb\
            nNzaC5jb20AAAAgC0iv5MOn8s8k0vXc47zvItNbmUhu3VzXu/Yuhl4L7soAAAAIbmlzdHAyNTYAAABBBMWpn/RerY/\
            OS238KmdIAARH7ODSqIuwluCG7TVeQyiANTQmq9PoP307fBzQ2uisWdT0HLb7lRztz/V4SA5drugAAAAAAAAAAAAAA\
            AEAAAAQZGF2ZUBleGFtcGxlLm9yZwAAAAoAAAAGZGVwbG95AAAAAAAAAAD//////////wAAAAAAAACCAAAAFXBlcm1\
            pdC1YMTEtZm9yd2FyZGluZwAAAAAAAAAXcGVybWl0LWFnZW50LWZvcndhcmRpbmcAAAAAAAAAFnBlcm1pdC1wb3J0L\
            WZvcndhcmRpbmcAAAAAAAAACnBlcm1pdC1wdHkAAAAAAAAADnBlcm1pdC11c2VyLXJjAAAAAAAAAAAAAAAzAAAAC3N\
            zaC1lZDI1NTE5AAAAICZJby38FlxE560h9iMahEdEtwF2/pjMXquj94Dg1LqGAAAAUwAAAAtzc2gtZWQyNTUxOQAAA\
            ED7oOgCwGQfelhzoiliMv3ULqWLJy4Kuax9FoRox1uiuQw+598hbm+PUJy7Hu+KBa5mwG+BVK4ck/MoXmFpFJ4C",
            "SHA256:AiHFf2AUSpk6gbpocgIa8WyrFKFhy/8UuiAlGC7icrw",
        ),
    ];

    #[test]
    fn a_key_has_the_comment_of_its_line() {
        let authorized_keys = format!(
            "# keys\nrestrict,command=\"a b\" ssh-ed25519 AAAAother Bob\nrestrict {ED25519} Carol from the office <carol@example.org> \n"
        );
        let key = identify(&format!("publickey {ED25519}\n"), &authorized_keys).unwrap();
        assert_eq!(key.name.as_deref(), Some("Carol from the office <carol@example.org>"));
        assert_eq!(key.fingerprint, ED25519_FINGERPRINT);
        let key = identify(&format!("password\npublickey {ED25519}\n"), &format!("{ED25519}\n")).unwrap();
        assert_eq!(key.name, None);
        let key = identify(&format!("publickey {ED25519}\n"), &format!("{ED25519} a\u{1b}[2Jb\n")).unwrap();
        assert_eq!(key.name.as_deref(), Some("a[2Jb"));
    }

    #[test]
    fn a_certificate_has_its_id() {
        for (certificate, fingerprint) in CERTIFICATES {
            let key = identify(&format!("publickey {certificate}\n"), "").unwrap();
            assert_eq!(key.name.as_deref(), Some("dave@example.org"));
            assert_eq!(key.fingerprint, fingerprint);
        }
    }

    #[test]
    fn malformed_keys_are_ignored() {
        for auth_info in [
            "",
            "password\n",
            "publickey ssh-ed25519\n",
            "publickey ssh-ed25519 !\n",
            "publickey ssh-ed25519-cert-v01@openssh.com AAAA\n",
            "publickey ssh-ed25519-cert-v01@openssh.com AAAAIP////8=\n",
        ] {
            assert_eq!(identify(auth_info, ""), None, "{auth_info}");
        }
    }
}
