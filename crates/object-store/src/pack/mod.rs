//! Reads the packs of a repository: finds objects, and reads their headers and their content.
//!
//! A first release spends half its time in decompression. libdeflate is about twice as fast as any zlib, but it works only
//! from memory to memory, with a known size. Functions return `None` for anything unusual or damaged. The caller then uses
//! its [`Fallback`](crate::Fallback), unless git would loop forever.

mod buffer;
pub(crate) mod delta;
pub(crate) mod delta_tree;
mod file;
mod header;
mod index;
pub(crate) mod reader;

use std::fs;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use flate2::{Decompress, FlushDecompress};
use libdeflater::Decompressor;

use self::buffer::Buffer;
use self::delta::DeltaHeader;
use self::file::{FromOffset, PackFile};
use self::header::{Header, MAX_HEADER, Representation};
use self::index::{Index, Window};
use crate::stream::{self, StreamError};
use bluegreen_git_types::{ObjectFormat, ObjectId, ObjectKind};

/// The size from which on an object is not held in memory, in bytes.
pub(crate) const MAX_IN_MEMORY: u64 = 16 << 20;

/// The length of a read, in bytes: enough for most blobs and deltas of a site. Reads in the order of the pack read ahead.
const FIRST_READ: usize = 4 << 10;
const READ_AHEAD: usize = 16 << 10;

/// The length of a read when a large object is copied, in bytes.
const STREAM_AHEAD: usize = 256 << 10;

/// The number of packs that stay open, with two files each. From 50 packs on, `git gc` combines them.
const MAX_OPEN: usize = 100;

/// The maximum length of a delta's header, in bytes.
const MAX_DELTA_HEADER: usize = 10 + 10;

/// The packs of a repository, shared by all threads.
#[derive(Debug)]
pub(crate) struct Packs {
    all: Vec<Pack>,
    format: ObjectFormat,
    is_incomplete: bool,
}

/// A pack that is not opened yet.
struct FoundPack {
    len: u64,
    path: PathBuf,
}

#[derive(Debug)]
struct Pack {
    file: PackFile,
    index: Index,
}

/// The position of a pack in [`Packs`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PackIndex(u32);

/// The location of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Location {
    pub pack: PackIndex,
    /// The offset of the object's header.
    pub offset: u64,
}

/// The buffers of one thread.
pub(crate) struct Buffers {
    region: Region,
    decompressor: Decompressor,
    /// The part of each index that was read last.
    windows: Vec<Window>,
    /// The expected number of sorted lookups.
    lookups: u32,
}

/// The part of a pack that was read last.
#[derive(Default)]
struct Region {
    pack: PackIndex,
    start: u64,
    len: usize,
    bytes: Buffer,
}

impl Packs {
    /// Opens the packs in `objects` directories, the largest first.
    pub(crate) fn open(directories: &[PathBuf], format: ObjectFormat) -> Self {
        let files = directories.iter().flat_map(|objects| fs::read_dir(objects.join("pack")));
        let mut found: Vec<_> = files
            .flatten()
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|extension| extension == "pack"))
            .map(|file| FoundPack { len: file.metadata().map_or(0, |pack| pack.len()), path: file.path() })
            .collect();
        found.sort_unstable_by(|a, b| b.len.cmp(&a.len).then_with(|| a.path.cmp(&b.path)));
        let open = |(at, pack): (usize, &FoundPack)| Pack::open(&pack.path, format, at < MAX_OPEN);
        let all: Vec<_> = found.iter().enumerate().filter_map(open).collect();
        Self { is_incomplete: all.len() < found.len(), all, format }
    }

    /// Returns whether a pack could not be opened, so that an object that is not found may exist.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Looks an object up in all packs.
    pub(crate) fn find(&self, id: ObjectId, buffers: &mut Buffers) -> Option<Location> {
        let lookups = buffers.lookups;
        buffers.windows.resize_with(self.all.len(), || Window::new(lookups));
        let mut packs = (0..).map(PackIndex).zip(&self.all).zip(&mut buffers.windows);
        packs.find_map(|((pack, Pack { index, .. }), window)| {
            Some(Location { pack, offset: index.find(id.as_bytes(), window)? })
        })
    }

    /// Looks an object up in one pack, then in all. The base of a delta is nearly always in the same pack.
    fn find_near(&self, pack: PackIndex, id: ObjectId, buffers: &mut Buffers) -> Option<Location> {
        let index = &self.pack(pack)?.index;
        let near = index.find(id.as_bytes(), &mut Window::new(1)).map(|offset| Location { pack, offset });
        near.or_else(|| self.find(id, buffers))
    }

    fn pack(&self, index: PackIndex) -> Option<&Pack> {
        self.all.get(index.0 as usize)
    }

    pub(crate) fn header(&self, location: Location, buffers: &mut Buffers) -> Option<Header> {
        Header::parse(self.read(location, MAX_HEADER, &mut buffers.region)?, location.offset, self.format)
    }

    /// Finds the base of a delta at a location. Returns `None` for a whole object.
    pub(crate) fn base(
        &self,
        delta: Location,
        representation: Representation,
        buffers: &mut Buffers,
    ) -> Option<Location> {
        match representation {
            Representation::Whole(_) => None,
            Representation::OfsDelta(offset) => Some(Location { offset, ..delta }),
            Representation::RefDelta(id) => self.find_near(delta.pack, id, buffers),
        }
    }

    /// Decompresses only the header of a delta.
    pub(crate) fn delta_header(
        &self,
        location: Location,
        header_len: usize,
        buffers: &mut Buffers,
    ) -> Option<DeltaHeader> {
        let packed = self.read(location, FIRST_READ, &mut buffers.region)?.get(header_len..)?;
        let mut start = [0; MAX_DELTA_HEADER];
        let mut zlib = Decompress::new(true);
        zlib.decompress(packed, &mut start, FlushDecompress::None).ok()?;
        DeltaHeader::parse(start.get(..zlib.total_out() as usize)?)
    }

    /// Decompresses an object into `inflated`, whose length is its size. `room` is an upper bound on the number of
    /// bytes that it takes in the pack, including its header, if one is known.
    pub(crate) fn inflate(
        &self,
        location: Location,
        header_len: usize,
        room: Option<usize>,
        inflated: &mut [u8],
        buffers: &mut Buffers,
    ) -> Option<()> {
        // Text compresses to less than half, images do not compress. zlib stores incompressible data in blocks, with a few
        // bytes for each.
        let longest = MAX_HEADER + inflated.len() + (inflated.len() >> 9) + 64;
        let likely = MAX_HEADER + inflated.len() / 2 + 64;
        let first = room.filter(|room| *room <= longest).unwrap_or(likely);
        let Buffers { region, decompressor, .. } = buffers;
        [first, longest].into_iter().find_map(|len| {
            let packed = self.read(location, len, region)?.get(header_len..)?;
            let size = decompressor.zlib_decompress(packed, inflated).ok()?;
            (size == inflated.len()).then_some(())
        })
    }

    /// Copies the content of a blob of this size. Returns `None` if it is stored as a delta, or if it is something else.
    pub(crate) fn copy(
        &self,
        location: Location,
        size: u64,
        buffers: &mut Buffers,
        to: &mut dyn Write,
    ) -> Option<Result<(), StreamError>> {
        let header = self.header(location, buffers)?;
        if (header.representation, header.size) != (Representation::Whole(ObjectKind::Blob), size) {
            return None;
        }
        let offset = location.offset + header.len as u64;
        let rest = FromOffset { file: &self.pack(location.pack)?.file, offset };
        Some(stream::inflate(BufReader::with_capacity(STREAM_AHEAD, rest), 0, size, to))
    }

    /// Returns the bytes at a location: at least `len`, or up to the end of the pack. Reads them from the file unless the
    /// region contains them. Reads ahead if they follow the region.
    fn read<'r>(&self, location: Location, len: usize, region: &'r mut Region) -> Option<&'r [u8]> {
        let end = region.start + region.len as u64;
        let is_next = region.pack == location.pack
            && (region.start..=end + FIRST_READ as u64).contains(&location.offset);
        if !is_next || location.offset.checked_add(len as u64)? > end {
            let len = len.max(if is_next { READ_AHEAD } else { FIRST_READ });
            region.bytes.set_len(len);
            let pack = self.pack(location.pack)?;
            region.len = 0;
            region.len = pack.file.read_at(&mut region.bytes, location.offset).ok()?;
            (region.pack, region.start) = (location.pack, location.offset);
        }
        region.bytes[..region.len].get((location.offset - region.start) as usize..)
    }
}

impl Pack {
    fn open(pack: &Path, format: ObjectFormat, is_kept_open: bool) -> Option<Self> {
        let index = Index::open(&pack.with_extension("idx"), format, is_kept_open)?;
        Some(Self { file: PackFile::open(pack, is_kept_open).ok()?, index })
    }
}

impl Buffers {
    /// Creates buffers for this number of sorted lookups.
    pub(crate) fn for_lookups(lookups: u32) -> Self {
        let (region, decompressor) = (Region::default(), Decompressor::new());
        Self { region, decompressor, windows: Vec::new(), lookups }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::for_lookups(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_indexes_are_ignored() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("pack")).unwrap();
        fs::write(temp.path().join("pack/x.pack"), "PACK").unwrap();
        for damaged in [&b""[..], b"\xfftOc\0\0\0\x02", &[0xff; 2000]] {
            fs::write(temp.path().join("pack/x.idx"), damaged).unwrap();
            let packs = Packs::open(&[temp.path().into()], ObjectFormat::Sha1);
            assert!(packs.is_incomplete());
            let id = ObjectId::from_bytes(&[1; 20]).unwrap();
            assert!(packs.find(id, &mut Buffers::default()).is_none());
        }
    }
}
