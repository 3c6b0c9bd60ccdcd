//! Looks ids up in the index of a pack, and reads only those parts of it that a look-up needs.
//!
//! Memory holds the fanout, 1 KiB, whether the pack has a thousand objects or ten million. Ids are evenly spread, so the
//! position of one can be guessed, and one read around the guess nearly always holds it. The format is version 2 of git's
//! `Documentation/gitformat-pack.adoc`.

use std::ops::Range;
use std::path::Path;

use super::pack_file::PackFile;

const MAGIC: &[u8] = b"\xfftOc\0\0\0\x02";
const FANOUT: usize = 256 * 4;
const IDS: u64 = (MAGIC.len() + FANOUT) as u64;

/// The number of ids that are read at once. Many look-ups in order read more, so that one read serves several of them.
const WINDOW: u32 = 200;
const WIDE_WINDOW: u32 = 8 * WINDOW;
const LOOKUPS: u32 = 8;

/// The number of guesses, before a binary search takes over: ids that somebody chose are not evenly spread.
const GUESSES: usize = 3;

/// An open index.
#[derive(Debug)]
pub struct Index {
    file: PackFile,
    /// The number of objects whose id begins with this byte or a lower one.
    fanout: Box<[u32; 256]>,
    id_len: usize,
}

/// The part of an index that was read last: ids that are looked up in order share it.
#[derive(Debug)]
pub struct Window {
    first: u32,
    ids: Vec<u8>,
    /// The 32-bit offsets of these ids; empty until the first of them is needed.
    offsets: Vec<u8>,
    lookups: u32,
}

impl Index {
    /// Opens an index, unless it is damaged.
    #[must_use]
    pub fn open(path: &Path, id_len: usize, is_kept_open: bool) -> Option<Self> {
        let file = PackFile::open(path, is_kept_open).ok()?;
        let mut head = [0; MAGIC.len() + FANOUT];
        file.read_exact_at(&mut head, 0).ok()?;
        let counts = head.strip_prefix(MAGIC)?;
        let mut fanout = Box::new([0; 256]);
        for (count, bytes) in fanout.iter_mut().zip(counts.chunks_exact(4)) {
            *count = u32::from_be_bytes(bytes.try_into().ok()?);
        }
        // Ids, checksums of objects and 32-bit offsets, then the checksums of the pack and of the index.
        let least = IDS + u64::from(fanout[255]) * (id_len as u64 + 8) + 2 * id_len as u64;
        let is_sound = fanout.is_sorted() && file.len().ok()? >= least;
        is_sound.then_some(Self { file, fanout, id_len })
    }

    /// Finds the offset of an object in the pack.
    pub fn find(&self, id: &[u8], window: &mut Window) -> Option<u64> {
        let object = self.position(id, window)?;
        let short = IDS + self.objects() * (self.id_len as u64 + 4);
        if window.offsets.is_empty() {
            window.offsets.resize(window.ids.len() / self.id_len * 4, 0);
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

    /// Finds the position of an id among all ids. Each read leaves less to search, whatever the index holds.
    fn position(&self, id: &[u8], window: &mut Window) -> Option<u32> {
        let first = usize::from(*id.first()?);
        let low = first.checked_sub(1).map_or(0, |before| self.fanout[before]);
        let bucket = low..self.fanout[first];
        let mut rest = bucket.clone();
        for round in 0.. {
            let read = window.range(self.id_len);
            if read.start < rest.end && rest.start < read.end {
                match window.search(id, self.id_len) {
                    Ok(object) => return Some(object),
                    Err(object) if object == read.start => rest.end = read.start,
                    Err(object) if object == read.end => rest.start = read.end,
                    Err(_) => return None,
                }
            }
            if rest.is_empty() {
                return None;
            }
            let at = if round < GUESSES { guess(id, &bucket) } else { rest.start.midpoint(rest.end) };
            self.read(at.clamp(rest.start, rest.end - 1), &rest, window)?;
        }
        None
    }

    /// Reads the ids around the position `at`, within the rest that is searched.
    fn read(&self, at: u32, rest: &Range<u32>, window: &mut Window) -> Option<()> {
        let few = (self.fanout[255] / window.lookups).saturating_mul(LOOKUPS);
        let count = if few <= WIDE_WINDOW { few.max(WINDOW) } else { WINDOW };
        let first = at.saturating_sub(WINDOW / 2).max(rest.start);
        let count = count.min(rest.end - first);
        window.first = first;
        window.offsets.clear();
        window.ids.resize(count as usize * self.id_len, 0);
        let read = self.file.read_exact_at(&mut window.ids, IDS + u64::from(first) * self.id_len as u64);
        if read.is_err() {
            window.ids.clear();
        }
        read.ok()
    }
}

impl Window {
    /// Makes a window for this number of look-ups in order.
    #[must_use]
    pub fn new(lookups: u32) -> Self {
        Self { first: 0, ids: Vec::new(), offsets: Vec::new(), lookups: lookups.max(1) }
    }

    fn range(&self, id_len: usize) -> Range<u32> {
        self.first..self.first + (self.ids.len() / id_len) as u32
    }

    /// Finds the position of an id, or else the position where it would have to be.
    fn search(&self, id: &[u8], id_len: usize) -> Result<u32, u32> {
        let (mut low, mut high) = (0, self.ids.len() / id_len);
        while low < high {
            let middle = low.midpoint(high);
            match self.ids[middle * id_len..][..id_len].cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(self.first + middle as u32),
            }
        }
        Err(self.first + low as u32)
    }
}

/// Guesses the position of an id in its bucket: the right one if all ids are evenly spread.
fn guess(id: &[u8], bucket: &Range<u32>) -> u32 {
    let fraction = id.get(1..5).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    bucket.start + ((u64::from(fraction) * u64::from(bucket.end - bucket.start)) >> 32) as u32
}
