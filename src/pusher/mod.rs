//! Output to the pusher: the wording of each line, and printing that never blocks.

pub mod leftover;
pub mod live_line;
pub mod message;
pub mod output;
pub mod report;
