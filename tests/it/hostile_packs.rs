//! Packs that no git would write, against the reader of packs: it reads what is sound, and leaves the rest.

use std::fs;

use git2::{ObjectFormat, ObjectType, Oid};
use libdeflater::{CompressionLvl, Compressor};

use crate::packs::{Found, Packed};

/// An object of a pack that no git would write: its kind, what stands between header and content, the content.
struct Object {
    kind: u8,
    base: Vec<u8>,
    content: Vec<u8>,
    /// The size that its header claims.
    claimed: u64,
}

impl Object {
    fn blob(content: &[u8]) -> Self {
        Self { kind: 3, base: Vec::new(), content: content.to_vec(), claimed: content.len() as u64 }
    }

    fn delta(base: [u8; 20], delta: &[u8]) -> Self {
        Self { kind: 7, base: base.to_vec(), content: delta.to_vec(), claimed: delta.len() as u64 }
    }
}

fn id(number: usize) -> [u8; 20] {
    // Spread over all buckets of the index, in the order of numbers.
    let mut id = [7; 20];
    id[..4].copy_from_slice(&((number as u32) << 12).to_be_bytes());
    id
}

/// A repository with these objects, numbered, in one pack, and a tree of those that are wanted.
fn handmade(objects: &[Object], wanted: &[usize], lie: impl Fn(usize, u32) -> u32) -> (Packed, Oid) {
    let packed = Packed::new(ObjectFormat::Sha1);
    let mut compressor = Compressor::new(CompressionLvl::fastest());
    let mut pack = b"PACK\0\0\0\x02\0\0\0\0".to_vec();
    let mut offsets = Vec::new();
    for object in objects {
        offsets.push(pack.len() as u32);
        let mut size = object.claimed >> 4;
        pack.push(object.kind << 4 | (object.claimed & 15) as u8 | if size > 0 { 0x80 } else { 0 });
        while size > 0 {
            pack.push((size & 0x7f) as u8 | if size > 0x7f { 0x80 } else { 0 });
            size >>= 7;
        }
        pack.extend(&object.base);
        let mut compressed = vec![0; compressor.zlib_compress_bound(object.content.len())];
        let len = compressor.zlib_compress(&object.content, &mut compressed).unwrap();
        pack.extend(&compressed[..len]);
    }
    pack.extend([0; 20]);
    let mut index = b"\xfftOc\0\0\0\x02".to_vec();
    for byte in 0..=255 {
        let count = (0..objects.len()).filter(|&number| id(number)[0] <= byte).count() as u32;
        index.extend(count.to_be_bytes());
    }
    (0..objects.len()).for_each(|number| index.extend(id(number)));
    index.extend(vec![0; 4 * objects.len()]);
    for (number, offset) in offsets.into_iter().enumerate() {
        index.extend(lie(number, offset).to_be_bytes());
    }
    index.extend([0; 40]);
    fs::write(packed.path("objects/pack/pack-1.pack"), pack).unwrap();
    fs::write(packed.path("objects/pack/pack-1.idx"), index).unwrap();
    let entries: Vec<u8> = wanted
        .iter()
        .flat_map(|&number| [format!("100644 {number:06}\0").as_bytes(), &id(number)].concat())
        .collect();
    let tree = git2::Repository::open_bare(packed.temp.path()).unwrap();
    let tree = tree.odb().unwrap().write(ObjectType::Tree, &entries).unwrap();
    (packed, tree)
}

#[test]
fn hostile_packs_are_left_to_the_object_database() {
    let same = |_, offset| offset;
    let names = |found: &Found| {
        let mut names: Vec<_> = found.files.keys().map(|path| path.display().to_string()).collect();
        names.sort();
        names
    };
    // A chain of 50,000: copies of a byte.
    let mut chain = vec![Object::blob(b"x")];
    chain.extend((1..50_000).map(|number| Object::delta(id(number - 1), &[1, 1, 0x90, 1])));
    let (packed, tree) = handmade(&chain, &[10, 4095, 49_999], same);
    assert_eq!(names(&packed.read_tree(tree, 2)), ["000010", "004095"]);

    // A delta that claims 16 EiB, as its size and as that of its result; a blob that does; a cycle; a delta of
    // itself, of nothing, and of another size.
    let endless = [1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0x90, 1];
    let mut claims = Object::delta(id(0), &[1, 1, 0x90, 1]);
    claims.claimed = u64::MAX;
    let mut huge = Object::blob(b"x");
    huge.claimed = u64::MAX;
    let odd = [
        Object::blob(b"x"),
        Object::delta(id(0), &endless),
        claims,
        huge,
        Object::delta(id(5), &[1, 1, 0x90, 1]),
        Object::delta(id(4), &[1, 1, 0x90, 1]),
        Object::delta(id(6), &[1, 1, 0x90, 1]),
        Object::delta(id(999), &[1, 1, 0x90, 1]),
        Object::delta(id(0), &[2, 1, 0x90, 1]),
        Object::delta(id(3), &[1, 1, 0x90, 1]),
        Object::delta(id(0), &[1, 1, 0x90, 1]),
    ];
    let (packed, tree) = handmade(&odd, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], same);
    assert_eq!(names(&packed.read_tree(tree, 2)), ["000000", "000010"]);

    // An index that lies: beyond the pack, into its middle, and to offsets of 64 bits that it does not have.
    for lie in [1 << 30, 13, 0x8000_0000, u32::MAX] {
        let few: Vec<_> =
            (0..10).map(|number| Object::blob(format!("content {number}").as_bytes())).collect();
        let lies = |number, offset| if number == 3 { lie } else { offset };
        let (packed, tree) = handmade(&few, &[0, 3, 5], lies);
        assert_eq!(names(&packed.read_tree(tree, 1)), ["000000", "000005"], "{lie:x}");
    }
}

/// A tree of deltas that is wide and deep, with blobs so large that not all bases can be held.
#[test]
fn bases_are_decoded_again_when_too_many_would_be_held() {
    let content: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
    let size = [0x80, 0x92, 0xf4, 0x01];
    let append = |byte: u8| {
        let mut delta = size.to_vec();
        delta.extend(size);
        delta.extend([1, byte]);
        let mut at: u32 = 1;
        while at < 4_000_000 {
            let len = (4_000_000 - at).min(0xff_ffff);
            delta.push(0xff);
            delta.extend(at.to_le_bytes());
            delta.extend(&len.to_le_bytes()[..3]);
            at += len;
        }
        delta
    };
    // Each one is the base of a side branch of two as well, which is decoded first.
    let mut objects = vec![Object::blob(&content)];
    for level in 1..9 {
        objects.push(Object::delta(id(if level == 1 { 0 } else { level - 1 }), &append(level as u8)));
    }
    for branch in 0..8 {
        objects.push(Object::delta(id(branch), &append(100 + branch as u8)));
        objects.push(Object::delta(id(9 + 2 * branch), &append(200 + branch as u8)));
    }
    let all: Vec<usize> = (0..objects.len()).collect();
    let (packed, tree) = handmade(&objects, &all, |_, offset| offset);
    let found = packed.read_tree(tree, 1);
    assert_eq!((found.in_trees, found.left.len()), (objects.len(), 0));
    for (path, read) in &found.files {
        let number: usize = path.to_str().unwrap().parse().unwrap();
        let first = match number {
            0 => 0,
            1..9 => number as u8,
            _ if number % 2 == 1 => 100 + ((number - 9) / 2) as u8,
            _ => 200 + ((number - 10) / 2) as u8,
        };
        assert!(read[0] == first && read[1..] == content[1..], "{number}");
    }
}
