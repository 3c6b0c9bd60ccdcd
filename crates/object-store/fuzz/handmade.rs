//! Writes packs and indexes object by object, including invalid ones.
//!
//! Their checksums are zeros. Git verifies a pack only when it receives it.

use bluegreen_object_store::{ObjectFormat, ObjectId};
use libdeflater::{CompressionLvl, Compressor};

/// An object of a pack. Its id is derived from its number.
pub struct Object {
    /// The type, as numbered in packs. 1 to 4 are complete objects, 6 and 7 are deltas.
    pub kind: u8,
    /// The number of a delta's base.
    pub base: usize,
    /// The bytes before compression.
    pub content: Vec<u8>,
    /// The size in its header.
    pub claimed: u64,
}

impl Object {
    #[must_use]
    pub fn blob(content: &[u8]) -> Self {
        Self::whole(3, content)
    }

    /// Creates a complete object: a commit (1), a tree (2), a blob (3), or a tag (4).
    pub fn whole(kind: u8, content: &[u8]) -> Self {
        Self { kind, base: 0, content: content.to_vec(), claimed: content.len() as u64 }
    }

    /// Creates a delta that refers to its base by id.
    pub fn delta(base: usize, delta: &[u8]) -> Self {
        Self { kind: 7, base, ..Self::blob(delta) }
    }

    #[must_use]
    pub fn claiming(self, claimed: u64) -> Self {
        Self { claimed, ..self }
    }
}

/// Returns the id of the object with this number. Ids are ascending and spread over all buckets of the index.
pub fn id(number: usize, format: ObjectFormat) -> ObjectId {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&((number as u32) << 12).to_be_bytes());
    ObjectId::from_bytes(&id[..format.id_len()]).unwrap_or(ObjectId::NULL)
}

/// Writes a pack of numbered objects. Returns it and the offset of each object.
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
            7 => pack.extend(id(object.base, format).as_bytes()),
            _ => {}
        }
        offsets.push(offset);
        let mut compressed = vec![0; compressor.zlib_compress_bound(object.content.len())];
        let len = compressor.zlib_compress(&object.content, &mut compressed).unwrap_or_default();
        pack.extend(&compressed[..len]);
    }
    pack.extend(vec![0; format.id_len()]);
    (pack, offsets)
}

/// Encodes the distance back to a base: groups of 7 bits, most significant first, each except the last minus
/// 1.
fn distance(mut distance: u32) -> Vec<u8> {
    let mut bytes = vec![(distance & 0x7f) as u8];
    while distance > 0x7f {
        distance = (distance >> 7) - 1;
        bytes.insert(0, (distance & 0x7f) as u8 | 0x80);
    }
    bytes
}

/// Writes the index of a pack whose objects start at these offsets.
pub fn index(offsets: &[u32], format: ObjectFormat) -> Vec<u8> {
    let mut index = b"\xfftOc\0\0\0\x02".to_vec();
    let ids: Vec<ObjectId> = (0..offsets.len()).map(|number| id(number, format)).collect();
    for byte in 0..=255 {
        let count = ids.iter().filter(|id| id.as_bytes()[0] <= byte).count() as u32;
        index.extend(count.to_be_bytes());
    }
    index.extend(ids.iter().flat_map(|id| id.as_bytes().to_vec()));
    index.extend(vec![0; 4 * offsets.len()]);
    index.extend(offsets.iter().flat_map(|offset| offset.to_be_bytes()));
    index.extend(vec![0; 2 * format.id_len()]);
    index
}
