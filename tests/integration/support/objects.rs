//! Writes loose objects with arbitrary content, including invalid ones.

use std::fs;
use std::path::{Path, PathBuf};

use bluegreen_object_store::{ObjectId, ObjectKind};
use libdeflater::{CompressionLvl, Compressor};
use sha1::{Digest, Sha1};

/// The object directory of a SHA-1 repository.
pub struct Objects(PathBuf);

impl Objects {
    /// Opens the objects of a bare repository or a clone.
    pub fn of(path: &Path) -> Self {
        let git_dir = Some(path.join(".git")).filter(|git_dir| git_dir.exists());
        Self(git_dir.unwrap_or_else(|| path.into()).join("objects"))
    }

    pub fn write(&self, kind: ObjectKind, data: &[u8]) -> ObjectId {
        let object = [format!("{kind} {}\0", data.len()).as_bytes(), data].concat();
        let id = ObjectId::from_bytes(&Sha1::digest(&object)).unwrap();
        let digits = id.to_string();
        let mut compressor = Compressor::new(CompressionLvl::fastest());
        let mut file = vec![0; compressor.zlib_compress_bound(object.len())];
        let len = compressor.zlib_compress(&object, &mut file).unwrap();
        let directory = self.0.join(&digits[..2]);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(&digits[2..]), &file[..len]).unwrap();
        id
    }

    pub fn blob(&self, content: &[u8]) -> ObjectId {
        self.write(ObjectKind::Blob, content)
    }

    /// Writes a tree object with exactly these entries, in this order.
    pub fn tree(&self, entries: &[(&str, &[u8], ObjectId)]) -> ObjectId {
        let entry = |(mode, name, id): &(&str, &[u8], ObjectId)| {
            [mode.as_bytes(), b" ", name, b"\0", id.as_bytes()].concat()
        };
        self.write(ObjectKind::Tree, &entries.iter().flat_map(entry).collect::<Vec<_>>())
    }

    pub fn commit(&self, tree: ObjectId) -> ObjectId {
        let who = "Eve <eve@example.com> 1700000000 +0000";
        let text = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nHarmless\n");
        self.write(ObjectKind::Commit, text.as_bytes())
    }
}
