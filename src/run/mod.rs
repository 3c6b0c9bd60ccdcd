//! Child processes: the engine that runs them within a time limit, and the signals that end them.

pub mod child;
pub mod signals;
