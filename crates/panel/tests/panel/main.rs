//! The panel over HTTP, with simulated servers.

// In tests, a panic is the right way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]
// Tests may start threads directly, unlike the program.
#![allow(clippy::disallowed_methods)]

mod actions;
mod attack;
mod crowd;
mod fake;
mod http;
mod overview;
mod promotion;
mod script;
mod token;
