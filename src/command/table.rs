//! Tables for people and JSON for programs, printed on standard output.

use std::io::{Write, stdout};

use serde::Serialize;

use crate::error::{Error, Result};

/// Prints columns, each as wide as its widest cell; the first row is the heading.
pub fn print_rows<const N: usize>(rows: &[[String; N]]) -> Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    print_text(&rows.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// Prints a value as JSON.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value);
    print_text(&text.map_err(|error| Error::io("write", "standard output")(error.into()))?)
}

/// Prints text and a line end. A reader that went away, as `head` does, is no failure.
pub fn print_text(text: &str) -> Result<()> {
    match writeln!(stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output")(error))
        }
        _ => Ok(()),
    }
}
