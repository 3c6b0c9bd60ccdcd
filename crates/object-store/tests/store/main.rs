//! The object store against git.

// In tests, a panic is the right way to fail.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::missing_panics_doc)]

#[path = "../../fuzz/entries.rs"]
mod entries;
mod fuzz;
mod hostile;
mod mutate;
mod packs;
mod reading;
mod repository;
