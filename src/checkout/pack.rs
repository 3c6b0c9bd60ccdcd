//! The fast path of reading blobs: those that lie whole in a pack, which are most.
//!
//! A first release reads every blob once, and half its time goes into decompression. libdeflate does
//! that about twice as fast as any zlib, but only from memory to memory, so the bytes have to be found
//! first: here, with the pack's index and two reads at most. Whatever is not that simple (deltas,
//! loose objects, alternates, damage) is answered by `None`, and the object database is asked.
//!
//! The formats are those of git's `Documentation/gitformat-pack.adoc`: index version 2, pack version 2.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use libdeflater::Decompressor;

/// Indexes are held in memory up to this size in bytes, all together.
const MAX_INDEXES: u64 = 64 << 20;

/// The bytes that are read at first: enough for most blobs of a site.
const FIRST_READ: usize = 8 << 10;

/// The most bytes that the header of an object has: type and a size of 64 bits.
const MAX_HEADER: usize = 10;

const INDEX_MAGIC: &[u8] = b"\xfftOc\0\0\0\x02";
const FANOUT: usize = 256 * 4;
const BLOB: u8 = 3;

/// The packs of one repository, shared by all threads.
#[derive(Debug)]
pub struct Packs {
    packs: Vec<Pack>,
}

#[derive(Debug)]
struct Pack {
    file: File,
    index: Vec<u8>,
    id_len: usize,
    objects: usize,
}

/// The buffers of one thread.
pub struct Buffers {
    packed: Vec<u8>,
    blob: Vec<u8>,
    decompressor: Decompressor,
}

impl Packs {
    /// Opens the packs in an `objects` directory; what cannot be read is left to the object database.
    pub fn open(objects: &Path, id_len: usize) -> Self {
        let mut packs = Vec::new();
        let mut budget = MAX_INDEXES;
        for file in fs::read_dir(objects.join("pack")).into_iter().flatten().flatten() {
            let path = file.path();
            if path.extension().is_some_and(|extension| extension == "idx") {
                let len = file.metadata().map_or(u64::MAX, |metadata| metadata.len());
                if let Some(left) = budget.checked_sub(len) {
                    budget = left;
                    packs.extend(Pack::open(&path, id_len));
                }
            }
        }
        Self { packs }
    }

    /// The size of a blob.
    pub fn blob_size(&self, id: &[u8]) -> Option<u64> {
        let (pack, offset) = self.find(id)?;
        let mut header = [0; MAX_HEADER];
        let read = pack.file.read_at(&mut header, offset).ok()?;
        Some(blob_header(&header[..read])?.0)
    }

    /// The content of a blob whose size is known.
    pub fn blob<'b>(&self, id: &[u8], size: u64, buffers: &'b mut Buffers) -> Option<&'b [u8]> {
        let (pack, offset) = self.find(id)?;
        let size = usize::try_from(size).ok()?;
        let Buffers { packed, blob, decompressor } = buffers;
        // zlib stores what it cannot compress in blocks, with a few bytes around each.
        let longest = MAX_HEADER + size + (size >> 9) + 64;
        let mut have = read_at(pack, packed, 0, longest.min(FIRST_READ), offset)?;
        let (told, start) = blob_header(&packed[..have])?;
        if have == FIRST_READ {
            have += read_at(pack, packed, have, longest.saturating_sub(have), offset)?;
        }
        blob.resize(size, 0);
        let unpacked = decompressor.zlib_decompress(&packed[start..have], blob).ok()?;
        (told == size as u64 && unpacked == size).then_some(blob)
    }

    fn find(&self, id: &[u8]) -> Option<(&Pack, u64)> {
        self.packs.iter().find_map(|pack| Some((pack, pack.offset(id)?)))
    }
}

impl Pack {
    fn open(index: &Path, id_len: usize) -> Option<Self> {
        let file = File::open(index.with_extension("pack")).ok()?;
        let index = fs::read(index).ok()?;
        let objects = u32_at(&index, INDEX_MAGIC.len() + FANOUT - 4)? as usize;
        // Ids, checksums and short offsets, then two checksums of the whole.
        let least = INDEX_MAGIC.len() + FANOUT + objects.checked_mul(id_len + 8)? + 2 * id_len;
        (index.starts_with(INDEX_MAGIC) && index.len() >= least).then_some(Self {
            file,
            index,
            id_len,
            objects,
        })
    }

    /// The offset of an object in the pack.
    fn offset(&self, id: &[u8]) -> Option<u64> {
        let first = usize::from(*id.first()?);
        let fanout = |at: usize| u32_at(&self.index, INDEX_MAGIC.len() + at * 4).map(|count| count as usize);
        let mut low = if first == 0 { 0 } else { fanout(first - 1)? };
        let mut high = fanout(first)?.min(self.objects);
        let ids = INDEX_MAGIC.len() + FANOUT;
        while low < high {
            let middle = low.midpoint(high);
            match self.index.get(ids + middle * self.id_len..)?.get(..self.id_len)?.cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.offset_of(middle),
            }
        }
        None
    }

    fn offset_of(&self, object: usize) -> Option<u64> {
        let short = INDEX_MAGIC.len() + FANOUT + self.objects * (self.id_len + 4);
        let offset = u32_at(&self.index, short + object * 4)?;
        if offset < 1 << 31 {
            return Some(offset.into());
        }
        let long = short + self.objects * 4 + (offset & 0x7fff_ffff) as usize * 8;
        Some(u64::from(u32_at(&self.index, long)?) << 32 | u64::from(u32_at(&self.index, long + 4)?))
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self { packed: Vec::new(), blob: Vec::new(), decompressor: Decompressor::new() }
    }
}

/// Reads up to `len` bytes behind the `have` bytes that are there already; gives how many came.
fn read_at(pack: &Pack, packed: &mut Vec<u8>, have: usize, len: usize, offset: u64) -> Option<usize> {
    if packed.len() < have + len {
        packed.resize(have + len, 0);
    }
    pack.file.read_at(&mut packed[have..have + len], offset + have as u64).ok()
}

/// The size of a whole blob from its header, and where the compressed bytes begin.
fn blob_header(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    if first >> 4 & 7 != BLOB {
        return None;
    }
    let (mut size, mut shift, mut at) = (u64::from(first & 15), 4, 1);
    let mut more = first & 0x80 != 0;
    while more {
        let byte = *bytes.get(at)?;
        size |= u64::from(byte & 0x7f).checked_shl(shift)?;
        more = byte & 0x80 != 0;
        shift += 7;
        at += 1;
    }
    Some((size, at))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_other_kinds_are_not() {
        assert_eq!(blob_header(&[0x3f]), Some((15, 1)));
        assert_eq!(blob_header(&[0xbf, 0x01]), Some((31, 2)));
        assert_eq!(blob_header(&[0x6f]), None, "a delta");
        assert_eq!(blob_header(&[0x1f]), None, "a commit");
        assert_eq!(blob_header(&[0xbf, 0xff]), None, "cut off");
        assert_eq!(blob_header(&[]), None);
        assert_eq!(blob_header(&[0xff; 20]), None, "too long for any size");
    }

    #[test]
    fn damaged_indexes_are_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("pack")).unwrap();
        fs::write(temp.path().join("pack/x.pack"), "PACK").unwrap();
        for damaged in [&b""[..], b"\xfftOc\0\0\0\x02", &[0xff; 2000]] {
            fs::write(temp.path().join("pack/x.idx"), damaged).unwrap();
            assert!(Packs::open(temp.path(), 20).blob_size(&[1; 20]).is_none());
        }
    }
}
