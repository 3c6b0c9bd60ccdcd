//! The client, which runs on an operator's machine: pushes to the servers of a side, and promotions, after which visitors
//! get the other side.
//!
//! [`look`] reads the state of both sides and of the switch, and [`promote::promote`] shows the order of the rest: hold,
//! check, hand over, set, watch, mark. Every response of a server, the front end, or the public address is untrusted: its
//! length is bounded where it is read, and it is escaped where it is printed.

pub mod action;
mod canary;
pub mod canary_config;
pub mod changes;
mod check;
pub mod check_config;
pub mod config;
mod context;
mod drain;
pub mod error;
mod finish;
pub mod folder;
mod hold;
mod latch;
pub mod lock;
mod locks;
pub mod look;
pub mod observer;
pub mod overview;
pub mod plan;
pub mod probe;
mod program;
mod progress;
pub mod promote;
pub mod push;
pub mod push_output;
pub mod push_printer;
mod pushed;
pub mod remote;
mod role;
pub mod ssh;
mod standby;
pub mod switch;
mod switch_program;
pub mod trust;
mod user_command;
mod values;
pub mod watch;

pub use error::{Error, Result};
