//! Tables for people and JSON for programs, printed on standard output.

use std::fmt::Write as _;
use std::io::{Write, stdout};

use anstyle::{AnsiColor, Style};
use bluegreen_text::{escape_controls, is_unsafe};
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::error::{Error, Result};

/// The maximum width of a column outside of a terminal, where nothing wraps. A column is narrower on a terminal.
const MAX_COLUMN: usize = 500;

/// The minimum width to which a column is shrunk.
const MIN_COLUMN: usize = 8;

const GAP: &str = "  ";

const HEADING: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// The headings of columns whose cells are colored by their contents.
const COLORED: [&str; 4] = ["STATE", "OUTCOME", "RESULT", "HEALTH"];

/// Prints a table; the first row is the heading. On a terminal, the widest columns are shrunk until a row fits the width.
pub fn print_rows<const N: usize>(rows: &[[String; N]]) -> Result<()> {
    let columns =
        tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0);
    print_text(&rows_text(rows, columns))
}

/// Formats columns for standard output, at most `columns` wide.
pub(super) fn rows_text<const N: usize>(rows: &[[String; N]], columns: Option<usize>) -> String {
    let is_colored = anstream::AutoStream::choice(&stdout()) != anstream::ColorChoice::Never;
    table(rows, columns, is_colored)
}

fn table<const N: usize>(rows: &[[String; N]], columns: Option<usize>, is_colored: bool) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| std::array::from_fn(|column| escape_controls(&row[column]))).collect();
    let widest = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
    let mut widths: [usize; N] = std::array::from_fn(|column| widest(column).min(MAX_COLUMN));
    if let Some(columns) = columns {
        fit(&mut widths, columns.saturating_sub(GAP.len() * N.saturating_sub(1)));
    }
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for ((cell, width), heading) in row.iter().zip(widths).zip(&rows[0]) {
            let cell = clipped(cell, width);
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            match style(number == 0, heading, &cell).filter(|_| is_colored) {
                Some(style) => drop(write!(line, "{style}{cell}{style:#}{padding}{GAP}")),
                None => drop(write!(line, "{cell}{padding}{GAP}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// Shrinks the widest columns until all of them together are at most `room` wide.
fn fit(widths: &mut [usize], room: usize) {
    while widths.iter().sum::<usize>() > room {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > MIN_COLUMN) else { return };
        *widest -= 1;
    }
}

/// Truncates a cell to a number of terminal columns; a longer one ends with `...`.
pub(super) fn clipped(cell: &str, width: usize) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    let (mut clipped, mut left) = (String::new(), width.saturating_sub(3));
    for character in cell.chars() {
        match left.checked_sub(character.width().unwrap_or(0)) {
            Some(rest) => left = rest,
            None => break,
        }
        clipped.push(character);
    }
    clipped + "..."
}

fn style(is_heading: bool, heading: &str, cell: &str) -> Option<Style> {
    match cell {
        _ if is_heading => Some(HEADING),
        _ if !COLORED.contains(&heading) => None,
        "live" | "well" => Some(GOOD),
        _ if ["failed", "bad", "marked bad", "live, but"].iter().any(|bad| cell.starts_with(bad)) => {
            Some(BAD)
        }
        _ => None,
    }
}

/// Prints a value as JSON. Control characters are escaped, as in `\u009b`, which does not change the value.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value);
    print_text(&ascii_controls(&text.map_err(|error| Error::io("write", "standard output")(error.into()))?))
}

/// Escapes the characters that `serde_json` does not: DEL, C1 controls, and characters that reorder text. They only occur in
/// strings.
fn ascii_controls(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        if is_unsafe(character) && character != '\n' {
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Prints text and a newline. A closed pipe, as with `head`, is not an error.
pub fn print_text(text: &str) -> Result<()> {
    match writeln!(stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output")(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: [&str; 4]) -> Vec<[String; 2]> {
        vec![[cells[0].into(), cells[1].into()], [cells[2].into(), cells[3].into()]]
    }

    #[test]
    fn cells_of_any_length_are_printed() {
        let long = "x".repeat(200_000);
        let text = table(&rows(["A", "OUTCOME", &long, &long]), None, false);
        assert_eq!(text.lines().map(str::len).max(), Some(2 * MAX_COLUMN + GAP.len()));
        for columns in [0, 1, 20, 80, 65_535] {
            assert_eq!(table(&rows(["A", "OUTCOME", &long, &long]), Some(columns), true).lines().count(), 2);
        }
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let subject = "A subject that is much longer than the room that is left for it";
        let text = table(&rows(["RELEASE", "SUBJECT", "20261122T201500Z", subject]), Some(50), false);
        assert_eq!(text, "RELEASE           SUBJECT\n20261122T201500Z  A subject that is much longer...");
        let wide = table(&rows(["A", "B", "\u{65e5}\u{672c}", "x"]), None, false);
        assert_eq!(wide, "A     B\n\u{65e5}\u{672c}  x");
    }

    #[test]
    fn outcomes_have_colors_and_texts_from_others_have_none() {
        let text = table(&rows(["BY", "OUTCOME", "\x1b[31mlive", "live"]), None, true);
        let last = text.lines().last().unwrap();
        assert_eq!(last, "\\u{1b}[31mlive  \x1b[32mlive\x1b[0m");
        assert!(!table(&rows(["BY", "OUTCOME", "a", "live"]), None, false).contains('\x1b'));
    }

    #[test]
    fn json_keeps_its_value_and_has_no_controls() {
        let value = "\u{9b}2J \u{7f} \u{202e}abc \x1b]0;x\x07 \u{e9}";
        let text = ascii_controls(&serde_json::to_string_pretty(&[value]).unwrap());
        assert!(text.chars().all(|character| character == '\n' || !is_unsafe(character)), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [value]);
    }
}
