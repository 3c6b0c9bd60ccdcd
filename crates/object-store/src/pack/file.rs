//! [`PackFile`]: a pack or an index, with reads at any offset.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file that stays open, or is opened for each read if there are too many.
#[derive(Debug)]
pub enum PackFile {
    Open(File),
    Closed(PathBuf),
}

impl PackFile {
    pub fn open(path: &Path, is_kept_open: bool) -> io::Result<Self> {
        if is_kept_open { File::open(path).map(Self::Open) } else { Ok(Self::Closed(path.into())) }
    }

    /// Returns the length of the file, in bytes.
    pub fn len(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.metadata()?.len()))
    }

    /// Reads up to `bytes.len()` bytes at an offset. Returns the number of bytes, which is smaller at the end of the file.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| file.read_at(bytes, offset))
    }

    /// Reads exactly `bytes.len()` bytes at an offset. Fails if the file ends too early.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|file| file.read_exact_at(bytes, offset))
    }

    fn with<T>(&self, read: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Open(file) => read(file),
            Self::Closed(path) => read(&File::open(path)?),
        }
    }
}

/// Reads a file from an offset on.
pub struct FromOffset<'a> {
    pub file: &'a PackFile,
    pub offset: u64,
}

impl Read for FromOffset<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(bytes, self.offset)?;
        self.offset += len as u64;
        Ok(len)
    }
}
