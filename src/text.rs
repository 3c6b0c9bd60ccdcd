//! Formatting of names, sizes, counts and times in messages.

use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Formats a name or a path for printing: bytes that are not UTF-8 become `\xff`, control characters are
/// escaped.
pub fn printable(name: &(impl AsRef<Path> + ?Sized)) -> String {
    let mut text = String::new();
    for chunk in name.as_ref().as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&escape_controls(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Escapes control characters as `\n` or `\u{1b}`, so that text cannot control a terminal.
#[must_use]
pub fn escape_controls(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Formats a system error without the ` (os error N)` of the standard library.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

/// Formats a number and a noun: "1 file", "2 files".
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Formats a duration: "0.04 s".
#[must_use]
pub fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Formats a size in bytes: "52.4 kB".
#[must_use]
pub fn bytes(size: u64) -> String {
    let mut size = size as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if size < 1000.0 {
            let digits = usize::from(unit != "bytes" && size < 100.0);
            return format!("{size:.digits$} {unit}");
        }
        size /= 1000.0;
    }
    format!("{size:.1} TB")
}

/// Formats a time as the history and the records have it: RFC 3339, UTC, whole seconds.
#[must_use]
pub fn timestamp(moment: SystemTime) -> String {
    humantime::format_rfc3339_seconds(moment).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn names_that_are_not_utf8_are_printable() {
        assert_eq!(printable(OsStr::from_bytes(b"caf\xe9/\x1b[0m")), "caf\\xe9/\\u{1b}[0m");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(
            [0, 999, 1000, 52_400, 123_456, 2_000_000].map(bytes).join(", "),
            "0 bytes, 999 bytes, 1.0 kB, 52.4 kB, 123 kB, 2.0 MB"
        );
    }

    #[test]
    fn counts_and_times_are_readable() {
        assert_eq!((count(1, "file"), count(0, "file")), ("1 file".into(), "0 files".into()));
        assert_eq!(seconds(Duration::from_millis(40)), "0.04 s");
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
