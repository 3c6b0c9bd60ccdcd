//! What bluegreen needs from the operating system: directories as descriptors, and work divided among threads.

pub mod concurrent;
pub mod dir;
pub mod parallel;
