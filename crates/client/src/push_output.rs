//! Parses the output of `git push`: the refs, the server's lines, and the reason for a failure.

use std::cell::RefCell;

use crate::program::shorten;

/// The maximum length of a printed line, in bytes. The rest is dropped.
const MAX_LINE: usize = 4096;

/// Prefixes of lines that are not the reason for git's failure.
const ASIDES: [&str; 4] = ["remote: ", "Warning: ", "hint: ", "To "];

/// A ref of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct PushedRef {
    pub name: String,
    /// The reason if it was rejected; otherwise empty.
    pub rejection: String,
}

/// Parses git's porcelain output: a flag, the two names, and a summary, separated by tabs.
#[must_use]
pub fn refs_of(text: &str) -> Vec<PushedRef> {
    let of = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let (flag, refs, summary) = (parts.next()?, parts.next()?, parts.next()?);
        let name = refs.rsplit(':').next()?.to_owned();
        let rejection = if flag == "!" { shorten(summary) } else { String::new() };
        Some(PushedRef { name, rejection })
    };
    text.lines().filter_map(of).collect()
}

/// The parts of git's output that contain the reason for a failure.
#[derive(Debug, Default)]
pub struct Said {
    pub error: Option<String>,
    /// The first line that comes from git and may be a reason.
    first: Option<String>,
    /// The end of the output of git and ssh themselves.
    pub failure: String,
    line: Vec<u8>,
}

impl Said {
    /// Adds a piece of output, and prints each complete line. Takes linear time and bounded memory, however long a line is.
    pub fn take(&mut self, bytes: &[u8], print: impl Fn(String)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            let part = text.unwrap_or(piece);
            // Drop progress before a carriage return, which a terminal would overwrite.
            if let Some(at) = part.iter().rposition(|&byte| byte == b'\r').filter(|&at| at + 1 < part.len()) {
                self.line.clear();
                self.extend(&part[at + 1..]);
            } else {
                self.extend(part);
            }
            if text.is_some() {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
                self.keep(line);
                print(line.to_owned());
            }
        }
    }

    fn extend(&mut self, part: &[u8]) {
        let space = MAX_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(space)]);
    }

    fn keep(&mut self, line: &str) {
        if let Some(error) = line.strip_prefix("remote: error: ") {
            self.error = Some(shorten(error));
        }
        if line.is_empty() || line.starts_with("remote: ") {
            return;
        }
        if self.failure.len() < MAX_LINE {
            self.failure.push_str(line);
            self.failure.push('\n');
        }
        if self.first.is_none() && !ASIDES.iter().any(|start| line.starts_with(start)) {
            self.first = Some(shorten(line));
        }
    }

    /// Returns the reason why a push failed: a rejected ref, or else the first line of git or ssh.
    #[must_use]
    pub fn reason(&self, refs: &[PushedRef]) -> String {
        let rejected = refs.iter().map(|pushed| &pushed.rejection).find(|reason| !reason.is_empty());
        rejected.or(self.first.as_ref()).cloned().unwrap_or_else(|| "git gives no reason".into())
    }
}

/// Returns the printed lines, and the reason for a failure. For the fuzz target.
#[must_use]
pub fn summarize(output: &[u8]) -> (Vec<String>, String) {
    let (lines, mut said) = (RefCell::new(Vec::new()), Said::default());
    for piece in output.chunks(7) {
        said.take(piece, |line| lines.borrow_mut().push(line));
    }
    let reason = said.reason(&refs_of(&String::from_utf8_lossy(output)));
    (lines.into_inner(), reason)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn said(text: &[&[u8]]) -> Said {
        let mut said = Said::default();
        for bytes in text {
            said.take(bytes, |_| ());
        }
        said
    }

    #[test]
    fn the_reason_is_a_rejection_or_the_first_line() {
        let unreachable = said(&[
            b"Warning: Permanently added 'blue'\nssh: connect to ho",
            b"st blue port 22: Connection refused\nfatal: Could not read from remote repository.\n",
        ]);
        assert_eq!(unreachable.reason(&[]), "ssh: connect to host blue port 22: Connection refused");
        let refs = refs_of(
            "To blue:app\n=\trefs/heads/a:refs/heads/a\t[up to date]\n\
             !\trefs/heads/b:refs/heads/c\t[remote rejected] (step `x` exited with status 1)\nDone\n",
        );
        assert_eq!(refs[0], PushedRef { name: "refs/heads/a".into(), rejection: String::new() });
        assert_eq!(refs[1].name, "refs/heads/c");
        assert_eq!(unreachable.reason(&refs), "[remote rejected] (step `x` exited with status 1)");
    }

    #[test]
    fn progress_is_left_out() {
        let lines = RefCell::new(Vec::new());
        let mut said = Said::default();
        for bytes in [
            &b"remote: Writing files:  45%\rremote: Wri"[..],
            b"ting files: 100%        \nremote: error: no\n",
        ] {
            said.take(bytes, |line| lines.borrow_mut().push(line));
        }
        assert_eq!(lines.into_inner(), ["remote: Writing files: 100%", "remote: error: no"]);
        assert_eq!((said.error.as_deref(), said.reason(&[]).as_str()), (Some("no"), "git gives no reason"));
    }

    #[test]
    fn a_long_line_takes_linear_time_and_little_memory() {
        let started = Instant::now();
        let mut said = Said::default();
        for _ in 0..1000 {
            said.take(&[b'x'; 16 * 1024], |_| ());
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(said.line.capacity() < 64 * 1024);
    }
}
