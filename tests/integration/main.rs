//! Runs the program's own binary with real git. Each module tests one subject.

// In tests, a panic is the right way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]
// Tests may start child processes directly, unlike the program.
#![allow(clippy::disallowed_methods)]

mod app;
mod architecture;
mod assets;
mod attributes;
mod bad_input;
mod book;
mod checkout;
mod cli_reference;
mod client_limits;
mod concurrency;
mod config;
mod current;
mod damaged_state;
mod dependencies;
mod differential;
mod disks;
mod documents;
mod eio_gate;
mod every_call;
mod fifty;
mod filters;
mod fleet;
mod formats;
mod freeze;
mod fuzz;
mod gate;
mod gate_edges;
mod gate_http;
mod gate_old_client;
mod git_programs;
mod hooks;
mod hostile;
mod hostile_objects;
mod hostile_packs;
mod kill;
mod kill_gate;
mod kill_resume;
mod lfs;
mod limits;
mod links;
mod lock;
mod lost;
mod many_packs;
mod messages;
mod metrics;
mod mounts;
mod notify;
mod operators;
mod order;
mod ownership;
mod panel;
mod picture;
mod promote;
mod promote_canary;
mod promote_checks;
mod promote_drain;
mod promote_fails;
mod promote_host;
mod promote_killed;
mod promote_look;
mod promote_steps;
mod property;
mod publishing;
mod push;
mod push_from;

mod recycle;
mod replaced;
mod report;
mod resume;
mod roles;
mod rollback;
mod root_commands;
mod running;
mod sandbox;
mod shared;
mod speed;
mod stacks;
mod step_cache;
mod steps;
mod subdirectory;
mod submodules;
mod submodules_ssh;
mod support;
mod terminal;

// Shared with the tests of the object store.
#[path = "../../crates/object-store/fuzz/handmade.rs"]
mod handmade;
#[path = "../../crates/object-store/tests/store/mutate.rs"]
mod mutate;
#[path = "../../crates/object-store/tests/store/repository.rs"]
mod repository;
mod watch;
mod workflows;
