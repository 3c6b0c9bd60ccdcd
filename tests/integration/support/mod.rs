//! A temporary developer and server: a clone, a bare repository with the program as its hook, and a site.
//!
//! Everything runs through the real binary and real git, in an environment isolated from the machine's:
//! `sandbox.commit("index.html", "v1").push().ok().serves("index.html", "v1")`.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

mod instances;
pub mod lock;
pub mod markdown;
pub mod mount;
pub mod normalize;
pub mod objects;
pub mod run;
pub mod sandbox;
pub mod skip;
pub mod snapshot;
pub mod strace;
pub mod tree;
pub mod two_versions;
pub mod vandal;

pub use run::{Reported, Run};
pub use sandbox::Sandbox;
pub use snapshot::{Snapshot, snapshot};
pub use tree::Node;
pub use two_versions::TwoVersions;
