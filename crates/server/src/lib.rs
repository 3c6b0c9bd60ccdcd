//! The server: a push becomes a release directory, and one rename makes it live.
//!
//! Each module imports only modules below it in the table of ARCHITECTURE.md; `tests/integration/architecture.rs` checks
//! that.

pub mod config;
pub mod deploy;
pub mod error;
pub mod gate;
pub mod pusher;
pub mod release;
pub mod shared;
pub mod site;
