//! [`StateFile`]: a small file in `.bluegreen/` that is replaced atomically.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bluegreen_sys::dir::Dir;
use rustix::fs::OFlags;

use super::Site;
use super::paths::{INCOMING, STATE};
use crate::error::{Error, Result};

/// A file with a part of a site's state. It may not exist.
#[derive(Debug)]
pub struct StateFile<'a> {
    dir: &'a Dir,
    path: PathBuf,
}

impl Site {
    /// Reads a file in `.bluegreen/`; `None` if it does not exist.
    pub fn read_state(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.dir.open_dir(STATE) {
            Ok(state) => StateFile::new(&state, self.state_path().join(name)).read(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", self.state_path())(error)),
        }
    }
}

impl<'a> StateFile<'a> {
    /// Creates a handle for the file at `path`, whose directory is open as `dir`.
    pub(super) fn new(dir: &'a Dir, path: PathBuf) -> Self {
        Self { dir, path }
    }

    /// Reads the file; `None` if it does not exist. Fails unless it is a regular file, because a FIFO would block.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        let read = || {
            let mut data: Vec<u8> = Vec::new();
            self.dir.open_regular(self.name(), OFlags::RDONLY)?.read_to_end(&mut data)?;
            Ok::<_, io::Error>(data)
        };
        match read() {
            Ok(data) => Ok(Some(data)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &self.path)(error)),
        }
    }

    /// Replaces the file with the output of `fill`, and flushes it to disk if `durable` is true.
    pub fn replace(&self, durable: bool, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
        let temporary = [INCOMING.as_bytes(), self.name()].concat();
        let replace = || {
            self.dir.remove(&temporary)?;
            let mut file = self.dir.create_file(&temporary, 0o600)?;
            fill(&mut file)?;
            if durable {
                file.sync_data()?;
            }
            self.dir.rename(&temporary, self.dir, self.name())?;
            if durable { self.dir.sync() } else { Ok(()) }
        };
        replace().map_err(Error::io("write", &self.path))
    }

    /// Removes the file if it exists.
    pub fn remove(&self) -> Result<()> {
        self.dir.remove(self.name()).map_err(Error::io("remove", &self.path))
    }

    fn name(&self) -> &[u8] {
        self.path.file_name().unwrap_or_default().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let file = StateFile::new(&dir, temp.path().join("file"));
        assert_eq!(file.read().unwrap(), None);
        file.replace(true, |file| file.write_all(b"one")).unwrap();
        assert!(file.replace(false, |_| Err(ErrorKind::StorageFull.into())).is_err());
        assert_eq!(file.read().unwrap().unwrap(), b"one");
        file.remove().unwrap();
        rustix::fs::mknodat(
            &dir,
            "file",
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(file.read().is_err(), "a FIFO without a writer must not block");
        file.remove().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join("file")).unwrap();
        assert!(file.read().is_err());
    }
}
