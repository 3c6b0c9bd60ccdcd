//! The ancestors of this process, with their start times, from `/proc`.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

/// The maximum number of processes to follow. A chain changes while it is read, and could otherwise be endless.
const MAX_ANCESTORS: usize = 32;

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The first 15 bytes of the program's name.
    pub name: String,
    /// Its start, as time since the boot, rounded down to a tick of the clock: usually 10 ms.
    pub started: Duration,
    parent: u32,
    session: u32,
}

impl Process {
    /// Reads a process. Returns `None` if it no longer exists or is hidden.
    fn read(id: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?, clock_ticks_per_second())
    }

    /// Parses `/proc/PID/stat`, in which the name may contain spaces and parentheses.
    fn parse(stat: &str, ticks_per_second: u64) -> Option<Self> {
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        // The first of these fields is the third of the file.
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
        Some(Self {
            name: name.to_owned(),
            started: Duration::from_millis(number(22)?.checked_mul(1000)?.checked_div(ticks_per_second)?),
            parent: number(4)?.try_into().ok()?,
            session: number(6)?.try_into().ok()?,
        })
    }

    /// Reads the process that leads the session of this one.
    #[must_use]
    pub fn session_leader(&self) -> Option<Self> {
        Self::read(self.session)
    }
}

/// Returns the parent of this process, its parent, and so on, as far as they are visible.
#[must_use]
pub fn ancestors() -> Vec<Process> {
    let parent = Process::read(std::os::unix::process::parent_id());
    std::iter::successors(parent, |process| Process::read(process.parent)).take(MAX_ANCESTORS).collect()
}

/// Returns the time since the boot, on the clock of [`Process::started`].
#[must_use]
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_what_separates_the_fields() {
        let fields = "S 40 41 42 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 12345 0 0";
        let process = Process::parse(&format!("7 (a) (b c) {fields}\n"), 100).unwrap();
        assert_eq!((process.name.as_str(), process.parent, process.session), ("a) (b c", 40, 42));
        assert_eq!(process.started, Duration::from_millis(123_450));
        for damaged in ["", "7", "7 (sh", "7 (sh) S 1", "7 (sh) S x 41 42"] {
            assert_eq!(Process::parse(damaged, 100), None, "{damaged}");
        }
        assert_eq!(Process::parse(&format!("7 (sh) {fields}"), 0), None);
    }

    #[test]
    fn ancestors_started_in_order_and_before_now() {
        let above = ancestors();
        assert!(!above.is_empty());
        assert!(above[0].started <= since_boot());
    }
}
