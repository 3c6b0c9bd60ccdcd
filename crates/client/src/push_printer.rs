//! The output of a push while it runs.
//!
//! Lines from a few servers are printed as they arrive. Lines from many servers would bury those that matter, so each
//! server gets one line, preceded by the last lines of its output if it failed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bluegreen_report::Report;
use bluegreen_text::{count, seconds};

use crate::pushed::{Outcome, Pushed};

/// The maximum number of servers whose lines are printed as they arrive.
pub const MAX_STREAMED_SERVERS: usize = 8;

/// The number of lines that are printed for a failed server if there are many servers.
const LAST_LINES: usize = 20;

/// The maximum number of servers that are named as unfinished.
const MAX_NAMED: usize = 3;

/// The time between two lines about unfinished servers, outside of a terminal.
const PAUSE: Duration = Duration::from_secs(30);

/// A line that git printed, or the result.
pub(crate) enum Event {
    Line(usize, String),
    Done(usize, Pushed),
}

/// Prints events as they happen.
pub(crate) struct Printer<'a> {
    report: &'a Report,
    names: &'a [String],
    width: usize,
    started: Instant,
    shown: Instant,
    /// The last lines of each server; empty if they are printed as they arrive.
    lines: Vec<VecDeque<String>>,
    done: Vec<(usize, Pushed)>,
}

impl<'a> Printer<'a> {
    pub fn new(report: &'a Report, names: &'a [String]) -> Self {
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let lines =
            if names.len() > MAX_STREAMED_SERVERS { vec![VecDeque::new(); names.len()] } else { Vec::new() };
        Self { report, names, width, started: Instant::now(), shown: Instant::now(), lines, done: Vec::new() }
    }

    pub fn take(&mut self, event: Event) {
        match event {
            Event::Line(at, line) => match self.lines.get_mut(at) {
                Some(lines) => {
                    lines.push_back(line);
                    if lines.len() > LAST_LINES {
                        lines.pop_front();
                    }
                }
                None => self.print(at, &line),
            },
            Event::Done(at, pushed) => {
                if let Some(lines) = self.lines.get_mut(at).map(std::mem::take) {
                    if pushed.result >= Outcome::Bad {
                        for line in &lines {
                            self.print(at, line);
                        }
                    }
                    let (done, all) = (self.done.len() + 1, self.names.len());
                    let took = seconds(Duration::from_secs_f64(pushed.seconds.max(0.0)));
                    self.print(at, &format!("{}, {took} ({done} of {all})", pushed.result.words()));
                }
                self.done.push((at, pushed));
            }
        }
    }

    fn print(&self, at: usize, line: &str) {
        let (name, width) = (&self.names[at], self.width);
        self.report.line(format_args!("{name:width$} | {line}"));
    }

    /// Reports unfinished servers: each second at a terminal, and every 30 seconds in a log. Call it once per second.
    pub fn wait(&mut self, is_at_terminal: bool) {
        let is_done = |at: &usize| self.done.iter().any(|(done, _)| done == at);
        let waiting: Vec<&str> =
            (0..self.names.len()).filter(|at| !is_done(at)).map(|at| self.names[at].as_str()).collect();
        let named = if waiting.len() <= MAX_NAMED && !self.done.is_empty() {
            format!(", waiting for {}", waiting.join(", "))
        } else {
            String::new()
        };
        let all = count(self.names.len() as u64, "server");
        let took = seconds(self.started.elapsed());
        let line = format!("{} of {all} done{named}, {took}", self.done.len());
        if is_at_terminal {
            self.report.progress(line);
        } else if self.shown.elapsed() >= PAUSE {
            self.shown = Instant::now();
            self.report.line(line);
        }
    }

    /// Returns the results in the order of the servers.
    pub fn results(self) -> Vec<Pushed> {
        let mut done = self.done;
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, pushed)| pushed).collect()
    }
}
