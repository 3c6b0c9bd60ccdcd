//! The packs of a repository: where an object lies, what its header says, and its bytes.
//!
//! Half the time of a first release goes into decompression. libdeflate does that about twice as fast as
//! any zlib, but only from memory to memory, with the size known. Whatever is odd or damaged is answered by
//! `None`, and the object database is asked instead.
//!
//! The format is version 2 of git's `Documentation/gitformat-pack.adoc`.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use libdeflater::Decompressor;

use super::buffer::Buffer;
use super::pack_index::{Index, Window};

/// Nothing larger is held in memory: blobs from this size on, in bytes, are streamed by git.
pub const STREAMED: u64 = 16 << 20;

/// The bytes that are read at once: enough for most blobs and deltas of a site, and some more where objects
/// are read in the order of the pack and lie close together.
const FIRST_READ: usize = 4 << 10;
const READ_AHEAD: usize = 16 << 10;

/// The bytes of a header: type, a size of 64 bits, and the base of a delta.
const MAX_HEADER: usize = 10 + 32;

/// The most packs that are opened, with two descriptors each: git itself gathers them from 50 on.
const MAX_PACKS: usize = 100;

const COMMIT: u8 = 1;
const TREE: u8 = 2;
const BLOB: u8 = 3;
const TAG: u8 = 4;
const OFS_DELTA: u8 = 6;
const REF_DELTA: u8 = 7;

/// The packs of one repository, shared by all threads.
#[derive(Debug, Default)]
pub struct Packs {
    packs: Vec<Pack>,
    id_len: usize,
}

#[derive(Debug)]
struct Pack {
    file: File,
    index: Index,
}

/// The place of an object: the pack's number, and the offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the pack.
    pub pack: u32,
    /// The offset of the object's header.
    pub offset: u64,
}

/// The base of a delta.
#[derive(Debug, PartialEq, Eq)]
pub enum Base {
    /// There is none: the object is a whole blob.
    Whole,
    /// There is none: the object is a whole tree.
    Tree,
    /// It begins at this offset of the same pack.
    Offset(u64),
    /// It has this id.
    Id(Vec<u8>),
    /// There is none: the object is a commit or a tag.
    Other,
}

/// The header of an object.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// The object that it is made of.
    pub base: Base,
    /// The size of what is packed: the object, or the delta.
    pub size: u64,
    /// The length of the header.
    pub len: usize,
}

/// The buffers of one thread.
pub struct Buffers {
    region: Region,
    decompressor: Decompressor,
    /// The part that was read last of each index.
    windows: Vec<Window>,
    /// The number of ids that are looked up in order.
    lookups: u32,
}

/// A region of a pack that was read.
#[derive(Default)]
struct Region {
    pack: u32,
    start: u64,
    len: usize,
    bytes: Buffer,
}

impl Packs {
    /// Opens the packs in an `objects` directory, the largest first; the object database is left those that
    /// cannot be read or are too many.
    #[must_use]
    pub fn open(objects: &Path, id_len: usize) -> Self {
        let files = fs::read_dir(objects.join("pack")).into_iter().flatten().flatten();
        let mut found: Vec<_> = files
            .filter(|file| file.path().extension().is_some_and(|extension| extension == "pack"))
            .map(|file| (Reverse(file.metadata().map_or(0, |pack| pack.len())), file.path()))
            .collect();
        found.sort_unstable();
        found.truncate(MAX_PACKS);
        Self { packs: found.iter().filter_map(|(_, path)| Pack::open(path, id_len)).collect(), id_len }
    }

    /// Looks an object up in all packs.
    pub fn find(&self, id: &[u8], buffers: &mut Buffers) -> Option<Place> {
        let lookups = buffers.lookups;
        buffers.windows.resize_with(self.packs.len(), || Window::new(lookups));
        let mut packs = (0u32..).zip(&self.packs).zip(&mut buffers.windows);
        packs.find_map(|((pack, Pack { index, .. }), window)| {
            Some(Place { pack, offset: index.find(id, window)? })
        })
    }

    /// Looks an object up in one pack, then in all: the base of a delta is rarely elsewhere.
    pub fn find_near(&self, pack: u32, id: &[u8], buffers: &mut Buffers) -> Option<Place> {
        let index = &self.packs.get(pack as usize)?.index;
        let near = index.find(id, &mut Window::new(1)).map(|offset| Place { pack, offset });
        near.or_else(|| self.find(id, buffers))
    }

    /// Reads the header of an object. No pack may hold one that cannot be read.
    pub fn header(&self, place: Place, buffers: &mut Buffers) -> Option<Header> {
        header(self.read(place, MAX_HEADER, &mut buffers.region)?, place.offset, self.id_len)
    }

    /// Decompresses an object into `unpacked`, whose length is its size.
    pub fn inflate(
        &self,
        place: Place,
        header_len: usize,
        unpacked: &mut [u8],
        buffers: &mut Buffers,
    ) -> Option<()> {
        // Text takes less than half; zlib stores what it cannot compress in blocks, with a few bytes around each.
        let likely = MAX_HEADER + unpacked.len() / 2 + 64;
        let longest = MAX_HEADER + unpacked.len() + (unpacked.len() >> 9) + 64;
        let Buffers { region, decompressor, .. } = buffers;
        [likely.min(longest), longest].into_iter().find_map(|len| {
            let packed = self.read(place, len, region)?.get(header_len..)?;
            let size = decompressor.zlib_decompress(packed, unpacked).ok()?;
            (size == unpacked.len()).then_some(())
        })
    }

    /// The bytes at a place: `len` of them and more, or those up to the end of the pack. They are read anew where
    /// the region does not hold them, and far ahead where it is followed in the order of the pack.
    fn read<'r>(&self, place: Place, len: usize, region: &'r mut Region) -> Option<&'r [u8]> {
        let end = region.start + region.len as u64;
        let is_next =
            region.pack == place.pack && (region.start..=end + FIRST_READ as u64).contains(&place.offset);
        if !is_next || place.offset.checked_add(len as u64)? > end {
            let len = len.max(if is_next { READ_AHEAD } else { FIRST_READ });
            region.bytes.set_len(len);
            let pack = self.packs.get(place.pack as usize)?;
            region.len = 0;
            region.len = pack.file.read_at(&mut region.bytes, place.offset).ok()?;
            (region.pack, region.start) = (place.pack, place.offset);
        }
        region.bytes[..region.len].get((place.offset - region.start) as usize..)
    }
}

impl Pack {
    fn open(pack: &Path, id_len: usize) -> Option<Self> {
        let index = Index::open(&pack.with_extension("idx"), id_len)?;
        Some(Self { file: File::open(pack).ok()?, index })
    }
}

impl Buffers {
    /// Buffers for so many look-ups of ids, in order.
    #[must_use]
    pub fn for_lookups(lookups: u32) -> Self {
        let (region, decompressor) = (Region::default(), Decompressor::new());
        Self { region, decompressor, windows: Vec::new(), lookups }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::for_lookups(1)
    }
}

/// The header of an object that begins at an offset.
fn header(bytes: &[u8], offset: u64, id_len: usize) -> Option<Header> {
    let first = *bytes.first()?;
    let (mut size, mut shift, mut at) = (u64::from(first & 15), 4, 1);
    let mut more = first & 0x80 != 0;
    while more {
        let byte = *bytes.get(at)?;
        size |= u64::from(byte & 0x7f).checked_shl(shift)?;
        more = byte & 0x80 != 0;
        shift += 7;
        at += 1;
    }
    match first >> 4 & 7 {
        TREE => Some(Header { base: Base::Tree, size, len: at }),
        BLOB => Some(Header { base: Base::Whole, size, len: at }),
        OFS_DELTA => {
            let (back, len) = distance(&bytes[at..])?;
            let base = offset.checked_sub(back).filter(|_| back > 0)?;
            Some(Header { base: Base::Offset(base), size, len: at + len })
        }
        REF_DELTA => {
            let id = bytes.get(at..at + id_len)?;
            Some(Header { base: Base::Id(id.to_vec()), size, len: at + id_len })
        }
        COMMIT | TAG => Some(Header { base: Base::Other, size, len: at }),
        _ => None,
    }
}

/// The distance back to a base, and its length in bytes: groups of 7 bits, highest first, each but the last
/// one counted from 1.
fn distance(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut distance: u64 = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        if distance > u64::MAX >> 8 {
            return None;
        }
        distance = distance << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((distance, at + 1));
        }
        distance += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_unknown_kinds_are_not() {
        let whole = |size, len| Some(Header { base: Base::Whole, size, len });
        let read = |bytes: &[u8]| header(bytes, 100, 20);
        assert_eq!(read(&[0x3f]), whole(15, 1));
        assert_eq!(read(&[0xbf, 0x01]), whole(31, 2));
        assert_eq!(read(&[0x1f]), Some(Header { base: Base::Other, size: 15, len: 1 }), "a commit");
        assert_eq!([read(&[0x0f]), read(&[0x5f])], [None, None]);
        assert_eq!(read(&[0x2f]), Some(Header { base: Base::Tree, size: 15, len: 1 }));
        assert_eq!(read(&[0xbf, 0xff]), None, "cut off");
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0xff; 20]), None, "too long for any size");
        assert_eq!(read(&[0x65, 99]), Some(Header { base: Base::Offset(1), size: 5, len: 2 }));
        assert_eq!(read(&[0x65, 0]), None, "a delta of itself");
        assert_eq!(read(&[0x65, 101]), None, "a base before the pack");
        assert_eq!(read(&[0x65, 0xff, 0xff, 0xff]), None, "a distance that is cut off");
        let id = [[0x75].as_slice(), &[7; 20]].concat();
        assert_eq!(read(&id), Some(Header { base: Base::Id(vec![7; 20]), size: 5, len: 21 }));
        assert_eq!(read(&id[..20]), None, "an id that is cut off");
        assert_eq!(header(&[0x65, 0x80, 0], 200, 20).map(|header| header.base), Some(Base::Offset(72)));
    }

    #[test]
    fn damaged_indexes_are_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("pack")).unwrap();
        fs::write(temp.path().join("pack/x.pack"), "PACK").unwrap();
        for damaged in [&b""[..], b"\xfftOc\0\0\0\x02", &[0xff; 2000]] {
            fs::write(temp.path().join("pack/x.idx"), damaged).unwrap();
            let packs = Packs::open(temp.path(), 20);
            assert!(packs.find(&[1; 20], &mut Buffers::default()).is_none());
        }
    }
}
