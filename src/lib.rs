//! bluegreen: a push becomes a release directory, and one rename makes it live.
//!
//! This library is the command line: arguments, environment, and output. The crates below it do the work.

pub mod cli;
pub mod command;
pub mod error;
mod panel_error;
mod server_error;
