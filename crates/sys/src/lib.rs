//! What bluegreen needs from the operating system: directories as descriptors, and work divided among threads.

pub mod concurrent;
#[cfg(target_os = "linux")]
pub mod dir;
pub mod parallel;
