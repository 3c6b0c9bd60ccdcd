//! A read-only git object store: loose objects, packs, and alternates, with SHA-1 and SHA-256.
//!
//! [`ObjectStore`] reads commits, trees, and blobs. [`PackedBlobs`] finds many blobs at once and decodes each delta base only
//! once, which is what a checkout needs. Nothing here trusts a repository: damaged or hostile objects, packs, and indexes
//! are errors. They cause neither panics, nor unbounded memory, nor endless loops.

mod alternates;
mod commit;
mod error;
mod loose;
mod pack;
mod store;
mod stream;
pub mod tree;
mod tree_cache;
mod tree_diff;

pub use bluegreen_git_types::{ObjectFormat, ObjectId, ObjectKind};

pub use self::commit::Commit;
pub use self::error::{CopyError, Error, Result};
pub use self::pack::delta_tree::decode::{DecodedBlob, Decoder};
pub use self::pack::delta_tree::{BlobIndex, PackedBlobs, Subtree};
pub use self::store::{Fallback, LargeObject, ObjectStore, Reader};
