//! Reads loose objects: zlib-compressed files that contain the type, the size, and the content of one object.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;

use flate2::{Decompress, FlushDecompress};
use libdeflater::Decompressor;

use crate::pack::MAX_IN_MEMORY;
use crate::stream::{self, StreamError};
use bluegreen_git_types::{ObjectId, ObjectKind};

/// The number of bytes that are read when only type and size are wanted.
const START: usize = 4 << 10;

/// The number of bytes that are read at a time when a large object is copied.
const READ_AHEAD: usize = 256 << 10;

/// The maximum length of a header, in bytes: `commit`, a space, a 64-bit size, and NUL.
const MAX_HEADER: usize = 32;

/// A loose object.
#[derive(Debug)]
pub struct Loose {
    pub kind: ObjectKind,
    /// The size of the content, in bytes.
    pub size: u64,
    /// The content, if it was requested and is smaller than [`MAX_IN_MEMORY`].
    pub content: Option<Vec<u8>>,
}

/// The start of a decompressed object.
struct Header {
    kind: ObjectKind,
    /// The size of the content, in bytes.
    size: u64,
    /// The length of the header, in bytes.
    len: usize,
}

/// Reads an object of an `objects` directory, if it exists.
pub fn read(objects: &Path, id: ObjectId, with_content: bool) -> io::Result<Option<Loose>> {
    let mut file = match open(objects, id) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = vec![0; START];
    if with_content {
        // Incompressible data grows a little.
        bytes.resize(file.metadata()?.len().min(MAX_IN_MEMORY + (MAX_IN_MEMORY >> 8)) as usize, 0);
        file.read_exact(&mut bytes)?;
    } else {
        let len = file.read(&mut bytes)?;
        bytes.truncate(len);
    }
    let Header { kind, size, len: header_len } = Header::parse(&bytes).ok_or_else(damaged)?;
    if !with_content || size >= MAX_IN_MEMORY {
        return Ok(Some(Loose { kind, size, content: None }));
    }
    let mut content = vec![0; header_len + size as usize];
    match Decompressor::new().zlib_decompress(&bytes, &mut content) {
        Ok(len) if len == content.len() => {
            Ok(Some(Loose { kind, size, content: Some(content.split_off(header_len)) }))
        }
        _ => Err(damaged()),
    }
}

/// Copies the content of a blob of this size. Returns `None` unless it is a loose object of this directory.
pub(crate) fn copy(
    objects: &Path,
    id: ObjectId,
    size: u64,
    to: &mut dyn Write,
) -> Option<Result<(), StreamError>> {
    let mut file = BufReader::with_capacity(READ_AHEAD, open(objects, id).ok()?);
    let header = Header::parse(file.fill_buf().ok()?)?;
    ((header.kind, header.size) == (ObjectKind::Blob, size))
        .then(|| stream::inflate(file, header.len, size, to))
}

fn open(objects: &Path, id: ObjectId) -> io::Result<File> {
    let digits = id.to_string();
    File::open(objects.join(&digits[..2]).join(&digits[2..]))
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the loose object is damaged")
}

impl Header {
    /// Parses `TYPE SIZE NUL`.
    fn parse(compressed: &[u8]) -> Option<Self> {
        let mut start = [0; MAX_HEADER];
        let mut zlib = Decompress::new(true);
        zlib.decompress(compressed, &mut start, FlushDecompress::None).ok()?;
        let start = &start[..(zlib.total_out() as usize).min(MAX_HEADER)];
        let len = start.iter().position(|byte| *byte == 0)?;
        let (kind, size) = std::str::from_utf8(&start[..len]).ok()?.split_once(' ')?;
        let is_number = size.bytes().all(|byte| byte.is_ascii_digit());
        let size = size.parse().ok().filter(|_| is_number)?;
        Some(Self { kind: ObjectKind::from_name(kind)?, size, len: len + 1 })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    /// Reads a loose object whose file has this content.
    fn read_file(file: &[u8], with_content: bool) -> io::Result<Option<Loose>> {
        let temp = tempfile::tempdir().unwrap();
        let id = ObjectId::parse(&[b'1'; 40]).unwrap();
        fs::create_dir(temp.path().join("11")).unwrap();
        fs::write(temp.path().join("11").join("1".repeat(38)), file).unwrap();
        read(temp.path(), id, with_content)
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_whole_object_or_only_its_header_is_read() {
        let file = zlib(&[&b"blob 10000\0"[..], &[b'x'; 10_000]].concat());
        let sound = |with_content| read_file(&file, with_content).unwrap().unwrap();
        assert_eq!(sound(true).content.unwrap(), [b'x'; 10_000]);
        let Loose { kind, size, content } = sound(false);
        assert_eq!((kind, size, content), (ObjectKind::Blob, 10_000, None));
        let huge = read_file(&zlib(b"tree 99999999999\0"), true).unwrap().unwrap();
        assert_eq!((huge.kind, huge.size, huge.content), (ObjectKind::Tree, 99_999_999_999, None));
        let nothing = read(Path::new("/"), ObjectId::parse(&[b'2'; 40]).unwrap(), true);
        assert!(nothing.unwrap().is_none());
    }

    #[test]
    fn damaged_objects_are_errors() {
        let sound = zlib(b"blob 3\0abc");
        for damaged in [
            Vec::new(),
            b"blob 3\0abc".to_vec(),
            sound[..sound.len() - 5].to_vec(),
            zlib(b"blob 3\0ab"),
            zlib(b"blob 3\0abcd"),
            zlib(b"blob 3"),
            zlib(b"blob +3\0abc"),
            zlib(b"blob 99999999999999999999\0"),
            zlib(b"file 3\0abc"),
            zlib(&[b'x'; 1000]),
        ] {
            assert!(read_file(&damaged, true).is_err(), "{}", damaged.escape_ascii());
        }
    }
}
