//! Parsers of untrusted bytes, as functions that must neither panic nor return invalid results.
//!
//! The targets of cargo-fuzz and the short run of `cargo test --test integration fuzz` both call these.

use bluegreen_checkout::attributes::Context;
use bluegreen_checkout::lfs::Pointer;
use bluegreen_checkout::manifest::Manifest;
use bluegreen_client::probe;
use bluegreen_client::push_output::summarize;
use bluegreen_git::push::RefUpdate;
use bluegreen_protocol::hold::{Reply, Request};
use bluegreen_protocol::status::Status;
use bluegreen_server::config::Config;
use bluegreen_server::gate::protocol::{self, RefStatus};
use bluegreen_server::release::{Record, ReleaseName};

/// Input of the client from a hostile server (states, replies of a hold, HTTP headers, and push output), and
/// input of a hold from a hostile client.
pub fn client(data: &[u8]) {
    if let Ok(status) = serde_json::from_slice::<Status>(data) {
        bounded(&status);
        assert!(serde_json::to_vec(&status).is_ok());
    }
    match Reply::parse(data) {
        Ok(Reply::Held(status) | Reply::Status(status)) => bounded(&status),
        Ok(Reply::Waiting(text) | Reply::Error(text)) => assert!(text.chars().count() <= 1000),
        Ok(Reply::Marked(text)) => assert!(text.chars().count() <= 100),
        Ok(_) | Err(_) => {}
    }
    let text = String::from_utf8_lossy(data);
    match text.parse::<Request>() {
        Ok(request) => {
            let line = request.to_string();
            assert!(!line.contains('\n'));
            assert_eq!(line.parse::<Request>().as_ref(), Ok(&request));
            if let Request::Record(entry) = request {
                assert!(entry.error.as_ref().is_none_or(|error| error.chars().count() <= 1000));
                assert!(
                    !entry
                        .sentence("green")
                        .contains(|character: char| character.is_control() && character != '\t')
                );
            }
        }
        Err(problem) => assert!(problem.chars().count() < 1100),
    }
    let response = probe::parse(&text, true, std::time::Duration::ZERO);
    assert!(response.served_by.is_none_or(|name| name.chars().count() <= 100));
    let (lines, reason) = summarize(data);
    assert!(lines.iter().all(|line| line.len() <= 3 * 4096 && !line.contains(['\n', '\r'])));
    assert!(reason.chars().count() <= 300);
}

fn bounded(status: &Status) {
    let names = [&status.server, &status.branch, &status.site];
    let optional =
        [&status.live, &status.elsewhere, &status.subject, &status.sealed, &status.since, &status.why];
    let lengths = names.into_iter().chain(optional.into_iter().flatten()).map(|text| text.chars().count());
    assert!(lengths.max().unwrap_or(0) <= 1000);
    assert!(status.pending.len() <= 100);
}

/// The standard input of a hook.
pub fn push(data: &[u8]) {
    for update in RefUpdate::parse_all(data).iter().flatten() {
        assert!(update.name.starts_with(b"refs/"));
        assert_eq!(update.is_deletion(), update.new.is_null());
        let line = format!("{} {} {}", update.old, update.new, update.name.escape_ascii());
        if update.name.is_ascii()
            && !update.name.contains(&b'\\')
            && !update.name.contains(&b'"')
            && !update.name.contains(&b'\'')
        {
            assert_eq!(RefUpdate::parse(line.as_bytes()).ok().as_ref(), Some(update));
        }
    }
}

/// The conversation between `git receive-pack` and the gate.
pub fn gate(data: &[u8]) {
    let (mut rest, mut said) = (data, Vec::new());
    let Ok(request) = protocol::read_request(&mut rest, &mut said) else { return };
    let taken = sections(&data[..data.len() - rest.len()]);
    let has_options = sections(&said) == [[b"version=1\0push-options".to_vec()]];
    assert!(has_options || sections(&said) == [[b"version=1".to_vec()]]);
    assert_eq!(taken.len(), if has_options { 3 } else { 2 });
    assert_eq!(taken[1].len(), request.updates.len());
    for (line, update) in taken[1].iter().zip(&request.updates) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        assert_eq!(RefUpdate::parse(line).ok().as_ref(), Some(update));
    }
    if has_options {
        let options: Vec<_> = taken[2].iter().map(|line| line.strip_suffix(b"\n").unwrap_or(line)).collect();
        assert_eq!(options, request.options);
    }

    let reason = String::from_utf8_lossy(data);
    let status = |at: usize| match at % 3 {
        0 => RefStatus::Rejected(reason.clone().into_owned()),
        1 => RefStatus::FallThrough,
        _ => RefStatus::Updated,
    };
    let statuses: Vec<_> =
        request.updates.iter().enumerate().map(|(at, update)| (update.name.as_slice(), status(at))).collect();
    let mut report = Vec::new();
    assert!(protocol::write_report(&mut report, &statuses).is_ok());
    let report = sections(&report);
    assert_eq!(report.len(), 1);
    let mut lines = report[0].iter();
    for (name, status) in &statuses {
        let line = lines.next().map(Vec::as_slice).unwrap_or_default();
        let start = if matches!(status, RefStatus::Rejected(_)) { b"ng " } else { b"ok " };
        assert!(line.strip_prefix(start).is_some_and(|line| line.starts_with(name)));
        assert!(!line[start.len() + name.len()..].contains(&b'\n'));
        if *status == RefStatus::FallThrough {
            assert_eq!(lines.next().map(Vec::as_slice), Some(&b"option fall-through"[..]));
        }
    }
    assert_eq!(lines.next(), None);
}

/// Splits pkt-lines as git's pkt-line.c does, into complete sections that each end with a flush packet.
fn sections(mut data: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut sections = vec![Vec::new()];
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let digit = |byte: &u8| {
            char::from(*byte).to_digit(16).map_or_else(|| panic!("no length"), |digit| digit as usize)
        };
        match length.iter().fold(0, |length, byte| length * 16 + digit(byte)) {
            0 => {
                sections.push(Vec::new());
                data = rest;
            }
            length => {
                assert!((4..=65520).contains(&length) && length - 4 <= rest.len());
                let (line, rest) = rest.split_at(length - 4);
                sections.last_mut().into_iter().for_each(|section| section.push(line.to_vec()));
                data = rest;
            }
        }
    }
    assert!(data.is_empty() && sections.pop().is_some_and(|section| section.is_empty()));
    sections
}

/// `bluegreen.toml`.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text) {
        Ok(config) => assert!(config.site.root.is_absolute() && !config.branch.is_empty()),
        Err((line, message)) => assert!(line <= text.lines().count() + 1 && !message.contains('\n')),
    }
}

/// A release's record and name.
pub fn record(data: &[u8]) {
    if let Some(name) = ReleaseName::from_bytes(data) {
        assert_eq!(name.to_string().as_bytes(), data);
        assert!(!data.contains(&b'/') && !data.starts_with(b"."));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = toml::from_str::<Record>(text);
}

/// A manifest, with every kind of lookup in it.
pub fn manifest(data: &[u8]) {
    let Some(manifest) = Manifest::parse(data) else { return };
    let listing = &manifest.listing;
    for entry in listing.entries.indices() {
        let directory = listing.directory_of(entry);
        let _ = (listing.path(directory, entry), listing.id(entry), listing.is_created(entry));
    }
    for directory in listing.directories.indices() {
        let _ = (
            listing.directory_path(directory),
            listing.directory_id(directory),
            listing.is_submodule(directory),
        );
        let end = listing.entries.next_index();
        assert!(listing.below(directory).end <= end && listing.entries_of(directory).end <= end);
    }
    let mut copy = Vec::new();
    assert!(manifest.write(&mut copy).is_ok() && Manifest::parse(&copy).is_some());
}

/// A `.gitattributes` file and a Git LFS pointer.
pub fn attributes(data: &[u8]) {
    let mut context = Context { crlf: data.len().is_multiple_of(2), ..Context::default() };
    context.learn_macros(data);
    for rule in context.matches(data) {
        let _ = rule.fits(b"name.txt");
    }
    if let Some(pointer) = Pointer::parse(data) {
        assert_eq!(pointer.oid.len(), 64);
        assert!(!pointer.is_in(&["/nowhere".into()]) || pointer.size == 0);
    }
}
