//! The object store against git.

// A test that cannot continue has failed, and panics with the reason.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::missing_panics_doc)]

#[path = "../../fuzz/entries.rs"]
mod entries;
mod fuzz;
mod hostile;
mod mutate;
mod packs;
mod reading;
mod repository;
