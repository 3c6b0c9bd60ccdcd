//! Text for people: names, sizes, counts, times, and errors with hints.

pub mod explain;

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
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

/// Formats a path as one word of a shell command that is printed for people. It is quoted if necessary; bytes that are not
/// printable become `$'\xff'`, which bash and zsh decode.
pub fn shell_word(name: &(impl AsRef<Path> + ?Sized)) -> String {
    let bytes = name.as_ref().as_os_str().as_bytes();
    let text = printable(name);
    if text.as_bytes() == bytes
        && let Ok(quoted) = shlex::try_quote(&text)
    {
        return quoted.into_owned();
    }
    let mut quoted = String::from("$'");
    for &byte in bytes {
        if byte == b' ' || byte.is_ascii_graphic() && !matches!(byte, b'\'' | b'\\') {
            quoted.push(byte.into());
        } else {
            let _ = write!(quoted, "\\x{byte:02x}");
        }
    }
    quoted + "'"
}

/// Escapes control characters and characters that reorder text, as `\n`, `\u{1b}`, or `\u{202e}`, so that text
/// from others can neither control a terminal nor display in another order than it is stored.
#[must_use]
pub fn escape_controls(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if is_unsafe(character) && character != '\t' {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Returns whether a character can change how a terminal displays the text around it: C0 and C1 controls, DEL,
/// line and paragraph separators, and Unicode's bidirectional formatting characters.
#[must_use]
pub fn is_unsafe(character: char) -> bool {
    let is_bidirectional = matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || is_bidirectional || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Removes the colors of a program's output: SGR sequences, `ESC [ 1 ; 31 m`. All other escape sequences stay,
/// for [`escape_controls`].
#[must_use]
pub fn without_colors(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut kept = Cow::Borrowed(bytes);
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == 0x1b) {
        let (before, sequence) = rest.split_at(at);
        let length = color_length(sequence);
        if length.is_some() && matches!(kept, Cow::Borrowed(_)) {
            kept = Cow::Owned(bytes[..bytes.len() - rest.len()].to_vec());
        }
        let after = &sequence[length.unwrap_or(1)..];
        if let Cow::Owned(kept) = &mut kept {
            kept.extend_from_slice(if length.is_some() { before } else { &rest[..=at] });
        }
        rest = after;
    }
    if let Cow::Owned(kept) = &mut kept {
        kept.extend_from_slice(rest);
    }
    kept
}

/// The length of the SGR sequence that bytes begin with.
fn color_length(bytes: &[u8]) -> Option<usize> {
    let parameters = bytes.strip_prefix(b"\x1b[")?;
    let length = parameters.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).count();
    (parameters.get(length) == Some(&b'm')).then_some(length + 3)
}

/// The maximum length of a message, in characters, that is built from the output of other programs or from a
/// repository's content.
pub const MAX_MESSAGE_CHARS: usize = 1000;

/// The maximum length of a name that comes from outside, in characters: a user, an address, a side.
pub const MAX_NAME_CHARS: usize = 100;

/// Truncates text to a number of characters; a longer one ends with `...`.
#[must_use]
pub fn truncated(text: &str, max_chars: usize) -> Cow<'_, str> {
    if text.len() <= max_chars || text.chars().nth(max_chars).is_none() {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(max_chars.saturating_sub(3)).collect();
    Cow::Owned(kept + "...")
}

/// Truncates the message of an error to [`MAX_MESSAGE_CHARS`].
#[must_use]
pub fn message(error: &impl Display) -> String {
    truncated(&error.to_string(), MAX_MESSAGE_CHARS).into_owned()
}

/// Formats the first ten paths of a list, and how many more there are.
#[must_use]
pub fn listed(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<String> =
        paths.iter().take(SHOWN).map(|path| format!("`{}`", printable(path))).collect();
    if paths.len() > SHOWN {
        names.push(format!("and {} more", paths.len() - SHOWN));
    }
    names.join(", ")
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

/// Formats an age: "3 hours ago". Rounds down to the largest unit; a time in the future is "just now".
#[must_use]
pub fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    let units =
        [(365 * 86_400, "year"), (30 * 86_400, "month"), (86_400, "day"), (3600, "hour"), (60, "minute")];
    match units.iter().find(|(length, _)| seconds >= *length) {
        Some((length, unit)) => format!("{} ago", count(seconds / length, unit)),
        None => "just now".into(),
    }
}

/// Formats the age of an RFC 3339 time; `None` if the time is invalid.
#[must_use]
pub fn age(time: &str) -> Option<String> {
    let time = humantime::parse_rfc3339_weak(time).ok()?;
    Some(ago(SystemTime::now().duration_since(time).unwrap_or_default()))
}

/// The last second that RFC 3339 can express, 9999-12-31T23:59:59Z, since the epoch.
const LAST_SECOND: u64 = 253_402_300_799;

/// Formats a time as the history and the records have it: RFC 3339, UTC, whole seconds. A time before 1970 or after
/// 9999, from a wrong clock, becomes the first or the last second of that period.
#[must_use]
pub fn timestamp(moment: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
    humantime::format_rfc3339_seconds(moment.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
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
    fn a_path_in_a_command_is_one_word_of_the_shell() {
        for name in ["/var/www/html", "/srv/a b", "/srv/it's; rm -rf $HOME", "/srv/\"`x`\"!", "/srv/\\", ""] {
            assert_eq!(shlex::split(&shell_word(name)).unwrap(), [name]);
        }
        assert_eq!(shell_word("/var/www/html"), "/var/www/html");
        assert_eq!(shell_word(OsStr::from_bytes(b"/a b/\xff'\n")), "$'/a b/\\xff\\x27\\x0a'");
    }

    #[test]
    fn text_from_others_is_escaped() {
        assert_eq!(escape_controls("a\tb\x1b[2J\r\x7f"), "a\tb\\u{1b}[2J\\r\\u{7f}");
        assert_eq!(escape_controls("caf\u{e9} \u{9b}2J"), "caf\u{e9} \\u{9b}2J");
        for character in "\u{202a}\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{061c}\u{2028}\u{85}".chars() {
            let escaped = escape_controls(&character.to_string());
            assert_eq!(escaped, format!("\\u{{{:x}}}", u32::from(character)));
        }
        // Joiners are part of words and of emoji.
        assert_eq!(escape_controls("\u{200c}\u{200d}"), "\u{200c}\u{200d}");
    }

    #[test]
    fn colors_are_removed_and_nothing_else() {
        for (bytes, kept) in [
            (&b"plain"[..], &b"plain"[..]),
            (b"\x1b[1;31mred\x1b[0m \x1b[38:5:1mx\x1b[m", b"red x"),
            (b"\x1b[2J\x1b[31mred\x1b]0;title\x07\x1b[3", b"\x1b[2Jred\x1b]0;title\x07\x1b[3"),
            (b"\x1b\x1b[0m\x1b", b"\x1b\x1b"),
        ] {
            assert_eq!(without_colors(bytes), kept, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn long_text_is_truncated_at_a_character() {
        assert_eq!(truncated("abc", 3), "abc");
        assert_eq!(truncated("\u{e9}\u{e9}\u{e9}", 3), "\u{e9}\u{e9}\u{e9}");
        assert_eq!(truncated("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", 4), "\u{e9}...");
        assert_eq!(truncated(&"x".repeat(70_000), MAX_MESSAGE_CHARS).len(), MAX_MESSAGE_CHARS);
    }

    #[test]
    fn ages_have_one_unit() {
        let ages = [0, 59, 60, 7199, 86_400, 40 * 86_400, 800 * 86_400];
        assert_eq!(
            ages.map(|seconds| ago(Duration::from_secs(seconds))).join(", "),
            "just now, just now, 1 minute ago, 1 hour ago, 1 day ago, 1 month ago, 2 years ago"
        );
        assert_eq!(age("2999-01-01T00:00:00Z").as_deref(), Some("just now"));
        assert_eq!(age("soon"), None);
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
        let century = Duration::from_secs(100 * 365 * 86_400);
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH - century), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH + 100 * century), "9999-12-31T23:59:59Z");
    }
}
