//! Progress of a request to many servers: names those that have not finished.

use bluegreen_report::Report;

/// The maximum number of servers that are named.
const MAX_NAMED: usize = 3;

/// The second at which a log gets its first line about work that usually takes a few seconds.
pub(crate) const SILENT: u64 = 5;

/// Prints a line every second at a terminal, and a few lines in a log.
pub(crate) struct Progress<'a> {
    report: &'a Report,
    /// The action that the servers have not completed yet.
    what: &'static str,
    /// The second of the first line in a log.
    first: u64,
    seconds: u64,
}

impl<'a> Progress<'a> {
    pub fn new(report: &'a Report, what: &'static str, first: u64) -> Self {
        Self { report, what, first, seconds: 0 }
    }

    /// Reports the hosts of the unfinished servers; call it once per second. A repeated host is named once.
    pub fn show(&mut self, mut hosts: Vec<&str>) {
        self.seconds += 1;
        hosts.dedup();
        let more = hosts.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let hosts = hosts.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
        let line = format!("Waiting for {hosts}{more} to {}, {} s...", self.what, self.seconds);
        if self.report.is_at_terminal() {
            self.report.progress(line);
        } else if self.seconds == self.first || self.seconds.is_multiple_of(10) {
            self.report.line(line);
        }
    }
}
