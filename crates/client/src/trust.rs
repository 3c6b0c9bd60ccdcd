//! Trust in a clone whose `.promote.toml` runs a program or sends secrets somewhere. The user confirms it once, and the
//! confirmation is stored outside of the clone.
//!
//! Like git's `safe.directory`, this protects a user who inspects someone else's clone. A config that is named with
//! `--config` is trusted, because the user has named it.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::program::shorten;
use crate::user_command::named_files;
use bluegreen_text::printable;

/// The file in the state directory: one line per trusted clone, a checksum and the path of its config.
const FILE: &str = "bluegreen/trusted";

/// The maximum size of the file, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Asks the user whether to trust a clone.
pub trait TrustPrompt {
    /// Returns whether these programs and settings are trusted.
    fn confirm(&self, what: &[String]) -> Result<bool>;
}

/// Everything in a config that could harm its user.
#[derive(Debug)]
pub struct Subject<'a> {
    pub config: &'a Path,
    /// The switch, if it is the user's own program.
    pub program: Option<&'a Path>,
    /// The settings that name files to write or hosts that receive secrets, as `key = value`.
    pub settings: &'a [String],
    /// The shell commands of `[check]` and `[watch]`.
    pub commands: &'a [String],
}

impl Subject<'_> {
    /// Succeeds if there is nothing to trust, if it is trusted already, or if the user confirms it now.
    pub fn check(&self, state: Option<&Path>, prompt: &dyn TrustPrompt) -> Result<()> {
        if self.program.is_none() && self.settings.is_empty() && self.commands.is_empty() {
            return Ok(());
        }
        let line = self.line()?;
        if state.is_some_and(|state| remembers(&state.join(FILE), &line)) {
            return Ok(());
        }
        if !prompt.confirm(&self.list())? {
            let what = self.list().join(", ");
            let config = printable(self.config);
            return Err(Error::Untrusted(format!("`{config}` is not trusted, and it uses {what}")));
        }
        state.map_or(Ok(()), |state| remember(&state.join(FILE), &line))
    }

    fn list(&self) -> Vec<String> {
        let program = self.program.iter().map(|path| format!("the program `{}`", printable(path)));
        let commands = self.commands.iter().map(|line| format!("the command `{}`", shorten(line)));
        let settings = self.settings.iter().map(|setting| format!("`{}`", shorten(setting)));
        program.chain(commands).chain(settings).collect()
    }

    /// Returns the line that is remembered: a change of a program, a command, a file that a command names, or a setting
    /// changes the checksum.
    fn line(&self) -> Result<Vec<u8>> {
        let mut hash = Sha256::new();
        // The kind of each item keeps a setting from passing for a command.
        let mut add = |kind: &str, bytes: &[u8]| {
            hash.update(kind);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        if let Some(path) = self.program {
            add("program", path.as_os_str().as_bytes());
            add("file", &checksum(path).map_err(Error::io("read", path))?);
        }
        self.settings.iter().for_each(|setting| add("setting", setting.as_bytes()));
        for line in self.commands {
            add("command", line.as_bytes());
            for path in named_files(line, self.config.parent().unwrap_or(Path::new(""))) {
                add("file", &checksum(&path).map_err(Error::io("read", &path))?);
            }
        }
        let mut line = String::new();
        for byte in hash.finalize() {
            let _ = write!(line, "{byte:02x}");
        }
        let config = std::path::absolute(self.config).map_err(Error::io("find", self.config))?;
        let config = config.canonicalize().unwrap_or(config);
        line.push(' ');
        line.push_str(&printable(&config));
        Ok(line.into_bytes())
    }
}

/// Finds the directory of the file that lists the trusted configs. `state` and `home` are `XDG_STATE_HOME` and `HOME`.
#[must_use]
pub fn state_dir(state: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let is_usable = |path: &PathBuf| path.is_absolute();
    state.filter(is_usable).or_else(|| home.filter(is_usable).map(|home| home.join(".local/state")))
}

fn checksum(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, mut hash) = (BufReader::new(File::open(path)?), Sha256::new());
    loop {
        let bytes = file.fill_buf()?;
        if bytes.is_empty() {
            return Ok(hash.finalize().to_vec());
        }
        hash.update(bytes);
        let length = bytes.len();
        file.consume(length);
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is too long"));
    }
    Ok(bytes)
}

fn remembers(file: &Path, line: &[u8]) -> bool {
    read(file).is_ok_and(|text| text.split(|&byte| byte == b'\n').any(|known| known == line))
}

fn remember(file: &Path, line: &[u8]) -> Result<()> {
    let write = || {
        let folder = file.parent().unwrap_or(file);
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
        file.write_all(&[line, b"\n"].concat())
    };
    write().map_err(Error::io("write", file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Answer {
        answer: bool,
        asked: Cell<u32>,
    }

    impl TrustPrompt for Answer {
        fn confirm(&self, _: &[String]) -> Result<bool> {
            self.asked.set(self.asked.get() + 1);
            Ok(self.answer)
        }
    }

    #[test]
    fn trust_is_asked_once_and_again_after_a_change() {
        let temp = tempfile::tempdir().unwrap();
        let (config, program) = (temp.path().join(".promote.toml"), temp.path().join("switch"));
        std::fs::write(&config, "").unwrap();
        std::fs::write(&program, "one").unwrap();
        let state = temp.path().join("state");
        let prompt = |answer| Answer { answer, asked: Cell::new(0) };
        let (no, yes) = (prompt(false), prompt(true));
        let check = |prompt: &Answer, settings: &[String]| {
            let subject = Subject { config: &config, program: Some(&program), settings, commands: &[] };
            subject.check(Some(&state), prompt)
        };
        assert!(check(&no, &[]).unwrap_err().to_string().contains("is not trusted"));
        check(&yes, &[]).unwrap();
        check(&no, &[]).unwrap();
        assert_eq!((no.asked.get(), yes.asked.get()), (1, 1));
        assert!(check(&no, &["api = \"https://evil\"".into()]).is_err());
        std::fs::write(&program, "two").unwrap();
        assert!(check(&no, &[]).is_err());
        // Another clone with the same content is another clone.
        let other = temp.path().join("other.toml");
        std::fs::write(&other, "").unwrap();
        std::fs::write(&program, "one").unwrap();
        let subject = Subject { config: &other, program: Some(&program), settings: &[], commands: &[] };
        assert!(subject.check(Some(&state), &no).is_err());
        // Nothing to trust.
        Subject { config: &config, program: None, settings: &[], commands: &[] }.check(None, &no).unwrap();
    }

    #[test]
    fn a_file_that_a_command_names_is_trusted_with_its_content() {
        let temp = tempfile::tempdir().unwrap();
        let (config, script) = (temp.path().join(".promote.toml"), temp.path().join("smoke-test"));
        std::fs::write(&config, "").unwrap();
        std::fs::write(&script, "one").unwrap();
        let state = temp.path().join("state");
        let check = |answer, line: &str| {
            let commands = [line.to_owned()];
            let subject = Subject { config: &config, program: None, settings: &[], commands: &commands };
            subject.check(Some(&state), &Answer { answer, asked: Cell::new(0) })
        };
        let error = check(false, "sh './smoke-test' --fast").unwrap_err().to_string();
        assert!(error.ends_with("it uses the command `sh './smoke-test' --fast`"), "{error}");
        check(true, "sh './smoke-test' --fast").unwrap();
        check(false, "sh './smoke-test' --fast").unwrap();
        assert!(check(false, "sh './smoke-test'").is_err());
        std::fs::write(&script, "two").unwrap();
        assert!(check(false, "sh './smoke-test' --fast").is_err());
    }

    #[test]
    fn any_part_of_a_long_setting_and_its_kind_matter() {
        let temp = tempfile::tempdir().unwrap();
        let config = temp.path().join(".promote.toml");
        std::fs::write(&config, "").unwrap();
        let line = |settings: &[String], commands: &[String]| {
            Subject { config: &config, program: None, settings, commands }.line().unwrap()
        };
        let long = |end: &str| format!("host = {}{end}", "x".repeat(1000));
        assert_ne!(line(&[long("a")], &[]), line(&[long("b")], &[]));
        let item = "a = b".to_owned();
        assert_ne!(line(std::slice::from_ref(&item), &[]), line(&[], &[item]));
        let settings = [long("")];
        let list = Subject { config: &config, program: None, settings: &settings, commands: &[] }.list();
        assert!(list[0].len() < 400, "{list:?}");
    }

    #[test]
    fn the_state_directory_is_absolute() {
        let dir = |state: &str, home: &str| state_dir(Some(state.into()), Some(home.into()));
        assert_eq!(dir("/s", "/h"), Some("/s".into()));
        assert_eq!(dir("s", "/h"), Some("/h/.local/state".into()));
        assert_eq!(dir("", ""), None);
    }
}
