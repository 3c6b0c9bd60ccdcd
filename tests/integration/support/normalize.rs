//! Replaces variable parts of output, so that it can be compared exactly.

use std::sync::LazyLock;

use regex::Regex;

/// Patterns and their placeholders. A release name contains a commit id, so it comes first.
static VARIABLE: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
    [
        (r"\b\d{8}T\d{6}Z-[0-9a-f]{12}(-\d+)?", "<release>"),
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
        (r"\b[0-9a-f]{12,}", "<commit>"),
        (r"\b\d+\.\d\d s\b", "<time>"),
        (r"\bprocess \d+", "process <pid>"),
    ]
    .map(|(pattern, placeholder)| (Regex::new(pattern).unwrap(), placeholder))
});

/// Replaces release names, times, durations, commit ids, and process ids.
pub fn normalize(line: &str) -> String {
    VARIABLE.iter().fold(line.to_owned(), |line, (pattern, placeholder)| {
        pattern.replace_all(&line, *placeholder).into_owned()
    })
}
