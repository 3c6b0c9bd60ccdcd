//! Packs made by hand, object by object, with their indexes: also those that no git would write.
//!
//! Their checksums are zeros: git verifies a pack once, when it receives it.

use git2::ObjectFormat;
use libdeflater::{CompressionLvl, Compressor};

/// An object of a pack. Its id is made of its number.
pub struct Object {
    /// The kind as packs number it: 1 to 4 are whole objects, 6 and 7 are deltas.
    pub kind: u8,
    /// The number of a delta's base.
    pub base: usize,
    /// The bytes before compression.
    pub content: Vec<u8>,
    /// The size that its header claims.
    pub claimed: u64,
}

impl Object {
    pub fn blob(content: &[u8]) -> Self {
        Self::whole(3, content)
    }

    /// A commit (1), a tree (2), a blob (3) or a tag (4).
    pub fn whole(kind: u8, content: &[u8]) -> Self {
        Self { kind, base: 0, content: content.to_vec(), claimed: content.len() as u64 }
    }

    /// A delta that names its base by its id.
    pub fn delta(base: usize, delta: &[u8]) -> Self {
        Self { kind: 7, base, ..Self::blob(delta) }
    }

    pub fn claiming(self, claimed: u64) -> Self {
        Self { claimed, ..self }
    }
}

pub fn id_len(format: ObjectFormat) -> usize {
    if format == ObjectFormat::Sha1 { 20 } else { 32 }
}

/// The id of the object of this number: spread over all buckets of the index, in the order of numbers.
pub fn id(number: usize, format: ObjectFormat) -> Vec<u8> {
    let mut id = vec![7; id_len(format)];
    id[..4].copy_from_slice(&((number as u32) << 12).to_be_bytes());
    id
}

/// A pack of numbered objects, and the offset of each.
pub fn pack(objects: &[Object], format: ObjectFormat) -> (Vec<u8>, Vec<u32>) {
    let mut compressor = Compressor::new(CompressionLvl::fastest());
    let mut pack = b"PACK\0\0\0\x02".to_vec();
    pack.extend((objects.len() as u32).to_be_bytes());
    let mut offsets = Vec::new();
    for object in objects {
        let offset = pack.len() as u32;
        let mut size = object.claimed >> 4;
        pack.push(object.kind << 4 | (object.claimed & 15) as u8 | if size > 0 { 0x80 } else { 0 });
        while size > 0 {
            pack.push((size & 0x7f) as u8 | if size > 0x7f { 0x80 } else { 0 });
            size >>= 7;
        }
        match object.kind {
            6 => pack.extend(distance(offset - offsets.get(object.base).unwrap_or(&offset))),
            7 => pack.extend(id(object.base, format)),
            _ => {}
        }
        offsets.push(offset);
        let mut compressed = vec![0; compressor.zlib_compress_bound(object.content.len())];
        let len = compressor.zlib_compress(&object.content, &mut compressed).unwrap_or_default();
        pack.extend(&compressed[..len]);
    }
    pack.extend(vec![0; id_len(format)]);
    (pack, offsets)
}

/// The distance back to a base: groups of 7 bits, highest first, each but the last one counted from 1.
fn distance(mut distance: u32) -> Vec<u8> {
    let mut bytes = vec![(distance & 0x7f) as u8];
    while distance > 0x7f {
        distance = (distance >> 7) - 1;
        bytes.insert(0, (distance & 0x7f) as u8 | 0x80);
    }
    bytes
}

/// The index of a pack whose objects begin at these offsets.
pub fn index(offsets: &[u32], format: ObjectFormat) -> Vec<u8> {
    let mut index = b"\xfftOc\0\0\0\x02".to_vec();
    let ids: Vec<Vec<u8>> = (0..offsets.len()).map(|number| id(number, format)).collect();
    for byte in 0..=255 {
        let count = ids.iter().filter(|id| id[0] <= byte).count() as u32;
        index.extend(count.to_be_bytes());
    }
    index.extend(ids.concat());
    index.extend(vec![0; 4 * offsets.len()]);
    index.extend(offsets.iter().flat_map(|offset| offset.to_be_bytes()));
    index.extend(vec![0; 2 * id_len(format)]);
    index
}
