//! Child processes with a time limit, and the signals that stop this program.

pub mod child;
pub mod signals;
