//! The control panel: one web page that shows both sides of a pair, and promotes with a click.
//!
//! The panel reaches servers only through [`client::Client`], which calls the same functions as the command line. It
//! stores nothing: [`live::Live`] caches what the servers reported last. Everything that a browser sends is hostile
//! until [`guard`] has accepted it, and everything that a server reports is text.

pub mod actions;
pub mod client;
pub mod connections;
pub mod error;
pub mod fields;
pub mod guard;
pub mod job;
pub mod jobs;
pub mod live;
pub mod pages;
pub mod recent;
pub mod server;
pub mod servers;
pub mod session;
pub mod state;
pub mod stream;
pub mod views;

pub use self::client::{Client, Pair};
pub use self::connections::Timeouts;
pub use self::error::PanelError;
pub use self::server::{Options, serve};
