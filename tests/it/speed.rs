//! `docs/speed.svg`, the picture of the speed in the README: it shows the table that the benchmark printed.
//!
//! The table stands in `docs/speed.md`; `docs/record` draws the picture anew from it.

use std::fmt::Write;
use std::path::PathBuf;

/// A row of the table: a work of the program, and the ratio of its time to another program's.
struct Row {
    work: String,
    against: String,
    ratio: f64,
}

fn docs(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "docs", name].iter().collect()
}

/// The rows of the first table, in their order.
fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(docs("speed.md")).unwrap();
    let table =
        text.split("| work | against |").nth(1).expect("docs/speed.md has the table of the benchmark");
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            // A pipe in a cell is written as `\|`.
            let line = line.replace("\\|", "\u{1}");
            let cells: Vec<String> =
                line.split('|').map(|cell| cell.trim().replace('\u{1}', "|").replace('`', "")).collect();
            let ratio = cells[4].trim_matches('*').parse().unwrap_or_else(|_| panic!("no ratio: {line}"));
            Row { work: cells[1].clone(), against: cells[2].clone(), ratio }
        })
        .collect()
}

/// Draws a bar for each row; the other program's is the line at 1.
fn draw(rows: &[Row]) -> String {
    const LABELS: usize = 470;
    const ONE: usize = 300;
    const ROW: usize = 34;
    let (width, height) = (LABELS + ONE + 130, rows.len() * ROW + 70);
    let bottom = height - 20;
    let one = LABELS + ONE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>Time and memory of bluegreen; those of the other program are 1</title>\n\
         <style>text {{ font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }} \
         .against {{ fill: #656d76 }} .value {{ font-weight: 600 }}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\" stroke=\"#d0d7de\"/>\n\
         <text x=\"{LABELS}\" y=\"28\" class=\"against\">bluegreen, where the other program takes 1: shorter is better</text>\n"
    );
    for (at, row) in rows.iter().enumerate() {
        let y = at * ROW + 44;
        // Whole percents, so that a bar is a whole number of pixels.
        let percent = format!("{:.0}", row.ratio * 100.0).parse::<usize>().unwrap();
        let bar = (percent * ONE / 100).clamp(2, 410);
        let color = if row.ratio < 1.0 { "#2da44e" } else { "#9a6700" };
        let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{} <tspan class=\"against\">/ {}</tspan></text>\n\
             <rect x=\"{LABELS}\" y=\"{}\" width=\"{bar}\" height=\"20\" rx=\"3\" fill=\"{color}\"/>\n\
             <text x=\"{}\" y=\"{}\" class=\"value\">{:.2}</text>",
            LABELS - 12,
            y + 15,
            escape(&row.work),
            escape(&row.against),
            y,
            LABELS + bar + 8,
            y + 15,
            row.ratio
        )
        .unwrap();
    }
    writeln!(svg, "<line x1=\"{one}\" y1=\"36\" x2=\"{one}\" y2=\"{bottom}\" stroke=\"#656d76\" stroke-dasharray=\"3 3\"/>").unwrap();
    svg + "</svg>\n"
}

#[test]
fn the_picture_shows_the_table_of_the_benchmark() {
    let rows = rows();
    assert!(rows.len() >= 8, "{} rows", rows.len());
    let drawn = draw(&rows);
    if std::env::var_os("BLUEGREEN_RECORD").is_some() {
        std::fs::write(docs("speed.svg"), &drawn).unwrap();
    }
    let shown = std::fs::read_to_string(docs("speed.svg")).unwrap_or_default();
    assert!(shown == drawn, "docs/speed.svg does not show the table of docs/speed.md: run docs/record");
}
