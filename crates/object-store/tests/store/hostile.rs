//! Invalid packs: their valid objects are decoded, and all others are errors.

use std::fs;

use bluegreen_object_store::{ObjectFormat, ObjectKind};

use crate::entries::handmade::{Object, id, index, pack};
use crate::reading::Found;
use crate::repository::Packed;

const FORMAT: ObjectFormat = ObjectFormat::Sha1;

/// Creates a repository with these objects in one pack, and a tree of the `wanted` ones. `lie` changes the
/// offsets in the index.
fn handmade(objects: &[Object], wanted: &[usize], lie: impl Fn(usize, u32) -> u32) -> (Packed, String) {
    let packed = Packed::new(FORMAT);
    let (pack, offsets) = pack(objects, FORMAT);
    let offsets: Vec<u32> =
        offsets.into_iter().enumerate().map(|(number, offset)| lie(number, offset)).collect();
    fs::write(packed.path("objects/pack/pack-1.pack"), pack).unwrap();
    fs::write(packed.path("objects/pack/pack-1.idx"), index(&offsets, FORMAT)).unwrap();
    let entry = |&number: &usize| {
        [format!("100644 {number:06}\0").as_bytes(), id(number, FORMAT).as_bytes()].concat()
    };
    let tree = packed.write(ObjectKind::Tree, &wanted.iter().flat_map(entry).collect::<Vec<_>>());
    (packed, tree.to_string())
}

#[test]
fn hostile_blobs_are_not_decoded() {
    let same = |_, offset| offset;
    let names = |found: &Found| {
        let mut names: Vec<_> = found.files.keys().map(|path| path.display().to_string()).collect();
        names.sort();
        names
    };
    // A chain of 50,000 deltas that each copy one byte.
    let mut chain = vec![Object::blob(b"x")];
    chain.extend((1..50_000).map(|number| Object::delta(number - 1, &[1, 1, 0x90, 1])));
    let (packed, tree) = handmade(&chain, &[10, 4095, 49_999], same);
    assert_eq!(names(&packed.read_tree(&tree, 2)), ["000010", "004095"]);

    // A delta with a 16 EiB result, objects that claim 16 EiB, a cycle, and deltas against themselves, a
    // missing base, and a base of another size.
    let endless = [1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0x90, 1];
    let odd = [
        Object::blob(b"x"),
        Object::delta(0, &endless),
        Object::delta(0, &[1, 1, 0x90, 1]).claiming(u64::MAX),
        Object::blob(b"x").claiming(u64::MAX),
        Object::delta(5, &[1, 1, 0x90, 1]),
        Object::delta(4, &[1, 1, 0x90, 1]),
        Object::delta(6, &[1, 1, 0x90, 1]),
        Object::delta(999, &[1, 1, 0x90, 1]),
        Object::delta(0, &[2, 1, 0x90, 1]),
        Object::delta(3, &[1, 1, 0x90, 1]),
        Object::delta(0, &[1, 1, 0x90, 1]),
    ];
    let (packed, tree) = handmade(&odd, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], same);
    assert_eq!(names(&packed.read_tree(&tree, 2)), ["000000", "000010"]);

    // Wrong offsets: beyond the pack, inside an object, and 64-bit offsets that the index lacks.
    for lie in [1 << 30, 13, 0x8000_0000, u32::MAX] {
        let few: Vec<_> =
            (0..10).map(|number| Object::blob(format!("content {number}").as_bytes())).collect();
        let lies = |number, offset| if number == 3 { lie } else { offset };
        let (packed, tree) = handmade(&few, &[0, 3, 5], lies);
        assert_eq!(names(&packed.read_tree(&tree, 1)), ["000000", "000005"], "{lie:x}");
    }
}

/// A delta tree that is both wide and deep, with blobs too large to keep all bases in memory.
#[test]
fn bases_that_do_not_fit_into_memory_are_decoded_again() {
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
    // Each is also the base of a branch of two deltas, which is decoded first.
    let mut objects = vec![Object::blob(&content)];
    for level in 1..9 {
        objects.push(Object::delta(level - 1, &append(level as u8)));
    }
    for branch in 0..8 {
        objects.push(Object::delta(branch, &append(100 + branch as u8)));
        objects.push(Object::delta(9 + 2 * branch, &append(200 + branch as u8)));
    }
    let all: Vec<usize> = (0..objects.len()).collect();
    let (packed, tree) = handmade(&objects, &all, |_, offset| offset);
    let found = packed.read_tree(&tree, 1);
    assert_eq!((found.files.len(), found.left.len()), (objects.len(), 0));
    assert!(found.deltas > 0);
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
