//! The client, which runs on an operator's machine: pushes to the servers of a side, and promotions, after which visitors
//! get the other side.
//!
//! [`promote::promote`] shows the order: look, hold, check, hand over, set, watch, mark. Everything that a server, the front end, or
//! the public address answers is hostile: its length has a bound where it is read, and it is printed escaped.

pub mod action;
pub mod canary;
pub mod canary_config;
pub mod changes;
pub mod check;
pub mod check_config;
pub mod config;
pub mod drain;
pub mod error;
pub mod finish;
pub mod folder;
pub mod hold;
pub mod lock;
pub mod observer;
pub mod overview;
pub mod plan;
pub mod probe;
pub mod program;
pub(crate) mod progress;
pub mod promote;
pub mod push;
pub mod push_output;
pub mod push_printer;
pub mod pushed;
pub mod remote;
pub mod role;
pub mod ssh;
pub mod switch;
pub mod switch_program;
pub mod trust;
pub mod user_command;
pub mod values;
pub mod watch;

pub use error::{Error, Result};
