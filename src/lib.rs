//! bluegreen: a push becomes a release directory, and one rename makes it live.
//!
//! The program is `main.rs`; this library holds its rooms. Each knows only those below it, as
//! ARCHITECTURE.md draws them and `tests/it/architecture.rs` asserts.

pub mod checkout;
pub mod cli;
pub mod command;
pub mod config;
pub mod deploy;
pub mod dir;
pub mod error;
pub mod gate;
pub mod git;
pub mod promote;
pub mod pusher;
pub mod release;
pub mod run;
pub mod shared;
pub mod site;
pub mod text;
