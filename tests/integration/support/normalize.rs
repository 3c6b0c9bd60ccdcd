//! Replaces what differs from run to run, so that wording can be compared to the letter.

/// Release names become `<release>`, moments and durations `<time>`, the first digits of a commit
/// `<commit>`, process numbers `<pid>`.
pub fn normalize(line: &str) -> String {
    let mut rest = line;
    let mut normal = String::new();
    'next: while let Some(first) = rest.chars().next() {
        // Only whole words: a digit inside one is no beginning.
        if !normal.ends_with(|before: char| before.is_ascii_alphanumeric()) {
            for (pattern, name) in [
                ("dddddddd'T'dddddd'Z'-hhhhhhhhhhhh", "<release>"),
                ("dddd-dd-dd'T'dd:dd:dd'Z'", "<time>"),
                ("hhhhhhhhhhhh", "<commit>"),
            ] {
                if let Some(after) = strip(pattern, rest) {
                    let sequence = after.strip_prefix('-').map_or(0, |digits| 1 + digit_count(digits));
                    rest = if name == "<release>" && sequence > 1 { &after[sequence..] } else { after };
                    if name == "<commit>" {
                        rest = rest.trim_start_matches(|character: char| character.is_ascii_hexdigit());
                    }
                    normal.push_str(name);
                    continue 'next;
                }
            }
            if let Some(after) = strip_seconds(rest) {
                normal.push_str("<time>");
                rest = after;
                continue;
            }
            if let Some(after) = rest.strip_prefix("process ").filter(|after| digit_count(after) > 0) {
                normal.push_str("process <pid>");
                rest = &after[digit_count(after)..];
                continue;
            }
        }
        normal.push(first);
        rest = &rest[first.len_utf8()..];
    }
    normal
}

/// Strips a pattern of `d` for a digit, `h` for a hexadecimal one, and other characters as they are.
fn strip<'t>(pattern: &str, text: &'t str) -> Option<&'t str> {
    let mut characters = text.chars();
    for wanted in pattern.chars().filter(|&wanted| wanted != '\'') {
        let found = characters.next()?;
        let fits = match wanted {
            'd' => found.is_ascii_digit(),
            'h' => found.is_ascii_digit() || ('a'..='f').contains(&found),
            _ => found == wanted,
        };
        if !fits {
            return None;
        }
    }
    Some(characters.as_str())
}

/// Strips `0.04 s`.
fn strip_seconds(text: &str) -> Option<&str> {
    let whole = digit_count(text);
    let after = strip(".dd s", text.get(whole..)?)?;
    (whole > 0 && !after.starts_with(|character: char| character.is_ascii_alphanumeric())).then_some(after)
}

fn digit_count(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}
