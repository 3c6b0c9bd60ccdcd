//! `public --watch`: refreshes the table of both sides on the terminal until Ctrl-C.

use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, Timespec, poll};
use rustix::termios::tcgetwinsize;

use super::overview_table::{HEADING, cells, interrupted_canary, lock_lines};
use super::table::{clipped, rows_text};
use crate::error::{Error, Result};
use bluegreen_client as client;
use bluegreen_client::overview::{Overview, Row};
use bluegreen_client::plan::{Topology, named};
use bluegreen_process::signals::Stop;
use bluegreen_report::Report;
use bluegreen_text::explain::Explain;
use bluegreen_text::{escape_controls, timestamp};

/// The size of a terminal that does not report one: columns and lines.
const SIZE: (usize, usize) = (80, 24);

/// The lines above and below the table: the heading, an empty line, and the cursor's.
const AROUND: usize = 3;

/// Refreshes the table until Ctrl-C. A failure is shown, and the next refresh tries again.
pub fn run(topology: &Topology, pause: Duration, stop: &Stop) -> Result<()> {
    if !stdout().is_terminal() {
        return Err(Error::Usage(
            "`--watch` needs a terminal: use `bluegreen public --json` in a script".into(),
        ));
    }
    let mut clear = "\x1b[2J";
    loop {
        let (columns, lines) = size();
        let Some(frame) = frame(topology, pause, (columns, lines), stop)? else { return end() };
        let frame = frame[..frame.len().min(lines.saturating_sub(1))].join("\x1b[K\n");
        if write!(stdout(), "{clear}\x1b[H{frame}\x1b[K\n\x1b[J").and_then(|()| stdout().flush()).is_err() {
            // The terminal was closed.
            return Ok(());
        }
        clear = "";
        if wait(pause, stop) {
            return end();
        }
    }
}

/// Leaves the last table on the terminal.
fn end() -> Result<()> {
    writeln!(stdout()).map_err(|error| Error::io("write", "standard output")(error))
}

/// Returns the size of the terminal.
fn size() -> (usize, usize) {
    let size = tcgetwinsize(stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or(SIZE, |size| (size.ws_col.into(), size.ws_row.into()))
}

/// Returns the lines of one refresh; `None` after Ctrl-C.
fn frame(
    topology: &Topology,
    pause: Duration,
    (columns, lines): (usize, usize),
    stop: &Stop,
) -> Result<Option<Vec<String>>> {
    let overview = Overview::read(topology, stop, &Report::quiet()?);
    let time = timestamp(SystemTime::now());
    let pause = humantime::format_duration(pause);
    let text = |line: String| clipped(&escape_controls(&line), columns);
    let overview = match overview {
        Ok(overview) => overview,
        Err(client::Error::Cancelled) => return Ok(None),
        Err(error) => {
            let hint = error.hint().map(|hint| format!("hint: {hint}"));
            let lines = [Some(format!("{time}, every {pause}, Ctrl-C to end")), Some(String::new())];
            let lines = lines.into_iter().chain([Some(format!("error: {error}")), hint]);
            return Ok(Some(lines.flatten().map(text).collect()));
        }
    };
    let notes: Vec<String> = notes(topology, &overview).into_iter().map(text).collect();
    let (rows, hidden) = fit(overview.rows, lines.saturating_sub(AROUND + notes.len()));
    let public = named(overview.public.as_deref());
    let heading = text(format!("{public} is public. {time}, every {pause}, Ctrl-C to end"));
    let rows: Vec<_> = std::iter::once(HEADING.map(String::from)).chain(rows.iter().map(cells)).collect();
    let table = rows_text(&rows, Some(columns));
    let more = (hidden > 0).then(|| text(format!("and {hidden} more: enlarge the terminal to see them")));
    let table = table.lines().map(str::to_owned).chain(more);
    Ok(Some([heading, String::new()].into_iter().chain(table).chain(notes).collect()))
}

/// Returns what the table does not show, a line for each.
fn notes(topology: &Topology, overview: &Overview) -> Vec<String> {
    let mut notes = lock_lines(&overview.states);
    notes.extend(interrupted_canary(overview).into_iter().flat_map(|(line, hint)| [line, hint]));
    let pending = overview.states.iter().flat_map(|server| {
        server
            .status
            .pending
            .iter()
            .map(move |pending| format!("{}: {}", server.status.server, pending.message))
    });
    notes.extend(pending);
    let differing = topology.sides.keys().filter(|side| overview.differs(side));
    notes.extend(differing.map(|side| format!("the servers of {side} serve different commits")));
    notes
}

/// Returns the rows that fit into a number of lines, heading included, and how many do not. If not all fit, those with
/// problems come first.
fn fit(mut rows: Vec<Row>, lines: usize) -> (Vec<Row>, usize) {
    let lines = lines.saturating_sub(1).max(1);
    if rows.len() <= lines {
        return (rows, 0);
    }
    let is_well = |row: &Row| {
        let is_good = |status: &bluegreen_protocol::status::Status| status.good && status.lock.is_none();
        row.healthy && row.status.as_ref().is_some_and(is_good)
    };
    rows.sort_by_key(is_well);
    let shown = lines.saturating_sub(1).max(1);
    let hidden = rows.len() - shown;
    rows.truncate(shown);
    (rows, hidden)
}

/// Waits until the next refresh; returns whether Ctrl-C came before.
fn wait(pause: Duration, stop: &Stop) -> bool {
    let timeout = Timespec { tv_sec: pause.as_secs().cast_signed(), tv_nsec: 0 };
    let mut signals: Vec<PollFd> = stop.wanted().collect();
    // Another signal, such as that of a resized terminal, refreshes at once.
    let _ = poll(&mut signals, Some(&timeout));
    stop.check().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(url: &str, healthy: bool) -> Row {
        let text = |text: &str| text.to_owned();
        Row {
            side: text("blue"),
            url: text(url),
            is_public: true,
            weight: 100,
            is_reachable: true,
            healthy,
            health: text("well"),
            status: serde_json::from_str("{\"server\":\"x\",\"good\":true}").ok(),
        }
    }

    #[test]
    fn rows_with_problems_come_first_if_not_all_fit() {
        let rows = || (0..50).map(|at| row(&at.to_string(), at != 40)).collect::<Vec<_>>();
        let urls = |lines| {
            let (rows, hidden) = fit(rows(), lines);
            (rows.iter().map(|row| row.url.clone()).collect::<Vec<_>>(), hidden)
        };
        let (all, hidden) = urls(51);
        assert_eq!((all.len(), all[0].as_str(), hidden), (50, "0", 0));
        let (some, hidden) = urls(6);
        assert_eq!((some, hidden), (["40", "0", "1", "2"].map(String::from).to_vec(), 46));
        assert_eq!(urls(0).1, 49);
    }
}
