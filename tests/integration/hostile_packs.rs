//! Deployments from packs that git would never write. Valid objects are deployed, and all others are errors,
//! within bounded memory.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use bluegreen_object_store::{ObjectFormat, ObjectId, ObjectKind};

use crate::handmade::{Object, id, index, pack};
use crate::repository::Packed;

/// The number of valid blobs next to a hostile one.
const SOUND: usize = 300;

/// The maximum address space for a deployment of a hostile pack, in KiB.
const MEMORY: &str = "700000";

/// Creates a repository with this pack and a tree of the `wanted` objects.
fn repository(pack: &[u8], index: &[u8], wanted: &[usize], format: ObjectFormat) -> (Packed, ObjectId) {
    let packed = Packed::new(format);
    fs::write(packed.path("objects/pack/pack-1.pack"), pack).unwrap();
    fs::write(packed.path("objects/pack/pack-1.idx"), index).unwrap();
    let entries: Vec<u8> = wanted
        .iter()
        .flat_map(|&number| {
            [format!("100644 {number:06}\0").as_bytes(), id(number, format).as_bytes()].concat()
        })
        .collect();
    let tree = packed.write(ObjectKind::Tree, &entries);
    (packed, tree)
}

/// Runs a program with limited memory.
pub fn limited(packed: &Packed, program: &str, arguments: &[&str], input: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\""), program]).args(arguments);
    shell.current_dir(packed.temp.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Returns the blobs as git reads them, or `None` if git rejects one of them.
fn read_by_git(packed: &Packed, wanted: &[usize], format: ObjectFormat) -> Option<Vec<Vec<u8>>> {
    let ids = wanted.iter().map(|number| format!("{}\n", id(*number, format)));
    let output = limited(packed, "git", &["--git-dir=.", "cat-file", "--batch"], &ids.collect::<String>());
    let mut rest = output.stdout.as_slice();
    let mut next = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let size = str::from_utf8(&rest[..end]).unwrap().split(' ').nth(2)?.parse::<usize>().ok()?;
        // Git accepts a streamed blob that is shorter than its header says.
        let content = rest.get(end + 1..(end + 1).checked_add(size)?)?;
        rest = rest.get(end + size + 2..)?;
        Some(content.to_vec())
    };
    wanted.iter().map(|_| next()).collect()
}

/// Returns the content of a valid blob.
fn sound(number: usize) -> Vec<u8> {
    format!("content {number}").into_bytes()
}

/// Deploys a tree. If git reads its objects, they are deployed. If git rejects them, the deployment fails and
/// nothing becomes live, unless the damage affects no blob and the content is correct.
#[track_caller]
fn is_correct_or_rejected(
    name: &str,
    pack: &[u8],
    index: &[u8],
    wanted: &[usize],
    format: ObjectFormat,
    is_git_asked: bool,
) -> bool {
    let (packed, tree) = repository(pack, index, wanted, format);
    let site = packed.path("site");
    fs::create_dir(&site).unwrap();
    fs::write(packed.path("bluegreen.toml"), format!("[site]\nroot = '{}'\n", site.display())).unwrap();
    let tree = tree.to_string();
    let author = ["-c", "user.name=A", "-c", "user.email=a@b"];
    let commit = packed.git(&[&author[..], &["commit-tree", "-m", "hostile", &tree]].concat(), b"");
    packed.git(&["update-ref", "refs/heads/master", str::from_utf8(&commit).unwrap().trim()], b"");
    let said = if is_git_asked { read_by_git(&packed, wanted, format) } else { None };
    let output = limited(&packed, env!("CARGO_BIN_EXE_bluegreen"), &["-C", ".", "deploy"], "");
    let text = String::from_utf8_lossy(&output.stderr);
    let read = |number: &usize| fs::read(site.join(format!("current/{number:06}"))).ok();
    let live: Option<Vec<Vec<u8>>> = wanted.iter().map(read).collect();
    assert!(!text.contains("panicked at"), "{name}: {text}");
    let is_sound =
        |live: &Vec<Vec<u8>>| wanted.iter().zip(live).all(|(number, live)| *live == sound(*number));
    if said.is_none() && live.as_ref().is_some_and(is_sound) {
        return false;
    }
    assert!(live == said, "{name}: git {} it\n{text}", if said.is_some() { "reads" } else { "refuses" });
    assert_eq!(output.status.code(), Some(i32::from(said.is_none())), "{name}: {text}");
    assert!(said.is_some() || text.contains("error: "), "{name}: {text}");
    said.is_some()
}

#[test]
fn hostile_objects_are_deployed_correctly_or_rejected() {
    let copy = [1, 1, 0x90, 1];
    let endless = [1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0x90, 1];
    // An 8 GiB result made of 16 MiB copies. It compresses well, and must be rejected without being built.
    let mut bomb = vec![1, 0x80, 0x80, 0x80, 0x80, 0x20];
    bomb.extend([0x90, 1].repeat(1 << 16));
    for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
        let mut chain = vec![Object::blob(b"x")];
        chain.extend((1..50_000).map(|number| Object::delta(number - 1, &copy)));
        let one = |object| vec![Object::blob(b"x"), object];
        // Git is not consulted where it would loop forever on a cycle, or for a chain longer than git ever
        // creates.
        let (read, refused, unasked) = (Some(true), Some(false), None);
        let cases = [
            ("a chain of 50,000", chain, unasked),
            ("a delta of 16 EiB", one(Object::delta(0, &copy).claiming(u64::MAX)), refused),
            ("a result of 16 EiB", one(Object::delta(0, &endless)), refused),
            ("a result of 8 GiB", one(Object::delta(0, &bomb)), refused),
            ("a blob of 16 EiB", one(Object::blob(b"x").claiming(u64::MAX)), refused),
            ("a blob of 8 GiB", one(Object::blob(b"x").claiming(8 << 30)), refused),
            ("a cycle", vec![Object::delta(1, &copy), Object::delta(0, &copy)], unasked),
            ("a delta of itself", one(Object::delta(1, &copy)), unasked),
            ("no kind of object", one(Object { kind: 5, ..Object::blob(b"x") }), refused),
            (
                "a delta of no kind of object",
                vec![Object { kind: 0, ..Object::blob(b"x") }, Object::delta(0, &copy)],
                refused,
            ),
            ("a delta of nothing", one(Object::delta(900, &copy)), refused),
            ("a delta of another size", one(Object::delta(0, &[2, 1, 0x90, 1])), refused),
            ("a sound delta", one(Object::delta(0, &copy)), read),
        ];
        for (name, mut objects, by_git) in cases {
            let last = objects.len() - 1;
            objects.extend((0..SOUND).map(|number| Object::blob(&sound(number))));
            let (pack, offsets) = pack(&objects, format);
            let index = index(&offsets, format);
            // One file, and enough files that threads share them.
            let many: Vec<usize> = (last..objects.len()).collect();
            for wanted in [&many[..1], &many] {
                let was_read = is_correct_or_rejected(name, &pack, &index, wanted, format, by_git.is_some());
                assert_eq!(was_read, by_git == read, "{name}");
            }
        }
    }
}

#[test]
fn corrupt_indexes_and_truncated_packs_are_deployed_correctly_or_rejected() {
    const FANOUT: usize = 8;
    for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
        let ids = FANOUT + 1024;
        let wanted: Vec<usize> = (1234..1234 + SOUND).collect();
        let objects: Vec<_> = (0..2000).map(|number| Object::blob(&sound(number))).collect();
        let (pack, offsets) = pack(&objects, format);
        let index_of_pack = index(&offsets, format);
        let is_right = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let mut index = index_of_pack.clone();
            change(&mut index);
            is_correct_or_rejected(name, &pack, &index, &wanted, format, true)
        };
        let offset_of = |number: usize| ids + objects.len() * (format.id_len() + 4) + 4 * number;
        assert!(is_right("a valid index", &|_| ()));
        for (name, lie) in
            [("beyond the pack", 1 << 30), ("into the middle", 100), ("no long offsets", 1 << 31)]
        {
            let lie: u32 = lie;
            is_right(name, &|index| index[offset_of(1234)..][..4].copy_from_slice(&lie.to_be_bytes()));
        }
        is_right("the last long offset", &|index| index[offset_of(1234)..][..4].fill(0xff));
        is_right("a long offset of 16 EiB", &|index| {
            index[offset_of(1234)..][..4].copy_from_slice(&(1_u32 << 31).to_be_bytes());
            let end = index.len() - 2 * format.id_len();
            index.splice(end..end, [0xff; 8]);
        });
        is_right("unsorted ids", &|index| {
            let len = format.id_len();
            let bytes = index[ids..ids + 2000 * len].to_vec();
            let reversed: Vec<u8> = bytes.chunks(len).rev().flatten().copied().collect();
            index[ids..ids + 2000 * len].copy_from_slice(&reversed);
        });
        is_right("a decreasing fan-out", &|index| index[FANOUT + 4 * 2..][..4].fill(0xff));
        is_right("a fan-out of nothing", &|index| index[FANOUT..][..1024].fill(0));
        is_right("4 billion objects", &|index| index[FANOUT + 1020..][..4].fill(0xff));
        for len in [0, 7, 500, ids, ids + 77, index_of_pack.len() - 1] {
            is_right(&format!("an index of {len} bytes"), &|index| index.truncate(len));
        }
        for len in [0, 3, 11, 12, 5000, pack.len() - 21, pack.len() - 1] {
            is_correct_or_rejected(
                &format!("a pack of {len} bytes"),
                &pack[..len],
                &index_of_pack,
                &wanted,
                format,
                true,
            );
        }
        let mut other = pack.clone();
        other[11] ^= 1;
        is_correct_or_rejected("another number of objects", &other, &index_of_pack, &wanted, format, true);
    }
}
