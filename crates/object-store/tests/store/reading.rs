//! Reads the files of a tree as a checkout does, and compares them with git.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;

use bluegreen_object_store::{DecodedBlob, Decoder, ObjectId, ObjectStore};

use crate::entries::packs::Git;
use crate::repository::Packed;

/// The files read from a tree.
pub struct Found {
    /// The content of each file that was decoded.
    pub files: HashMap<PathBuf, Vec<u8>>,
    /// The files that must be read individually.
    pub left: Vec<PathBuf>,
    /// The number of files that were decoded from deltas.
    pub deltas: usize,
}

impl Packed {
    /// Commits versions of similar files as loose objects.
    pub fn history(&self, files: usize, versions: std::ops::Range<usize>) -> &Self {
        let mut stream = Vec::new();
        let first = versions.start;
        for version in versions {
            writeln!(stream, "commit refs/heads/master\ncommitter A <a@b> {version} +0000\ndata 0").unwrap();
            if version == first && first > 0 {
                writeln!(stream, "from refs/heads/master^0").unwrap();
            }
            for file in (0..files).filter(|file| version == 0 || (file + version) % 3 == 0) {
                let new = (version * 7 + file) % 40;
                let lines = (0..40 + file).map(|line| {
                    if line == new {
                        format!("a new line of version {version} in {file}\n")
                    } else {
                        format!("line {line} of {}\n", line * line * (file % 9))
                    }
                });
                let content: String = lines.collect();
                writeln!(
                    stream,
                    "M 644 inline dir{}/file{file}\ndata {}\n{content}",
                    file % 5,
                    content.len()
                )
                .unwrap();
            }
        }
        self.git(&["-c", "fastimport.unpackLimit=100000", "fast-import", "--quiet"], &stream);
        self
    }

    /// Reads the packed files of master.
    pub fn read(&self, threads: usize) -> Found {
        self.read_tree("master", threads)
    }

    /// Reads the packed files of a tree, and checks the size of each.
    pub fn read_tree(&self, tree: &str, threads: usize) -> Found {
        let list = String::from_utf8(self.git(&["ls-tree", "-r", "-z", tree], b"")).unwrap();
        let entries = list.split_terminator('\0').map(|line| line.split_once('\t').unwrap());
        let (ids, paths): (Vec<ObjectId>, Vec<PathBuf>) =
            entries.map(|(id, path)| (id[12..].parse::<ObjectId>().unwrap(), path.into())).unzip();
        let format = ids[0].format();
        let fallback = Git(self.temp.path().into());
        let store = ObjectStore::new(&self.path("objects"), format, &fallback);
        let packed = store.find_blobs(&ids, threads);
        let mut decoder = Decoder::default();
        let mut found = Found { files: HashMap::new(), left: Vec::new(), deltas: 0 };
        for &subtree in packed.subtrees() {
            let take = |DecodedBlob { blobs, content, is_delta }: DecodedBlob| {
                for &blob in blobs {
                    assert!(packed.is_in_delta_tree(blob));
                    if let Some(content) = content {
                        assert_eq!(packed.size(blob), Some(content.len() as u64));
                        let before = found.files.insert(paths[blob.position()].clone(), content.to_vec());
                        assert!(before.is_none(), "the object was decoded twice");
                        found.deltas += usize::from(is_delta);
                    }
                }
                Ok::<_, Infallible>(())
            };
            let Ok(()) = decoder.decode(&packed, subtree, take);
        }
        found.left = paths.into_iter().filter(|path| !found.files.contains_key(path)).collect();
        found
    }

    /// Compares all files with git. Returns the number of deltas and the number of files that were not
    /// decoded.
    #[track_caller]
    pub fn matches_git(&self) -> (usize, usize) {
        let found = self.read(2);
        for (path, content) in &found.files {
            let expected = self.git(&["cat-file", "blob", &format!("master:{}", path.display())], b"");
            assert_eq!(
                String::from_utf8_lossy(content),
                String::from_utf8_lossy(&expected),
                "{}",
                path.display()
            );
        }
        (found.deltas, found.left.len())
    }
}
