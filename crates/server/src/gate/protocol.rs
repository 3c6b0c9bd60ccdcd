//! The protocol between `git receive-pack` and its `proc-receive` hook, in pkt-lines. No function performs I/O other than on
//! its arguments.
//!
//! This is version 1 of githooks(5). The hook moves the refs in the request. For a ref that does not deploy, it responds
//! `fall-through`, and receive-pack moves the ref.

use std::io::{self, ErrorKind, Read, Write};

use crate::error::{Error, Result};
use bluegreen_git::push::RefUpdate;

/// The maximum length of a pkt-line's payload, in bytes.
const MAX_PAYLOAD: usize = 65516;

/// The maximum length of the reason for a refusal, in characters.
const MAX_REASON_CHARS: usize = 400;

/// A request from receive-pack.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The updates of refs that match `receive.procReceiveRefs`.
    pub updates: Vec<RefUpdate>,
    pub options: Vec<Vec<u8>>,
    /// True if the push is atomic: either all its refs move or none, including those that the hook does not see.
    pub is_atomic: bool,
}

/// The status of one ref in the report.
#[derive(Debug, PartialEq, Eq)]
pub enum RefStatus {
    /// The hook has moved it.
    Updated,
    /// receive-pack must move it.
    FallThrough,
    /// It does not move, for this reason.
    Rejected(String),
}

/// Negotiates the version, and reads the request.
pub fn read_request(input: &mut impl Read, output: &mut impl Write) -> Result<Request> {
    let failed = Error::Protocol;
    converse(input, output).map_err(failed)
}

fn converse(input: &mut impl Read, output: &mut impl Write) -> io::Result<Request> {
    let greeting = read_section(input)?;
    let greeting = greeting.first().map(Vec::as_slice).unwrap_or_default();
    let mut parts = greeting.splitn(2, |&byte| byte == 0);
    let (version, features) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if version != b"version=1" {
        return Err(broken("this is not version 1 of the protocol"));
    }
    let has = |feature: &[u8]| features.split(|&byte| byte == b' ').any(|word| word == feature);
    let has_options = has(b"push-options");
    write_packet(output, if has_options { b"version=1\0push-options" } else { b"version=1" })?;
    write_flush(output)?;
    let updates = read_section(input)?
        .iter()
        .map(|line| RefUpdate::parse(line).map_err(|error| broken(&error.to_string())))
        .collect::<io::Result<_>>()?;
    let options = if has_options { read_section(input)? } else { Vec::new() };
    Ok(Request { updates, options, is_atomic: has(b"atomic") })
}

/// Writes the status of each ref.
pub fn write_report(output: &mut impl Write, statuses: &[(&[u8], RefStatus)]) -> io::Result<()> {
    for (name, status) in statuses {
        match status {
            RefStatus::Updated => write_packet(output, &[b"ok ", *name].concat())?,
            RefStatus::FallThrough => {
                write_packet(output, &[b"ok ", *name].concat())?;
                write_packet(output, b"option fall-through")?;
            }
            RefStatus::Rejected(reason) => {
                let mut line = [b"ng ", *name, b" ", one_line(reason).as_bytes()].concat();
                // A long ref name leaves little room for the reason.
                line.truncate(MAX_PAYLOAD);
                write_packet(output, &line)?;
            }
        }
    }
    write_flush(output)
}

/// Formats a reason as git prints it in parentheses: one line, without backticks.
fn one_line(reason: &str) -> String {
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    reason.chars().filter(|&character| character != '`').map(plain).take(MAX_REASON_CHARS).collect()
}

/// Reads pkt-lines up to a flush packet, without their line terminators.
fn read_section(input: &mut impl Read) -> io::Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    loop {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        // `from_str_radix` accepts a sign, which a length must not have.
        let is_hex = length.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(&length).ok().filter(|_| is_hex);
        let length = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let payload = match length.ok_or_else(|| broken("a pkt-line has no length"))? {
            0 => return Ok(lines),
            length @ 4.. if length - 4 <= MAX_PAYLOAD => length - 4,
            _ => return Err(broken("a pkt-line has a bad length")),
        };
        let mut line = vec![0; payload];
        input.read_exact(&mut line)?;
        if line.ends_with(b"\n") {
            line.pop();
        }
        lines.push(line);
    }
}

fn write_packet(output: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    output.write_all(format!("{:04x}", payload.len() + 4).as_bytes())?;
    output.write_all(payload)
}

fn write_flush(output: &mut impl Write) -> io::Result<()> {
    output.write_all(b"0000")?;
    output.flush()
}

fn broken(problem: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1111111111111111111111111111111111111111";

    fn packets(lines: &[&[u8]]) -> Vec<u8> {
        let mut data = Vec::new();
        for line in lines {
            if line.is_empty() { write_flush(&mut data) } else { write_packet(&mut data, line) }.unwrap();
        }
        data
    }

    #[test]
    fn a_request_is_read_and_the_features_are_agreed_on() {
        let line = format!("{ID} {ID} refs/heads/master\n");
        let input =
            packets(&[b"version=1\0push-options atomic\n", b"", line.as_bytes(), b"", b"skip", b"x y", b""]);
        let mut said = Vec::new();
        let request = read_request(&mut input.as_slice(), &mut said).unwrap();
        assert_eq!(said, b"001aversion=1\0push-options0000");
        assert!(request.is_atomic && request.updates[0].is_branch("master"));
        assert_eq!(request.options, [b"skip".to_vec(), b"x y".to_vec()]);

        let input = packets(&[b"version=1\n", b"", line.as_bytes(), b""]);
        let mut said = Vec::new();
        let request = read_request(&mut input.as_slice(), &mut said).unwrap();
        assert_eq!(said, b"000dversion=10000");
        assert!(!request.is_atomic && request.options.is_empty() && request.updates.len() == 1);
    }

    #[test]
    fn anything_else_is_refused() {
        let long = packets(&[b"version=1", b"", b"garbage", b""]);
        for input in [
            &b""[..],
            b"0000",
            b"000dversion=2",
            b"zzzz",
            b"0003",
            b"fff9",
            b"000dversion=10000",
            &long,
            b"+00dversion=100000000",
        ] {
            let error = read_request(&mut &*input, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with("unexpected request of `git receive-pack`: "), "{error}");
        }
    }

    #[test]
    fn each_status_is_one_line() {
        let mut report = Vec::new();
        let statuses: [(&[u8], RefStatus); 3] = [
            (b"refs/heads/a", RefStatus::Updated),
            (b"refs/heads/b", RefStatus::FallThrough),
            (b"refs/heads/c", RefStatus::Rejected("step `x\ny` failed".into())),
        ];
        write_report(&mut report, &statuses).unwrap();
        assert_eq!(
            String::from_utf8(report).unwrap(),
            "0013ok refs/heads/a0013ok refs/heads/b0017option fall-through0023ng refs/heads/c step x y failed0000"
        );
    }
}
