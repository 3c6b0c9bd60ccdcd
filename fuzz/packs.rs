//! Packs with their indexes, as bytes that somebody else chose, with git as the oracle.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use bluegreen::checkout::objects::Objects;
use bluegreen::checkout::pack_decode::Decoder;
use bluegreen::checkout::packed_blobs::PackedBlobs;
use bluegreen::checkout::plan::Plan;
use bluegreen::git::Repository;
use git2::{ObjectFormat, Oid};

use super::handmade::{Object, id, index, pack};

/// The most objects that are looked up.
const MOST: usize = 64;

/// The offset of the ids in an index.
const IDS: usize = 8 + 1024;

/// A bare repository that is removed at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Joins a pack and its index to one input: the length of ids, the length of the pack, pack, index.
pub fn join(id_len: u8, pack: &[u8], index: &[u8]) -> Vec<u8> {
    [&[id_len][..], &(pack.len() as u32).to_le_bytes(), pack, index].concat()
}

/// Reads every object that the index names. What git reads is read equal; what git refuses is refused, or else it is the
/// object that has this id.
pub fn read(data: &[u8]) {
    let Some((&[id_len, a, b, c, d], rest)) = data.split_first_chunk() else { return };
    let (format, id_len) = if id_len == 20 { (ObjectFormat::Sha1, 20) } else { (ObjectFormat::Sha256, 32) };
    let (pack, index) = rest.split_at((u32::from_le_bytes([a, b, c, d]) as usize).min(rest.len()));
    let ids = index.get(IDS..).unwrap_or_default().chunks_exact(id_len).take(MOST);
    let ids: Vec<Oid> = ids.filter_map(|id| Oid::from_bytes(id).ok()).collect();
    compare(format, pack, index, &ids);
}

/// Reads objects of a handmade pack: see [`objects`].
pub fn read_handmade(data: &[u8]) {
    let format = if data.first().is_some_and(|byte| byte & 1 == 1) {
        ObjectFormat::Sha256
    } else {
        ObjectFormat::Sha1
    };
    let (objects, lies) = objects(data.get(1..).unwrap_or_default());
    let (pack, mut offsets) = pack(&objects, format);
    offsets.iter_mut().zip(lies).for_each(|(offset, lie)| *offset = lie.unwrap_or(*offset));
    let ids = (0..objects.len()).filter_map(|number| Oid::from_bytes(&id(number, format)).ok());
    compare(format, &pack, &index(&offsets, format), &ids.collect::<Vec<_>>());
}

/// Parses objects, each with the offset that the index lies about it. One is a kind, the number of its base, a claim or
/// a lie, a length, and so many bytes.
fn objects(mut data: &[u8]) -> (Vec<Object>, Vec<Option<u32>>) {
    let (mut objects, mut lies) = (Vec::new(), Vec::new());
    while let Some((&[kind, base, odd, len], rest)) = data.split_first_chunk() {
        let (content, rest) = rest.split_at(usize::from(len).min(rest.len()));
        let size = content.len() as u64;
        let claimed = if kind & 8 == 0 { size } else { size.wrapping_add(u64::from(odd).rotate_right(8)) };
        objects.push(Object { kind: kind & 7, base: base.into(), content: content.to_vec(), claimed });
        lies.push((kind & 16 != 0).then(|| u32::from(odd).rotate_right(4)));
        data = rest;
        if objects.len() == MOST {
            break;
        }
    }
    (objects, lies)
}

fn compare(format: ObjectFormat, pack: &[u8], index: &[u8], ids: &[Oid]) {
    let scratch = repository(format, pack, index);
    let ours = ours(&scratch.0, format, ids);
    // In an index that is out of order an id is found or not, by where a search begins.
    if !is_in_order(index, format) {
        return;
    }
    // Git would follow a cycle for ever.
    let is_endless =
        |id: &Oid| matches!(ours.get(id), Some(Err(error)) if error.contains("its pack is damaged"));
    let asked: Vec<Oid> = ids.iter().copied().filter(|id| !is_endless(id)).collect();
    for (id, said) in asked.iter().zip(said_by_git(&scratch.0, &asked)) {
        match (said, ours.get(id)) {
            (Some(said), ours) => assert_eq!(ours, Some(&Ok(said)), "{id}"),
            (None, Some(Ok(ours))) if ids.is_sorted() => {
                let hash = git(&scratch.0, &["hash-object", "--stdin"], ours);
                assert_eq!(hash.trim_ascii_end(), id.to_string().as_bytes());
            }
            (None, _) => {}
        }
    }
}

/// Returns whether the ids of an index are sorted, and its 256 counts are those of their first bytes.
fn is_in_order(index: &[u8], format: ObjectFormat) -> bool {
    let counts = index.get(8..IDS).unwrap_or_default().as_chunks::<4>().0;
    let counts: Vec<usize> = counts.iter().map(|count| u32::from_be_bytes(*count) as usize).collect();
    let Some(all) = counts.last() else { return false };
    let id_len = if format == ObjectFormat::Sha1 { 20 } else { 32 };
    let ids: Vec<&[u8]> = index[IDS..].chunks_exact(id_len).take(*all).collect();
    let up_to = |first: usize| ids.iter().filter(|id| usize::from(id[0]) <= first).count();
    ids.is_sorted() && counts.iter().enumerate().all(|(first, count)| *count == up_to(first))
}

fn repository(format: ObjectFormat, pack: &[u8], index: &[u8]) -> Scratch {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("bluegreen-fuzz-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let extension = if format == ObjectFormat::Sha1 { "" } else { "[extensions]\nobjectFormat = sha256\n" };
    let config = format!("[core]\nrepositoryFormatVersion = 1\nbare = true\n{extension}");
    let make = || {
        fs::create_dir_all(path.join("objects/pack"))?;
        fs::create_dir(path.join("refs"))?;
        fs::write(path.join("HEAD"), "ref: refs/heads/master\n")?;
        fs::write(path.join("config"), config)?;
        fs::write(path.join("objects/pack/pack-1.pack"), pack)?;
        fs::write(path.join("objects/pack/pack-1.idx"), index)
    };
    make().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Scratch(path)
}

/// The output of git, up to where it dies.
fn git(repository: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut git = Command::new("git");
    git.arg("--git-dir").arg(repository).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = git.spawn().unwrap_or_else(|error| panic!("git: {error}"));
    // A git that dies early closes its end.
    let _ = child.stdin.take().map(|mut to| to.write_all(input));
    child.wait_with_output().unwrap_or_else(|error| panic!("git: {error}")).stdout
}

/// The blobs as a release gets them, each with an error where it is refused.
fn ours(path: &Path, format: ObjectFormat, ids: &[Oid]) -> HashMap<Oid, Result<Vec<u8>, String>> {
    let entry =
        |(number, id): (usize, &Oid)| [format!("100644 {number:02}\0").as_bytes(), id.as_bytes()].concat();
    let tree: Vec<u8> = ids.iter().enumerate().flat_map(entry).collect();
    let tree = git(path, &["hash-object", "-t", "tree", "--literally", "-w", "--stdin"], &tree);
    let tree = Oid::from_str_ext(std::str::from_utf8(tree.trim_ascii()).unwrap_or_default(), format);
    let repository = Repository::open(path).unwrap_or_else(|error| panic!("{error}"));
    let objects = Objects::new(&repository, format);
    let plan = Plan::read(&objects, tree.unwrap_or_else(|error| panic!("{error}")), None, 1000, None);
    let listing = plan.unwrap_or_else(|error| panic!("{error}")).listing;
    let wanted: Vec<u32> = (0..listing.entries.len() as u32).collect();
    let Ok(packed) = PackedBlobs::new(objects.packs(), &listing, &wanted, 2) else { return HashMap::new() };
    let reader = objects.reader();
    let mut decoder = Decoder::default();
    let mut found: HashMap<u32, Vec<u8>> = HashMap::new();
    for &root in &packed.subtrees {
        let taken = decoder.decode(&packed, root, |node, content| {
            let content = content.map(<[u8]>::to_vec);
            found.extend(packed.entries_of(node).iter().filter_map(|&entry| Some((entry, content.clone()?))));
            Ok(())
        });
        assert!(taken.is_ok());
    }
    let mut read = |entry: u32| {
        found
            .remove(&entry)
            .map_or_else(|| reader.blob(listing.id(entry)).map_err(|error| error.to_string()), Ok)
    };
    wanted.into_iter().map(|entry| (listing.id(entry), read(entry))).collect()
}

/// The blobs as git gives them. It dies at the first that is damaged, and is then asked for the rest.
fn said_by_git(path: &Path, ids: &[Oid]) -> Vec<Option<Vec<u8>>> {
    let mut said = Vec::new();
    while said.len() < ids.len() {
        let wanted: Vec<String> = ids[said.len()..].iter().map(Oid::to_string).collect();
        let output = git(path, &["cat-file", "--batch"], (wanted.join("\n") + "\n").as_bytes());
        let mut rest = output.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let head = String::from_utf8_lossy(&rest[..end]).into_owned();
            // `ID KIND SIZE`, then the content; or `ID missing`.
            let Some(size) = head.split(' ').nth(2).and_then(|size| size.parse::<usize>().ok()) else {
                said.push(None);
                rest = &rest[end + 1..];
                continue;
            };
            // Where git dies, the line's end after the content is missing, even if the content would be empty.
            let Some(content) = (end + 1).checked_add(size).and_then(|last| rest.get(end + 1..=last)) else {
                break;
            };
            said.push(head.contains(" blob ").then(|| content[..size].to_vec()));
            rest = rest.get(end + size + 2..).unwrap_or_default();
        }
        if said.len() < ids.len() {
            said.push(None);
        }
    }
    said
}
