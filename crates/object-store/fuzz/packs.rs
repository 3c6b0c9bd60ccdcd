//! Reads arbitrary packs and indexes, with git as the oracle.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use bluegreen_object_store::{
    CopyError, Decoder, Error, Fallback, LargeObject, ObjectFormat, ObjectId, ObjectStore,
};

use super::handmade::{Object, id, index, pack};

/// The maximum number of objects to look up.
const MAX_OBJECTS: usize = 64;

/// The offset of the ids in an index.
const IDS: usize = 8 + 1024;

/// A bare repository, removed on drop.
struct Scratch(PathBuf);

/// Reads large and unusual objects with `git cat-file`, as the program does.
#[derive(Debug)]
pub struct Git(pub PathBuf);

impl Fallback for Git {
    fn copy(&self, object: &LargeObject, _: &[PathBuf], to: &mut dyn Write) -> Result<(), CopyError> {
        let LargeObject { id, kind, size } = *object;
        let content = git(&self.0, &["cat-file", kind.name(), &id.to_string()], b"");
        if content.len() as u64 != size {
            return Err(CopyError::Read(Error::Object { kind, id, problem: "git rejects it".into() }));
        }
        to.write_all(&content).map_err(CopyError::Write)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Combines a pack and its index into one input: the length of ids, the length of the pack, the pack, and the
/// index.
pub fn join(id_len: u8, pack: &[u8], index: &[u8]) -> Vec<u8> {
    [&[id_len][..], &(pack.len() as u32).to_le_bytes(), pack, index].concat()
}

/// Reads every object in the index. If git reads an object, the content must be equal. If git rejects it, it
/// must be rejected or match its id.
pub fn read(data: &[u8]) {
    let Some((&[id_len, a, b, c, d], rest)) = data.split_first_chunk() else { return };
    let format = if id_len == 20 { ObjectFormat::Sha1 } else { ObjectFormat::Sha256 };
    let (pack, index) = rest.split_at((u32::from_le_bytes([a, b, c, d]) as usize).min(rest.len()));
    let ids = index.get(IDS..).unwrap_or_default().chunks_exact(format.id_len()).take(MAX_OBJECTS);
    let ids: Vec<ObjectId> = ids.filter_map(ObjectId::from_bytes).collect();
    compare(format, pack, index, &ids);
}

/// Reads the objects of a handmade pack. [`objects`] describes the input.
pub fn read_handmade(data: &[u8]) {
    let format = if data.first().is_some_and(|byte| byte & 1 == 1) {
        ObjectFormat::Sha256
    } else {
        ObjectFormat::Sha1
    };
    let (objects, lies) = objects(data.get(1..).unwrap_or_default());
    let (pack, mut offsets) = pack(&objects, format);
    offsets.iter_mut().zip(lies).for_each(|(offset, lie)| *offset = lie.unwrap_or(*offset));
    let ids: Vec<ObjectId> = (0..objects.len()).map(|number| id(number, format)).collect();
    compare(format, &pack, &index(&offsets, format), &ids);
}

/// Parses objects, each with an optional wrong offset for the index. An object is a type, the number of its
/// base, a wrong size or offset, a length, and that many bytes.
fn objects(mut data: &[u8]) -> (Vec<Object>, Vec<Option<u32>>) {
    let (mut objects, mut lies) = (Vec::new(), Vec::new());
    while let Some((&[kind, base, odd, len], rest)) = data.split_first_chunk() {
        let (content, rest) = rest.split_at(usize::from(len).min(rest.len()));
        let size = content.len() as u64;
        let claimed = if kind & 8 == 0 { size } else { size.wrapping_add(u64::from(odd).rotate_right(8)) };
        objects.push(Object { kind: kind & 7, base: base.into(), content: content.to_vec(), claimed });
        lies.push((kind & 16 != 0).then(|| u32::from(odd).rotate_right(4)));
        data = rest;
        if objects.len() == MAX_OBJECTS {
            break;
        }
    }
    (objects, lies)
}

fn compare(format: ObjectFormat, pack: &[u8], index: &[u8], ids: &[ObjectId]) {
    let scratch = repository(format, pack, index);
    let ours = ours(&scratch.0, format, ids);
    // In an unsorted index, the result of a lookup depends on where the search starts.
    if !is_in_order(index, format) {
        return;
    }
    // Git would follow a cycle forever.
    let is_endless =
        |id: &ObjectId| matches!(ours.get(id), Some(Err(error)) if error.contains("its pack is damaged"));
    let asked: Vec<ObjectId> = ids.iter().copied().filter(|id| !is_endless(id)).collect();
    for (id, said) in asked.iter().zip(read_by_git(&scratch.0, &asked)) {
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

/// Returns whether the ids in an index are sorted and its 256 counts match their first bytes.
fn is_in_order(index: &[u8], format: ObjectFormat) -> bool {
    let counts = index.get(8..IDS).unwrap_or_default().as_chunks::<4>().0;
    let counts: Vec<usize> = counts.iter().map(|count| u32::from_be_bytes(*count) as usize).collect();
    let Some(all) = counts.last() else { return false };
    let ids: Vec<&[u8]> = index[IDS..].chunks_exact(format.id_len()).take(*all).collect();
    let up_to = |first: usize| ids.iter().filter(|id| usize::from(id[0]) <= first).count();
    ids.is_sorted() && counts.iter().enumerate().all(|(first, count)| *count == up_to(first))
}

fn repository(format: ObjectFormat, pack: &[u8], index: &[u8]) -> Scratch {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("bluegreen-fuzz-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let extension = format!("[extensions]\nobjectFormat = {}\n", format.name());
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

/// Returns git's output, up to the point where it exits.
fn git(repository: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut git = Command::new("git");
    git.arg("--git-dir").arg(repository).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = git.spawn().unwrap_or_else(|error| panic!("git: {error}"));
    // If git exits early, it closes the pipe.
    let _ = child.stdin.take().map(|mut to| to.write_all(input));
    child.wait_with_output().unwrap_or_else(|error| panic!("git: {error}")).stdout
}

/// Reads the blobs as a checkout does. Rejected blobs are errors.
fn ours(path: &Path, format: ObjectFormat, ids: &[ObjectId]) -> HashMap<ObjectId, Result<Vec<u8>, String>> {
    let fallback = Git(path.into());
    let store = ObjectStore::new(&path.join("objects"), format, &fallback);
    let blobs = store.find_blobs(ids, 2);
    let mut decoder = Decoder::default();
    let mut found: HashMap<usize, Vec<u8>> = HashMap::new();
    for &subtree in blobs.subtrees() {
        let taken = decoder.decode(&blobs, subtree, |decoded| {
            let content = decoded.content.map(<[u8]>::to_vec);
            found.extend(decoded.blobs.iter().filter_map(|blob| Some((blob.position(), content.clone()?))));
            Ok::<_, Infallible>(())
        });
        assert!(taken.is_ok());
    }
    let reader = store.reader();
    let mut read = |(position, id): (usize, &ObjectId)| {
        let read_alone = || reader.blob(*id).map_err(|error| error.to_string());
        (*id, found.remove(&position).map_or_else(read_alone, Ok))
    };
    ids.iter().enumerate().map(&mut read).collect()
}

/// Reads the blobs with git, which exits at the first damaged blob and is then restarted for the rest.
fn read_by_git(path: &Path, ids: &[ObjectId]) -> Vec<Option<Vec<u8>>> {
    let mut said = Vec::new();
    while said.len() < ids.len() {
        let wanted: Vec<String> = ids[said.len()..].iter().map(ObjectId::to_string).collect();
        let output = git(path, &["cat-file", "--batch"], (wanted.join("\n") + "\n").as_bytes());
        let mut rest = output.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let head = String::from_utf8_lossy(&rest[..end]).into_owned();
            // The output is `ID KIND SIZE` and the content, or `ID missing`.
            let Some(size) = head.split(' ').nth(2).and_then(|size| size.parse::<usize>().ok()) else {
                said.push(None);
                rest = &rest[end + 1..];
                continue;
            };
            // If git exits, the newline after the content is missing, even after empty content.
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
