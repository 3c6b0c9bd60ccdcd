//! bluegreen: a push becomes a release directory, and one rename makes it live.
//!
//! The program is `main.rs`; this library holds its parts, from the command line down to the writer of
//! files. One direction: [`command`] -> [`deploy`] -> [`site`], [`release`], [`checkout`] ->
//! [`report`], [`error`].

pub mod branch;
pub mod checkout;
pub mod child;
pub mod cli;
pub mod command;
pub mod config;
pub mod deploy;
pub mod dir;
pub mod error;
pub mod gate;
pub mod git;
mod hint;
pub mod history;
pub mod logs;
pub mod message;
pub mod options;
pub mod output;
pub mod publish;
pub mod push;
pub mod release;
pub mod report;
pub mod rollback;
pub mod rules;
pub mod running;
pub mod server;
pub mod serving;
pub mod shared;
pub mod signals;
pub mod site;
pub mod step;
pub mod sudoers;
