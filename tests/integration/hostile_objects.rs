//! Damage to each object that a deployment reads. Whatever is wrong in the pack or its index, the deployment
//! fails with an error that names the object, and the live release stays.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bluegreen_object_store::ObjectFormat;

use crate::handmade::{Object, id, index, pack};
use crate::hostile_packs::limited;
use crate::repository::Packed;

/// The types of the objects that make up a release: the commit, its tree, a file, attributes, and a symlink's
/// target.
const PARTS: [&str; 5] = ["commit", "tree", "blob", "blob", "blob"];

/// The objects of the commit, and others around them.
const OBJECTS: usize = 400;

/// The maximum duration of a deployment of a few files.
const LONG: Duration = Duration::from_secs(20);

/// Returns the objects of a valid commit.
fn objects(format: ObjectFormat) -> Vec<Object> {
    let digits = id(1, format);
    let entry = |mode: &str, name: &str, number| {
        [format!("{mode} {name}\0").as_bytes(), id(number, format).as_bytes()].concat()
    };
    let tree =
        [entry("100644", ".gitattributes", 3), entry("100644", "index.html", 2), entry("120000", "link", 4)];
    let commit = format!("tree {digits}\nauthor A <a@b> 0 +0000\ncommitter A <a@b> 0 +0000\n\nsubject\n");
    let mut objects = vec![
        Object::whole(1, commit.as_bytes()),
        Object::whole(2, &tree.concat()),
        Object::blob(b"content"),
        Object::blob(b"*.png -text\n"),
        Object::blob(b"index.html"),
    ];
    objects.extend((PARTS.len()..OBJECTS).map(|number| Object::blob(format!("{number}").as_bytes())));
    objects
}

/// Returns damaged variants of a pack and its index, each of which damages the object with this number.
fn damages(victim: usize, format: ObjectFormat) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let sound = objects(format);
    let (sound_pack, offsets) = pack(&sound, format);
    let with_offset = |offset: u32, more: &[u8]| {
        let mut offsets = offsets.clone();
        offsets[victim] = offset;
        let mut index = index(&offsets, format);
        let end = index.len() - 2 * format.id_len();
        index.splice(end..end, more.iter().copied());
        (sound_pack.clone(), index)
    };
    let cycle = |length: usize| {
        let mut objects = objects(format);
        for step in 0..length {
            let at = if step == 0 { victim } else { 100 + step };
            let base = if step + 1 == length { victim } else { 100 + step + 1 };
            objects[at] = Object::delta(base, &[1, 1, 0x90, 1]);
        }
        let (pack, offsets) = pack(&objects, format);
        (pack, index(&offsets, format))
    };
    // Every offset points beyond the pack. Different binary searches find different entries.
    let out_of_order = |shift: usize| {
        let mut index = index(&vec![1 << 30; OBJECTS], format);
        let ids: Vec<u8> = (0..OBJECTS)
            .flat_map(|number| id((number + shift) % OBJECTS, format).as_bytes().to_vec())
            .collect();
        index[8 + 1024..][..ids.len()].copy_from_slice(&ids);
        (sound_pack.clone(), index)
    };
    let all = [
        ("beyond the pack", with_offset(1 << 30, &[])),
        ("at its very end", with_offset(sound_pack.len() as u32 - 1, &[])),
        ("beyond by 64 bits", with_offset(1 << 31, &[0x7f; 8])),
        ("before the beginning", with_offset(1 << 31, &[0xff; 8])),
        ("no long offsets", with_offset(u32::MAX, &[])),
        ("a delta of itself", cycle(1)),
        ("a cycle of three", cycle(3)),
        ("out of order by one", out_of_order(1)),
        ("out of order by half", out_of_order(OBJECTS / 2)),
    ];
    all.into_iter().map(|(name, (pack, index))| (name, pack, index)).collect()
}

fn put(packed: &Packed, pack: &[u8], index: &[u8]) {
    fs::write(packed.path("objects/pack/pack-1.pack"), pack).unwrap();
    fs::write(packed.path("objects/pack/pack-1.idx"), index).unwrap();
}

fn live(site: &Path) -> (std::path::PathBuf, String) {
    let link = fs::read_link(site.join("current")).unwrap();
    (link, fs::read_to_string(site.join("current/link")).unwrap())
}

#[test]
fn damage_to_any_object_is_an_error_that_names_it() {
    for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
        let packed = Packed::new(format);
        let site = packed.path("site");
        fs::create_dir(&site).unwrap();
        fs::write(packed.path("bluegreen.toml"), format!("[site]\nroot = '{}'\n", site.display())).unwrap();
        let objects = objects(format);
        let (sound, offsets) = pack(&objects, format);
        put(&packed, &sound, &index(&offsets, format));
        // For SHA-256, git resolves the branch and verifies the commit's hash.
        let is_plain = format == ObjectFormat::Sha1;
        let commit = if is_plain {
            id(0, format).to_string()
        } else {
            let commit = packed.git(&["hash-object", "-t", "commit", "-w", "--stdin"], &objects[0].content);
            String::from_utf8(commit).unwrap()
        };
        fs::write(packed.path("refs/heads/master"), format!("{}\n", commit.trim())).unwrap();
        let deploy = || limited(&packed, env!("CARGO_BIN_EXE_bluegreen"), &["-C", ".", "deploy"], "");
        let output = deploy();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let before = live(&site);
        assert_eq!(before.1, "content");
        let victims = if is_plain { 0..PARTS.len() } else { 1..2 };
        for (victim, kind) in victims.map(|victim| (victim, PARTS[victim])) {
            for (name, pack, index) in damages(victim, format) {
                put(&packed, &pack, &index);
                let started = Instant::now();
                let output = deploy();
                let text = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(1), "{kind} {victim}, {name}: {text}");
                let id = id(victim, format);
                let any = name.starts_with("out of order");
                let error = format!("error: cannot read {kind} {id}: ");
                assert!(
                    text.contains(&error) || any && text.contains("error: cannot read "),
                    "{name}: {text}"
                );
                assert!(text.contains("hint: check the repository with `git fsck`"), "{name}: {text}");
                assert_eq!(live(&site), before, "{name}");
                assert!(started.elapsed() < LONG, "{name}");
            }
        }
    }
}
