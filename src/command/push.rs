//! `push`: pushes to all servers of a side in parallel.

use std::io::{IsTerminal, stderr};

use bluegreen_text::{count, printable};

use super::promote::ssh_client;
use super::table::{print_json, print_rows};
use crate::cli::{CloneArgs, PushArgs};
use crate::error::Result;
use bluegreen_client as client;
use bluegreen_client::config::servers_of;
use bluegreen_client::folder::Folder;
use bluegreen_client::push::{Outcome, PushIntent, Pushed, Refspecs, push};
use bluegreen_client::push_printer::MAX_STREAMED_SERVERS;
use bluegreen_client::remote::Remote;
use bluegreen_process::signals::Stop;
use bluegreen_report::Report;

/// Pushes to every server of a side, and prints a row for each. The worst result decides the exit status.
pub fn run(arguments: &PushArgs, options: &CloneArgs, report: &Report) -> Result<()> {
    let PushArgs { side, refspecs, from, push_options } = arguments;
    let client = ssh_client();
    let servers = servers_of(side, options.config.as_deref())?;
    let servers =
        servers.iter().map(|spec| Remote::to_push_to(spec, &client)).collect::<client::Result<Vec<_>>>()?;
    let quiet;
    let lines = if options.json {
        quiet = Report::quiet()?;
        &quiet
    } else {
        report
    };
    let stop = Stop::catch(false);
    let refspecs = match from {
        Some(folder) => {
            let stored = Folder::store(folder, &stop)?;
            let (files, folder) = (count(stored.files as u64, "file"), printable(folder));
            lines.line(format_args!("Pushing {files} of `{folder}`..."));
            Refspecs::Each(stored.commit(&servers))
        }
        None => Refspecs::Same(refspecs),
    };
    let intent = PushIntent { refspecs, options: push_options };
    let pushed = push(&servers, &intent, lines, stderr().is_terminal(), &stop);
    lines.end_progress();
    if options.json {
        print_json(&pushed)?;
    } else {
        let rows = table(&pushed);
        if !rows.is_empty() {
            print_rows(&rows)?;
        }
        if pushed.len() > MAX_STREAMED_SERVERS {
            report.line(totals(side, &pushed));
        }
    }
    Ok(require_success(side, &pushed)?)
}

/// Returns the rows of the table: all servers, or if there are many, those with a problem.
fn table(pushed: &[Pushed]) -> Vec<[String; 5]> {
    let heading = ["SERVER", "RESULT", "COMMIT", "TOOK", "PROBLEM"].map(String::from);
    let is_shown = |one: &&Pushed| pushed.len() <= MAX_STREAMED_SERVERS || one.result >= Outcome::Bad;
    let rows: Vec<_> = pushed.iter().filter(is_shown).map(cells).collect();
    if rows.is_empty() { rows } else { std::iter::once(heading).chain(rows).collect() }
}

/// Sums up many servers: "50 servers of blue: 49 live, 1 failed".
fn totals(side: &str, pushed: &[Pushed]) -> String {
    let outcomes = [Outcome::Live, Outcome::Pushed, Outcome::Bad, Outcome::Failed];
    let count_of = |outcome| pushed.iter().filter(|one| one.result == outcome).count();
    let parts = outcomes.iter().map(|outcome| (count_of(*outcome), outcome)).filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, outcome)| format!("{count} {}", outcome.words())).collect();
    format!("{} of {side}: {}", count(pushed.len() as u64, "server"), parts.join(", "))
}

fn cells(pushed: &Pushed) -> [String; 5] {
    [
        pushed.server.clone(),
        pushed.result.words().into(),
        pushed.commit.map_or_else(|| "-".into(), |id| id.short()),
        format!("{:.1} s", pushed.seconds),
        pushed.problem.as_deref().map(bluegreen_text::escape_controls).unwrap_or_default(),
    ]
}

fn require_success(side: &str, pushed: &[Pushed]) -> client::Result<()> {
    let of = |outcome| pushed.iter().filter(move |pushed| pushed.result == outcome).count() as u64;
    let all = count(pushed.len() as u64, "server");
    let error = |problem: String| client::Error::Push { problem, side: side.to_owned() };
    match (of(Outcome::Failed), of(Outcome::Bad)) {
        (0, 0) => Ok(()),
        (0, bad) => Err(client::Error::Afterwards(Box::new(error(format!(
            "{bad} of {all} of {side} failed the verification, and the commit is live there"
        ))))),
        (failed, _) => Err(error(format!("{failed} of {all} of {side} failed"))),
    }
}
