//! Child processes with deadlines, and the signals that stop this program.

pub mod concurrent;
pub mod dialog;
mod group;
pub mod process;
pub mod signals;
