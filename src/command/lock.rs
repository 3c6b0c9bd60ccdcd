//! `lock` and `unlock`: an operator locks a server, or from a clone all servers of a side.

use std::time::{Duration, SystemTime};

use super::promote::ssh_client;
use crate::cli::SideArgs;
use crate::error::{Error, Result};
use bluegreen_client as client;
use bluegreen_client::config::servers_of;
use bluegreen_client::lock::Change;
use bluegreen_client::remote::Remote;
use bluegreen_process::signals::Stop;
use bluegreen_protocol::MAX_SUBJECT_CHARS;
use bluegreen_report::Report;
use bluegreen_text::count;

/// The arguments of `lock`.
#[derive(Debug)]
pub struct LockIntent {
    /// The reason.
    pub reason: String,
    /// The end.
    pub until: Option<SystemTime>,
    /// True if it replaces another lock.
    pub replace: bool,
}

impl LockIntent {
    /// Validates the arguments. The reason may consist of several words, because ssh does not preserve quotes.
    pub fn parse(words: &[String], until: Option<&str>, replace: bool) -> Result<Self> {
        let reason = words.join(" ").trim().to_owned();
        if reason.is_empty()
            || reason.contains(char::is_control)
            || reason.chars().count() > MAX_SUBJECT_CHARS
        {
            return Err(Error::Usage(format!(
                "invalid reason, expected one line of at most {MAX_SUBJECT_CHARS} characters"
            )));
        }
        let until = until.map(|text| parse_end(text, SystemTime::now())).transpose()?;
        Ok(Self { reason, until, replace })
    }
}

/// Locks every server of a side, until the same time.
pub fn lock_side(side: &str, options: &SideArgs, intent: &LockIntent, report: &Report) -> Result<()> {
    let LockIntent { reason, until, replace } = intent;
    on_side(side, options, Change::Lock { reason, until: *until, replace: *replace }, report)
}

/// Unlocks every server of a side.
pub fn unlock_side(side: &str, options: &SideArgs, report: &Report) -> Result<()> {
    on_side(side, options, Change::Unlock, report)
}

/// Changes the lock of every server of a side, and prints the output of each server.
fn on_side(side: &str, options: &SideArgs, change: Change, report: &Report) -> Result<()> {
    let (client, stop) = (ssh_client(), Stop::catch(false));
    let servers = servers_of(side, options.config.as_deref())?;
    let servers =
        servers.iter().map(|spec| Remote::to_push_to(spec, &client)).collect::<client::Result<Vec<_>>>()?;
    let mut failed = 0;
    for (server, result) in servers.iter().zip(change.apply(&servers, &stop)) {
        match result {
            Ok(printed) => {
                let lines = printed.lines().filter(|line| !line.is_empty());
                lines.for_each(|line| report.line(format_args!("{}: {line}", server.host())));
            }
            Err(client::Error::Cancelled) => return Err(client::Error::Cancelled.into()),
            Err(error) => {
                failed += 1;
                report.error(&error);
            }
        }
    }
    if failed > 0 {
        let problem = format!(
            "cannot {} {failed} of {} of {side}",
            change.command(),
            count(servers.len() as u64, "server")
        );
        return Err(change.failed(problem, side).into());
    }
    Ok(())
}

/// Parses the end of a lock: a duration from now, or a time with its zone.
fn parse_end(text: &str, now: SystemTime) -> Result<SystemTime> {
    let invalid = |problem: &str| Error::Usage(format!("invalid time `{}`: {problem}", text.escape_debug()));
    let end = match humantime::parse_duration(text) {
        Ok(duration) => now.checked_add(duration),
        Err(_) => parse_time(text),
    };
    let end = end.ok_or_else(|| {
        invalid("expected a duration like \"2h\", or a time with its zone like \"2026-12-01T08:00:00Z\"")
    })?;
    // A shorter lock would expire before it is written.
    if end < now + Duration::from_secs(1) {
        return Err(invalid("it is in the past"));
    }
    Ok(end)
}

/// Parses RFC 3339 with `Z` or an offset like `+01:00`.
fn parse_time(text: &str) -> Option<SystemTime> {
    let upper = text.to_ascii_uppercase();
    if upper.ends_with('Z') {
        return humantime::parse_rfc3339(&upper).ok();
    }
    let (time, offset) = upper.split_at_checked(upper.len().checked_sub(6)?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let number = |digits: &str| {
        let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = (number(hours).filter(|hours| *hours < 24)?, number(minutes).filter(|m| *m < 60)?);
    let offset_time = Duration::from_secs(hours * 3600 + minutes * 60);
    let local = humantime::parse_rfc3339(&format!("{time}Z")).ok()?;
    match offset.as_bytes()[0] {
        b'+' => local.checked_sub(offset_time),
        b'-' => local.checked_add(offset_time),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bluegreen_text::timestamp;

    #[test]
    fn an_end_is_a_duration_or_a_time_with_its_zone() {
        let now = humantime::parse_rfc3339("2026-11-30T08:00:00Z").unwrap();
        let end = |text: &str| parse_end(text, now).map(timestamp).unwrap_or_default();
        for (text, expected) in [
            ("2h", "2026-11-30T10:00:00Z"),
            ("1h 30m", "2026-11-30T09:30:00Z"),
            ("2026-12-01T08:00:00Z", "2026-12-01T08:00:00Z"),
            ("2026-12-01t08:00:00z", "2026-12-01T08:00:00Z"),
            ("2026-12-01T08:00:00+01:00", "2026-12-01T07:00:00Z"),
            ("2026-12-01T08:00:00-05:30", "2026-12-01T13:30:00Z"),
            // In the past, without a zone, or not a time.
            ("2026-11-30T08:00:00Z", ""),
            ("2026-11-30T08:30:00+01:00", ""),
            ("0s", ""),
            ("2026-12-01T08:00:00", ""),
            ("2026-12-01 08:00", ""),
            ("2026-12-01T08:00:00+99:00", ""),
            ("2026-12-01T08:00:00+1:000", ""),
            ("2026-12-01T08:00:00\u{e9}01:00", ""),
            ("tomorrow", ""),
            ("", ""),
            ("99999999999999999999y", ""),
        ] {
            assert_eq!(end(text), expected, "{text}");
        }
    }

    #[test]
    fn a_reason_is_one_line() {
        let reason = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            LockIntent::parse(&words, None, false).map(|intent| intent.reason).ok()
        };
        assert_eq!(reason(&["Black", "Friday"]).as_deref(), Some("Black Friday"));
        let long = "x".repeat(MAX_SUBJECT_CHARS + 1);
        for wrong in [&[""][..], &[" ", " "], &["a\nb"], &["\x1b[2J"], &[&long]] {
            assert_eq!(reason(wrong), None, "{wrong:?}");
        }
    }
}
