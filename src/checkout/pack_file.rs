//! [`PackFile`]: a pack or an index, read at any offset.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file that is kept open, or is opened for each read where there are too many of them.
#[derive(Debug)]
pub enum PackFile {
    /// It is kept open.
    Open(File),
    /// It is opened for each read.
    Closed(PathBuf),
}

impl PackFile {
    /// Opens a file.
    pub fn open(path: &Path, is_kept_open: bool) -> io::Result<Self> {
        if is_kept_open { File::open(path).map(Self::Open) } else { Ok(Self::Closed(path.into())) }
    }

    /// Gives its length in bytes.
    pub fn len(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.metadata()?.len()))
    }

    /// Reads at an offset, as far as the file goes. Gives the number of bytes.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| file.read_at(bytes, offset))
    }

    /// Reads at an offset; a file that ends too early is an error.
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
