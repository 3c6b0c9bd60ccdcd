//! Reads loose objects. Each is a file of its own, compressed with zlib: its type and its size, then its content.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use flate2::{Decompress, FlushDecompress};
use git2::{ObjectType, Oid};
use libdeflater::Decompressor;

use super::pack::STREAMED;

/// The bytes that are read of a file to learn the type and the size of the object.
const START: usize = 4 << 10;

/// The length of the longest header, in bytes: `commit`, a size of 64 bits, and what is around them.
const MAX_HEADER: usize = 32;

/// A loose object.
#[derive(Debug)]
pub struct Loose {
    /// Its type.
    pub kind: ObjectType,
    /// The size of its content in bytes.
    pub size: u64,
    /// Its content, if it was asked for and is smaller than [`STREAMED`].
    pub content: Option<Vec<u8>>,
}

/// Reads an object of an `objects` directory, if it is there.
pub fn read(objects: &Path, id: Oid, with_content: bool) -> io::Result<Option<Loose>> {
    let digits = id.to_string();
    let mut file = match File::open(objects.join(&digits[..2]).join(&digits[2..])) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = vec![0; START];
    if with_content {
        // What cannot be compressed becomes a little longer.
        bytes.resize(file.metadata()?.len().min(STREAMED + (STREAMED >> 8)) as usize, 0);
        file.read_exact(&mut bytes)?;
    } else {
        let len = file.read(&mut bytes)?;
        bytes.truncate(len);
    }
    let damaged = || io::Error::new(ErrorKind::InvalidData, "the loose object is damaged");
    let (kind, size, header_len) = header(&bytes).ok_or_else(damaged)?;
    if !with_content || size >= STREAMED {
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

/// Parses `TYPE SIZE`, up to the NUL byte that ends it, and gives its length too.
fn header(compressed: &[u8]) -> Option<(ObjectType, u64, usize)> {
    let mut start = [0; MAX_HEADER];
    let mut zlib = Decompress::new(true);
    zlib.decompress(compressed, &mut start, FlushDecompress::None).ok()?;
    let start = &start[..(zlib.total_out() as usize).min(MAX_HEADER)];
    let len = start.iter().position(|byte| *byte == 0)?;
    let (kind, size) = std::str::from_utf8(&start[..len]).ok()?.split_once(' ')?;
    let is_number = size.bytes().all(|byte| byte.is_ascii_digit());
    Some((ObjectType::from_str(kind)?, size.parse().ok().filter(|_| is_number)?, len + 1))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    /// Reads a loose object with this file content.
    fn read_file(file: &[u8], with_content: bool) -> io::Result<Option<Loose>> {
        let temp = tempfile::tempdir().unwrap();
        let id = Oid::from_str(&"1".repeat(40)).unwrap();
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
    fn objects_are_read_whole_or_only_their_header() {
        let file = zlib(&[&b"blob 10000\0"[..], &[b'x'; 10_000]].concat());
        let sound = |with_content| read_file(&file, with_content).unwrap().unwrap();
        assert_eq!(sound(true).content.unwrap(), [b'x'; 10_000]);
        let Loose { kind, size, content } = sound(false);
        assert_eq!((kind, size, content), (ObjectType::Blob, 10_000, None));
        let huge = read_file(&zlib(b"tree 99999999999\0"), true).unwrap().unwrap();
        assert_eq!((huge.kind, huge.size, huge.content), (ObjectType::Tree, 99_999_999_999, None));
        let nothing = read(Path::new("/"), Oid::from_str(&"2".repeat(40)).unwrap(), true);
        assert!(nothing.unwrap().is_none());
    }

    #[test]
    fn damaged_objects_are_an_error() {
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
