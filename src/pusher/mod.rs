//! The pusher: every line that is printed, its wording, and the way that it takes.

pub mod live_line;
pub mod message;
pub mod output;
pub mod report;
