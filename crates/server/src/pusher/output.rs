//! The output of a child process: all of it goes into a log, and line by line to the pusher.
//!
//! A line that is too long is truncated, and a full disk affects only the log: neither stops the deployment.

use std::fs::File;
use std::io::Write;

use bluegreen_text::without_colors;

use crate::pusher::message::Message;
use bluegreen_report::Report;

/// The maximum length of a line for the pusher, in bytes.
const MAX_LINE: usize = 1000;

/// Receives the output of a child process, piece by piece.
#[derive(Debug)]
pub struct Output<'a> {
    report: &'a Report,
    log: Option<&'a File>,
    indent: &'static str,
    line: Vec<u8>,
    is_cut: bool,
    dropped: u64,
}

impl<'a> Output<'a> {
    /// Sends lines to `report`, each after `indent`, and everything to `log`.
    #[must_use]
    pub fn new(report: &'a Report, log: Option<&'a File>, indent: &'static str) -> Self {
        Self { report, log, indent, line: Vec::new(), is_cut: false, dropped: 0 }
    }

    /// Receives a piece of output: lines or parts of lines.
    pub fn take(&mut self, bytes: &[u8]) {
        if let Some(mut log) = self.log
            && let Err(error) = log.write_all(bytes)
        {
            self.report.warning(Message::LogBroken(&error));
            self.log = None;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
            let (piece, after) = rest.split_at(end);
            rest = after;
            let room = MAX_LINE.saturating_sub(self.line.len());
            let text = piece.strip_suffix(b"\n");
            let part = text.unwrap_or(piece);
            self.is_cut |= part.len() > room;
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if text.is_some() && !self.end_line() {
                // A reader that was too slow for this line is too slow for the rest, which is dropped.
                let last = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                self.dropped += rest[..last].split(|&byte| byte == b'\n').count() as u64 - 1;
                rest = &rest[last..];
            }
        }
    }

    /// Ends the last line, and prints how many lines were dropped.
    pub fn end(mut self) {
        if !self.line.is_empty() {
            self.end_line();
            // This program's next line in the log must begin on a new line.
            self.log.map_or(Ok(()), |mut log| log.write_all(b"\n")).unwrap_or_default();
        }
        if self.dropped > 0 {
            self.report.line(Message::LinesDropped(self.dropped));
        }
    }

    /// Prints the line; returns false if it was dropped.
    fn end_line(&mut self) -> bool {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        // A terminal would overwrite the text before a carriage return, so it is left out.
        let shown = line.rsplit(|&byte| byte == b'\r').next().unwrap_or_default();
        let text = without_colors(shown);
        let text = String::from_utf8_lossy(&text);
        let rest = if self.is_cut { "..." } else { "" };
        let is_printed = self.report.output(format_args!("{}{}{rest}", self.indent, text.trim_end()));
        self.dropped += u64::from(!is_printed);
        self.line.clear();
        self.is_cut = false;
        is_printed
    }
}
