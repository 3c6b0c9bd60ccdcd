//! Copies an object that is too large for memory, one chunk at a time.

use std::io::{self, BufRead, Write};

use flate2::{Decompress, FlushDecompress, Status};

/// The number of bytes that are written at a time.
const CHUNK: usize = 128 << 10;

/// An object that could not be copied.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// It cannot be read, or has another size or checksum.
    Damaged,
    Write(io::Error),
}

/// Decompresses a zlib stream of `skip` and `size` bytes, and copies the last `size` bytes. Verifies its checksum.
pub(crate) fn inflate(
    mut compressed: impl BufRead,
    mut skip: usize,
    size: u64,
    to: &mut dyn Write,
) -> Result<(), StreamError> {
    let (mut zlib, mut buffer, mut rest) = (Decompress::new(true), vec![0; CHUNK], size);
    loop {
        let input = compressed.fill_buf().map_err(|_| StreamError::Damaged)?;
        let is_end = input.is_empty();
        let (total_in, total_out) = (zlib.total_in(), zlib.total_out());
        let status =
            zlib.decompress(input, &mut buffer, FlushDecompress::None).map_err(|_| StreamError::Damaged)?;
        compressed.consume((zlib.total_in() - total_in) as usize);
        let inflated = &buffer[..(zlib.total_out() - total_out) as usize];
        let chunk = &inflated[skip.min(inflated.len())..];
        skip -= inflated.len() - chunk.len();
        rest = rest.checked_sub(chunk.len() as u64).ok_or(StreamError::Damaged)?;
        to.write_all(chunk).map_err(StreamError::Write)?;
        if status == Status::StreamEnd {
            return if rest == 0 { Ok(()) } else { Err(StreamError::Damaged) };
        }
        if is_end && inflated.is_empty() {
            return Err(StreamError::Damaged);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    /// Compresses a header of 7 bytes and `content`.
    fn zlib(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"blob 1\0").unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn content_is_copied_without_the_header_and_damage_is_an_error() {
        let content: Vec<u8> = (0..1_000_000_u32).flat_map(|number| (number % 251).to_le_bytes()).collect();
        let compressed = zlib(&content);
        let copy = |compressed: &[u8], size: usize| {
            let mut copied = Vec::new();
            let compressed = BufReader::with_capacity(1000, compressed);
            inflate(compressed, 7, size as u64, &mut copied).map(|()| copied)
        };
        assert_eq!(copy(&compressed, content.len()).unwrap(), content);
        assert_eq!(copy(&zlib(b""), 0).unwrap(), b"");
        let end = compressed.len();
        for damaged in [&compressed[..end - 1], &compressed[..end / 2], &[], b"no zlib stream"] {
            assert!(matches!(copy(damaged, content.len()), Err(StreamError::Damaged)));
        }
        let mut other = compressed.clone();
        // The checksum is at the end.
        other[end - 1] ^= 1;
        assert!(matches!(copy(&other, content.len()), Err(StreamError::Damaged)));
        for size in [0, content.len() - 1, content.len() + 1] {
            assert!(matches!(copy(&compressed, size), Err(StreamError::Damaged)), "{size}");
        }
        let full = inflate(&compressed[..], 7, content.len() as u64, &mut [0; 100].as_mut_slice());
        assert!(matches!(full, Err(StreamError::Write(_))));
    }
}
