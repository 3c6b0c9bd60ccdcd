//! The secrets of a panel: the operator's token, the cookie that represents it, and the CSRF tokens.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::PanelError;

/// The minimum length of a token, in characters: 128 bits as hexadecimal digits, which no number of attempts can guess.
const MIN_TOKEN: usize = 32;

/// The maximum length of a token, in characters.
const MAX_TOKEN: usize = 512;

/// A secret as it is written to pages and cookies: 64 hexadecimal digits.
type Secret = String;

/// The secrets of one start. None of them outlives the process.
#[derive(Debug)]
pub struct Secrets {
    /// The CSRF token of all forms but the login.
    pub csrf: Secret,
    /// The CSRF token of the login form, which is served before the login.
    pub login: Secret,
    /// The key that derives the cookie from the operator's token.
    key: Secret,
    token_file: Option<PathBuf>,
}

impl Secrets {
    /// Creates the secrets, and checks the token file.
    pub fn new(token_file: Option<&Path>) -> Result<Self, PanelError> {
        token_file.map(read_token).transpose()?;
        let (csrf, login, key) = (random()?, random()?, random()?);
        Ok(Self { csrf, login, key, token_file: token_file.map(Path::to_owned) })
    }

    /// Returns whether the panel requires a token.
    #[must_use]
    pub fn needs_token(&self) -> bool {
        self.token_file.is_some()
    }

    /// Returns whether this is the operator's token. The file is read each time, so that replacing it locks out everyone
    /// who has the old one.
    #[must_use]
    pub fn is_token(&self, given: &str) -> bool {
        self.token().is_some_and(|token| is_same(&token, given))
    }

    /// Returns whether this is the cookie for the current token, set since the panel was started.
    #[must_use]
    pub fn is_cookie(&self, given: &str) -> bool {
        self.cookie().is_some_and(|cookie| is_same(&cookie, given))
    }

    /// Returns the value of the cookie.
    #[must_use]
    pub fn cookie(&self) -> Option<Secret> {
        Some(hex(&Sha256::digest([self.key.as_bytes(), self.token()?.as_bytes()].concat())))
    }

    fn token(&self) -> Option<String> {
        let read = read_token(self.token_file.as_deref()?);
        read.inspect_err(|error| log::warn!("{error}")).ok()
    }
}

/// Compares in constant time.
#[must_use]
pub fn is_same(secret: &str, given: &str) -> bool {
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    digest(secret).ct_eq(&digest(given)).into()
}

/// Reads the token. Fails if other users can read the file.
fn read_token(path: &Path) -> Result<String, PanelError> {
    let failed = |source| PanelError::ReadToken { path: path.to_owned(), source };
    // A FIFO would block.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(PanelError::SharedToken(path.to_owned()));
    }
    let text = read_bounded(&file).map_err(failed)?;
    let token = text.trim();
    let is_strong = (MIN_TOKEN..=MAX_TOKEN).contains(&token.len());
    if is_strong && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(token.to_owned())
    } else {
        Err(PanelError::WeakToken(path.to_owned()))
    }
}

fn read_bounded(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(2 * MAX_TOKEN as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn random() -> Result<Secret, PanelError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| PanelError::Start(error.into()))?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bluegreen_text::explain::Explain;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_token_file_of_others_or_a_weak_token_is_refused() {
        let strong = "0123456789abcdef0123456789abcdef\n";
        for (text, mode, problem) in [
            (strong, 0o640, "is readable by other users"),
            (strong, 0o604, "is readable by other users"),
            ("short\n", 0o600, "it must have 32 to 512 printable characters"),
            ("", 0o600, "it must have 32 to 512 printable characters"),
            ("0123456789abcdef 0123456789abcdef", 0o600, "it must have 32 to 512 printable characters"),
        ] {
            let (_folder, path) = file(text, mode);
            let error = Secrets::new(Some(&path)).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
            assert!(error.hint().is_some() && error.exit_status() == 2);
        }
        let (folder, path) = file(strong, 0o600);
        assert!(Secrets::new(Some(&path)).unwrap().is_token(strong.trim()));
        assert!(Secrets::new(Some(folder.path())).is_err());
    }

    #[test]
    fn a_stolen_cookie_is_worth_nothing_after_a_start_or_a_new_token() {
        let (_folder, path) = file("0123456789abcdef0123456789abcdef", 0o600);
        let (first, second) = (Secrets::new(Some(&path)).unwrap(), Secrets::new(Some(&path)).unwrap());
        let stolen = first.cookie().unwrap();
        assert!(first.is_cookie(&stolen) && !second.is_cookie(&stolen));
        assert_ne!(first.csrf, second.csrf);
        fs::write(&path, "fedcba9876543210fedcba9876543210").unwrap();
        assert!(!first.is_cookie(&stolen) && !first.is_token("0123456789abcdef0123456789abcdef"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!first.is_token("fedcba9876543210fedcba9876543210"), "others can read it now");
    }

    #[test]
    fn without_a_token_file_no_token_is_the_right_one() {
        let secrets = Secrets::new(None).unwrap();
        assert!(!secrets.is_token("") && !secrets.is_cookie("") && secrets.cookie().is_none());
    }
}
