//! Reads the packs of a repository: finds an object, and reads its header and its content.
//!
//! Half the time of a first release goes into decompression. libdeflate does that about twice as fast as
//! any zlib, but only from memory to memory, with the size known. Whatever is odd or damaged gives
//! `None`, and git is asked instead, unless git would never end.
//!
//! The format is version 2 of git's `Documentation/gitformat-pack.adoc`.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use flate2::{Decompress, FlushDecompress};
use git2::ObjectType;
use libdeflater::Decompressor;

use super::buffer::Buffer;
use super::delta;
use super::pack_file::PackFile;
use super::pack_index::{Index, Window};

/// Nothing larger is held in memory: blobs from this size on, in bytes, are streamed by git.
pub const STREAMED: u64 = 16 << 20;

/// The number of bytes that are read at once: enough for most blobs and deltas of a site. Where objects are read in the
/// order of the pack, more is read ahead.
const FIRST_READ: usize = 4 << 10;
const READ_AHEAD: usize = 16 << 10;

/// The length of the longest header, in bytes: type, a size of 64 bits, and the base of a delta.
const MAX_HEADER: usize = 10 + 32;

/// The number of packs whose two files are kept open. From 50 packs on, `git gc` makes one of them.
const MAX_OPEN: usize = 100;

/// The length of the two sizes that a delta begins with, in bytes.
const MAX_SIZES: usize = 10 + 10;

const COMMIT: u8 = 1;
const TREE: u8 = 2;
const BLOB: u8 = 3;
const TAG: u8 = 4;
const OFS_DELTA: u8 = 6;
const REF_DELTA: u8 = 7;

/// The packs of one repository, shared by all threads.
#[derive(Debug, Default)]
pub struct Packs {
    all: Vec<Pack>,
    id_len: usize,
    /// A pack could not be opened.
    is_incomplete: bool,
}

#[derive(Debug)]
struct Pack {
    file: PackFile,
    index: Index,
}

/// The location of an object: the pack's number, and the offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The number of the pack.
    pub pack: u32,
    /// The offset of the object's header.
    pub offset: u64,
}

/// The representation of an object in a pack.
#[derive(Debug, PartialEq, Eq)]
pub enum Representation {
    /// The object itself.
    Whole(ObjectType),
    /// A delta whose base begins at this offset of the same pack.
    OfsDelta(u64),
    /// A delta whose base has this id.
    RefDelta(Vec<u8>),
}

/// The header of an object.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// The object itself, or a delta.
    pub representation: Representation,
    /// The size of the object, or else of the delta, in bytes.
    pub size: u64,
    /// The length of the header itself.
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

/// The part of a pack that was read last.
#[derive(Default)]
struct Region {
    pack: u32,
    start: u64,
    len: usize,
    bytes: Buffer,
}

impl Packs {
    /// Opens the packs in `objects` directories, the largest first.
    #[must_use]
    pub fn open(directories: &[PathBuf], id_len: usize) -> Self {
        let files = directories.iter().flat_map(|objects| fs::read_dir(objects.join("pack")));
        let files = files.flatten().flatten();
        let mut found: Vec<_> = files
            .filter(|file| file.path().extension().is_some_and(|extension| extension == "pack"))
            .map(|file| (Reverse(file.metadata().map_or(0, |pack| pack.len())), file.path()))
            .collect();
        found.sort_unstable();
        let all = found.iter().enumerate();
        let all: Vec<_> = all.filter_map(|(at, (_, path))| Pack::open(path, id_len, at < MAX_OPEN)).collect();
        Self { is_incomplete: all.len() < found.len(), all, id_len }
    }

    /// Returns whether a pack could not be opened: it may hold an object that is not found.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Looks an object up in all packs.
    pub fn find(&self, id: &[u8], buffers: &mut Buffers) -> Option<Location> {
        let lookups = buffers.lookups;
        buffers.windows.resize_with(self.all.len(), || Window::new(lookups));
        let mut packs = (0u32..).zip(&self.all).zip(&mut buffers.windows);
        packs.find_map(|((pack, Pack { index, .. }), window)| {
            Some(Location { pack, offset: index.find(id, window)? })
        })
    }

    /// Looks an object up in one pack, then in all: the base of a delta is nearly always in the same pack.
    pub fn find_near(&self, pack: u32, id: &[u8], buffers: &mut Buffers) -> Option<Location> {
        let index = &self.all.get(pack as usize)?.index;
        let near = index.find(id, &mut Window::new(1)).map(|offset| Location { pack, offset });
        near.or_else(|| self.find(id, buffers))
    }

    /// Reads the header of an object, if there is one.
    pub fn header(&self, location: Location, buffers: &mut Buffers) -> Option<Header> {
        header(self.read(location, MAX_HEADER, &mut buffers.region)?, location.offset, self.id_len)
    }

    /// Finds the base of a delta at a location.
    pub fn base(
        &self,
        delta: Location,
        representation: Representation,
        buffers: &mut Buffers,
    ) -> Option<Location> {
        match representation {
            Representation::Whole(_) => None,
            Representation::OfsDelta(offset) => Some(Location { offset, ..delta }),
            Representation::RefDelta(id) => self.find_near(delta.pack, &id, buffers),
        }
    }

    /// Reads the sizes of base and result that a delta claims, and decompresses no more of it.
    pub fn delta_sizes(
        &self,
        location: Location,
        header_len: usize,
        buffers: &mut Buffers,
    ) -> Option<(u64, u64)> {
        let packed = self.read(location, FIRST_READ, &mut buffers.region)?.get(header_len..)?;
        let mut start = [0; MAX_SIZES];
        let mut zlib = Decompress::new(true);
        zlib.decompress(packed, &mut start, FlushDecompress::None).ok()?;
        let (base, result, _) = delta::sizes(start.get(..zlib.total_out() as usize)?)?;
        Some((base, result))
    }

    /// Decompresses an object into `unpacked`, whose length is its size. In the pack, header included, it has at most `room`
    /// bytes, or more than it can have if nothing is known.
    pub fn inflate(
        &self,
        location: Location,
        header_len: usize,
        room: usize,
        unpacked: &mut [u8],
        buffers: &mut Buffers,
    ) -> Option<()> {
        // Text takes less than half, images all of it; zlib stores what it cannot compress in blocks, with a few
        // bytes around each.
        let longest = MAX_HEADER + unpacked.len() + (unpacked.len() >> 9) + 64;
        let likely = if room <= longest { room } else { MAX_HEADER + unpacked.len() / 2 + 64 };
        let Buffers { region, decompressor, .. } = buffers;
        [likely, longest].into_iter().find_map(|len| {
            let packed = self.read(location, len, region)?.get(header_len..)?;
            let size = decompressor.zlib_decompress(packed, unpacked).ok()?;
            (size == unpacked.len()).then_some(())
        })
    }

    /// Gives the bytes at a location: at least `len` of them, or those up to the end of the pack. They are read from the
    /// file if the region does not hold them, and more is read ahead if they follow the region.
    fn read<'r>(&self, location: Location, len: usize, region: &'r mut Region) -> Option<&'r [u8]> {
        let end = region.start + region.len as u64;
        let is_next = region.pack == location.pack
            && (region.start..=end + FIRST_READ as u64).contains(&location.offset);
        if !is_next || location.offset.checked_add(len as u64)? > end {
            let len = len.max(if is_next { READ_AHEAD } else { FIRST_READ });
            region.bytes.set_len(len);
            let pack = self.all.get(location.pack as usize)?;
            region.len = 0;
            region.len = pack.file.read_at(&mut region.bytes, location.offset).ok()?;
            (region.pack, region.start) = (location.pack, location.offset);
        }
        region.bytes[..region.len].get((location.offset - region.start) as usize..)
    }
}

impl Pack {
    fn open(pack: &Path, id_len: usize, is_kept_open: bool) -> Option<Self> {
        let index = Index::open(&pack.with_extension("idx"), id_len, is_kept_open)?;
        Some(Self { file: PackFile::open(pack, is_kept_open).ok()?, index })
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

/// Parses the header of an object that begins at an offset.
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
    let whole = |kind, size, len| Some(Header { representation: Representation::Whole(kind), size, len });
    match first >> 4 & 7 {
        COMMIT => whole(ObjectType::Commit, size, at),
        TREE => whole(ObjectType::Tree, size, at),
        BLOB => whole(ObjectType::Blob, size, at),
        TAG => whole(ObjectType::Tag, size, at),
        OFS_DELTA => {
            let (back, len) = distance(&bytes[at..])?;
            let base = offset.checked_sub(back).filter(|_| back > 0)?;
            Some(Header { representation: Representation::OfsDelta(base), size, len: at + len })
        }
        REF_DELTA => {
            let id = bytes.get(at..at + id_len)?;
            Some(Header { representation: Representation::RefDelta(id.to_vec()), size, len: at + id_len })
        }
        _ => None,
    }
}

/// Parses the distance back to a base, and gives its length in bytes too. It is coded in groups of 7 bits, the highest
/// first; 1 is added to each group but the last.
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
        let whole = |kind, size, len| Some(Header { representation: Representation::Whole(kind), size, len });
        let read = |bytes: &[u8]| header(bytes, 100, 20);
        assert_eq!(read(&[0x3f]), whole(ObjectType::Blob, 15, 1));
        assert_eq!(read(&[0xbf, 0x01]), whole(ObjectType::Blob, 31, 2));
        assert_eq!(read(&[0x1f]), whole(ObjectType::Commit, 15, 1));
        assert_eq!([read(&[0x0f]), read(&[0x5f])], [None, None]);
        assert_eq!(read(&[0x2f]), whole(ObjectType::Tree, 15, 1));
        assert_eq!(read(&[0xbf, 0xff]), None, "cut off");
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0xff; 20]), None, "too long for any size");
        assert_eq!(
            read(&[0x65, 99]),
            Some(Header { representation: Representation::OfsDelta(1), size: 5, len: 2 })
        );
        assert_eq!(read(&[0x65, 0]), None, "a delta of itself");
        assert_eq!(read(&[0x65, 101]), None, "a base before the pack");
        assert_eq!(read(&[0x65, 0xff, 0xff, 0xff]), None, "a distance that is cut off");
        let id = [[0x75].as_slice(), &[7; 20]].concat();
        assert_eq!(
            read(&id),
            Some(Header { representation: Representation::RefDelta(vec![7; 20]), size: 5, len: 21 })
        );
        assert_eq!(read(&id[..20]), None, "an id that is cut off");
        assert_eq!(
            header(&[0x65, 0x80, 0], 200, 20).map(|header| header.representation),
            Some(Representation::OfsDelta(72))
        );
    }

    #[test]
    fn damaged_indexes_are_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("pack")).unwrap();
        fs::write(temp.path().join("pack/x.pack"), "PACK").unwrap();
        for damaged in [&b""[..], b"\xfftOc\0\0\0\x02", &[0xff; 2000]] {
            fs::write(temp.path().join("pack/x.idx"), damaged).unwrap();
            let packs = Packs::open(&[temp.path().into()], 20);
            assert!(packs.find(&[1; 20], &mut Buffers::default()).is_none());
        }
    }
}
