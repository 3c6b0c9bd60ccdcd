//! The panel over HTTP, with servers that the test plays.

// A test that cannot go on has failed, and panics with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]
// The rule that keeps the program's threads in one module is not one for tests.
#![allow(clippy::disallowed_methods)]

mod attack;
mod crowd;
mod fake;
mod http;
mod overview;
mod token;
