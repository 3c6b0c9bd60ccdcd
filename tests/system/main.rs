//! The tutorial and the installer on throw-away servers: real `adduser`, sshd, Apache, nginx and git,
//! with addresses of their own, on a machine that stays as it is.
//!
//! They take root. Without it, or without one of the programs they run, each test says so and
//! passes; where `CI` is set it fails instead, so that green never means skipped.

// A test that cannot go on has failed, and panics with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]
// The rule that keeps the program's own children in two modules is not one for tests.
#![allow(clippy::disallowed_methods)]

mod adoption;
mod ansible;
mod attack;
mod attack_installer;
mod attack_session;
mod boot_unit;
mod booted;
mod closed;
mod commands;
mod databases;
mod demo;
mod disk_cuts;
mod fresh;
mod front_end;
mod gate;
mod installer;
mod keys;
mod lab;
mod load;
mod machine;
mod package;
mod pair;
mod power;
mod release;
mod roles;
mod services;

#[path = "../integration/support/markdown.rs"]
#[allow(dead_code)]
mod markdown;
#[path = "../integration/support/normalize.rs"]
mod normalize;
#[path = "../integration/support/skip.rs"]
#[allow(dead_code)]
mod skip;
#[path = "../integration/support/snapshot.rs"]
#[allow(dead_code)]
mod snapshot;
mod ssh;
mod stacks;
mod sudo;
mod switches;
mod tls;
mod tutorial;
