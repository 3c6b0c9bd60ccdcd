//! Looks object ids up in the index of a pack, and reads only the parts of it that a lookup needs.
//!
//! Only the fan-out table (1 KiB) stays in memory, whether the pack has a thousand objects or ten million. Ids are evenly
//! distributed, so the position of an id can be interpolated, and one read around it nearly always contains the id. Versions
//! 1 and 2 are supported, as described in git's `Documentation/gitformat-pack.adoc`.

use std::ops::Range;
use std::path::Path;

use super::file::PackFile;
use bluegreen_git_types::ObjectFormat;

const MAGIC: &[u8] = b"\xfftOc\0\0\0\x02";
const FANOUT: usize = 256 * 4;

/// The length of an offset. In version 1 each offset precedes its id. In version 2 all offsets follow the ids.
const OFFSET: usize = 4;

/// The number of ids in one read. Many sorted lookups read more at a time, so that one read serves about `LOOKUPS` of them.
const WINDOW: u32 = 120;
const WIDE_WINDOW: u32 = 1600;
const LOOKUPS: u32 = 8;

/// The number of interpolations before a binary search takes over. An attacker can create ids that are not evenly
/// distributed.
const MAX_GUESSES: usize = 3;

/// An open index.
#[derive(Debug)]
pub struct Index {
    file: PackFile,
    /// For each byte, the number of objects whose id starts with it or with a lower one.
    fanout: Box<[u32; 256]>,
    id_len: usize,
    is_version_1: bool,
}

/// The part of an index that was read last. Sorted lookups reuse it.
#[derive(Debug)]
pub struct Window {
    first: u32,
    entries: Vec<u8>,
    /// The 32-bit offsets of these ids. Empty until one of them is needed.
    offsets: Vec<u8>,
    lookups: u32,
}

impl Index {
    /// Opens an index. Returns `None` if it cannot be read or its size and its counts contradict each other.
    #[must_use]
    pub fn open(path: &Path, format: ObjectFormat, is_kept_open: bool) -> Option<Self> {
        let file = PackFile::open(path, is_kept_open).ok()?;
        let mut head = [0; MAGIC.len() + FANOUT];
        file.read_exact_at(&mut head, 0).ok()?;
        let (is_version_1, counts) =
            head.strip_prefix(MAGIC).map_or((true, &head[..FANOUT]), |counts| (false, counts));
        let mut fanout = Box::new([0; 256]);
        for (count, bytes) in fanout.iter_mut().zip(counts.chunks_exact(4)) {
            *count = u32::from_be_bytes(bytes.try_into().ok()?);
        }
        let id_len = format.id_len();
        let index = Self { file, fanout, id_len, is_version_1 };
        // Version 2 has a checksum and a 32-bit offset per object. Both end in the checksums of the pack and of the index.
        let more = if is_version_1 { 0 } else { 2 * OFFSET };
        let least = index.entry(index.objects()) + index.objects() * more as u64 + 2 * id_len as u64;
        let is_sound = index.fanout.is_sorted() && index.file.len().ok()? >= least;
        is_sound.then_some(index)
    }

    /// Returns the length of an entry: an id, preceded by its offset in version 1.
    fn entry_len(&self) -> usize {
        self.id_len + if self.is_version_1 { OFFSET } else { 0 }
    }

    /// Returns the position of an entry in the file.
    fn entry(&self, number: u64) -> u64 {
        let start = if self.is_version_1 { FANOUT } else { MAGIC.len() + FANOUT };
        start as u64 + number * self.entry_len() as u64
    }

    /// Returns the offset of an object in the pack.
    pub fn find(&self, id: &[u8], window: &mut Window) -> Option<u64> {
        let object = if id.len() == self.id_len { self.position(id, window)? } else { return None };
        if self.is_version_1 {
            let entry = window.entries.get((object - window.first) as usize * self.entry_len()..)?;
            return Some(u32::from_be_bytes(*entry.first_chunk()?).into());
        }
        let short = self.entry(self.objects()) + self.objects() * 4;
        if window.offsets.is_empty() {
            window.offsets.resize(window.entries.len() / self.id_len * OFFSET, 0);
            let read = self.file.read_exact_at(&mut window.offsets, short + u64::from(window.first) * 4);
            read.inspect_err(|_| window.offsets.clear()).ok()?;
        }
        let bytes = window.offsets.get((object - window.first) as usize * 4..)?.first_chunk()?;
        let offset = u32::from_be_bytes(*bytes);
        if offset < 1 << 31 {
            return Some(offset.into());
        }
        let long = short + self.objects() * 4 + u64::from(offset & 0x7fff_ffff) * 8;
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, long).ok()?;
        Some(u64::from_be_bytes(bytes))
    }

    fn objects(&self) -> u64 {
        self.fanout[255].into()
    }

    /// Finds the position of an id among all ids. Each read shrinks the range that remains, even in a damaged index.
    fn position(&self, id: &[u8], window: &mut Window) -> Option<u32> {
        let first = usize::from(*id.first()?);
        let low = first.checked_sub(1).map_or(0, |before| self.fanout[before]);
        let bucket = low..self.fanout[first];
        let mut rest = bucket.clone();
        for round in 0.. {
            let read = window.range(self.entry_len());
            if read.start < rest.end && rest.start < read.end {
                match window.search(id, self.entry_len()) {
                    Ok(object) => return Some(object),
                    Err(object) if object == read.start => rest.end = read.start,
                    Err(object) if object == read.end => rest.start = read.end,
                    Err(_) => return None,
                }
            }
            if rest.is_empty() {
                return None;
            }
            let at = if round < MAX_GUESSES { guess(id, &bucket) } else { rest.start.midpoint(rest.end) };
            self.read(at.clamp(rest.start, rest.end - 1), &rest, window)?;
        }
        None
    }

    /// Reads the ids around the position `at`, within the range that remains.
    fn read(&self, at: u32, rest: &Range<u32>, window: &mut Window) -> Option<()> {
        let few = (self.fanout[255] / window.lookups).saturating_mul(LOOKUPS);
        let count = if few <= WIDE_WINDOW { few.max(WINDOW) } else { WINDOW };
        let first = at.saturating_sub(WINDOW / 2).max(rest.start);
        let count = count.min(rest.end - first);
        window.first = first;
        window.offsets.clear();
        window.entries.resize(count as usize * self.entry_len(), 0);
        let read = self.file.read_exact_at(&mut window.entries, self.entry(first.into()));
        if read.is_err() {
            window.entries.clear();
        }
        read.ok()
    }
}

impl Window {
    /// Creates a window for this number of sorted lookups.
    #[must_use]
    pub fn new(lookups: u32) -> Self {
        Self { first: 0, entries: Vec::new(), offsets: Vec::new(), lookups: lookups.max(1) }
    }

    fn range(&self, entry_len: usize) -> Range<u32> {
        self.first..self.first + (self.entries.len() / entry_len) as u32
    }

    /// Returns the position of an id, or else the position where it would be.
    fn search(&self, id: &[u8], entry_len: usize) -> Result<u32, u32> {
        let (mut low, mut high) = (0, self.entries.len() / entry_len);
        while low < high {
            let middle = low.midpoint(high);
            // The id is the last part of its entry.
            let end = (middle + 1) * entry_len;
            match self.entries[end - id.len()..end].cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(self.first + middle as u32),
            }
        }
        Err(self.first + low as u32)
    }
}

/// Interpolates the position of an id in its bucket.
fn guess(id: &[u8], bucket: &Range<u32>) -> u32 {
    let fraction = id.get(1..5).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    bucket.start + ((u64::from(fraction) * u64::from(bucket.end - bucket.start)) >> 32) as u32
}
