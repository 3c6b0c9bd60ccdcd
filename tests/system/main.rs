//! The tutorial and the installer on temporary servers with real `adduser`, sshd, Apache, nginx, and git. The
//! servers have their own addresses, and the host stays unchanged.
//!
//! These tests need root. Without root, or without a program that a test runs, the test prints that it is
//! skipped and passes. If `CI` is set, it fails instead, so that a passing run is complete.

// In tests, a panic is the right way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]
// Tests may start child processes directly, unlike the program.
#![allow(clippy::disallowed_methods)]

mod adoption;
mod ansible;
mod arm64;
mod attack;
mod attack_app;
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
mod new_server;
mod package;
mod pair;
mod panel;
mod power;
mod quick_installer;
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
mod sources;
mod ssh;
mod stacks;
mod sudo;
mod switches;
mod tls;
mod tutorial;
