//! The engine on systems other than Linux, compiled on Linux for its tests.
#![expect(dead_code, reason = "the tests do not use every function")]

#[path = "child.rs"]
mod child;
#[path = "exit_watch/portable.rs"]
mod exit_watch;
#[path = "group.rs"]
mod group;
