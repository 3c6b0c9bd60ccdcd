//! The gate: a push that fails when its deployment fails.

pub mod branch;
pub mod protocol;
pub mod rules;
