//! Child processes: the steps of a release, the engine that runs them, and the signals that end them.

pub mod child;
pub mod output;
pub mod signals;
pub mod step;
