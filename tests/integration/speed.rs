//! `docs/speed.svg`, the picture of the speed in the README: it shows the table that the benchmark printed.
//!
//! The table stands in `docs/reference/benchmarks.md`, where `docs/measure` writes it; `docs/record` draws the picture anew from it.

use std::fmt::Write;
use std::path::PathBuf;

/// A row of the table: a work of the program, and the ratio of its time to another program's.
struct Row {
    work: String,
    against: String,
    ratio: f64,
}

/// The colours, for light pages and for dark ones.
const STYLE: &str = "text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #59636e } \
    .work, .value { font-weight: 600; fill: #1f2328 } .page { fill: #ffffff; stroke: #d1d9e0 } \
    .one { stroke: #59636e; stroke-dasharray: 3 3 } .less { fill: #2da44e } .more { fill: #9a6700 } \
    @media (prefers-color-scheme: dark) { text { fill: #9198a1 } .work, .value { fill: #f0f6fc } \
    .page { fill: #0d1117; stroke: #3d444d } .one { stroke: #9198a1 } .less { fill: #3fb950 } .more { fill: #d29922 } }";

fn docs(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "docs", name].iter().collect()
}

/// The rows of the first table that have a bar to hold, in their order.
fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(docs("reference/benchmarks.md")).unwrap();
    let table = text
        .split("| work | against |")
        .nth(1)
        .expect("docs/reference/benchmarks.md has the table of the benchmark");
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines
        .filter(|line| !line.contains("| none |"))
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

/// Draws a bar for each row, under a heading for each work; the other program's is the line at 1.
fn draw(rows: &[Row]) -> String {
    const LABELS: usize = 300;
    const ONE: usize = 300;
    const ROW: usize = 18;
    const HEADING: usize = 28;
    let works: Vec<&[Row]> = rows.chunk_by(|a, b| a.work == b.work).collect();
    let (width, height) = (LABELS + ONE + 180, works.len() * HEADING + rows.len() * ROW + 66);
    let (bottom, one) = (height - 14, LABELS + ONE);
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>Time that bluegreen takes; that of the other program is 1</title>\n\
         <style>{STYLE}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" class=\"page\"/>\n\
         <text x=\"16\" y=\"26\">the time of bluegreen: shorter is better</text>\n\
         <text x=\"{one}\" y=\"26\" text-anchor=\"middle\">the other program = 1.00</text>\n\
         <line x1=\"{one}\" y1=\"36\" x2=\"{one}\" y2=\"{bottom}\" class=\"one\"/>\n"
    );
    let mut y = 36;
    for work in works {
        y += HEADING;
        writeln!(svg, "<text x=\"16\" y=\"{}\" class=\"work\">{}</text>", y - 6, escape(&work[0].work))
            .unwrap();
        for row in work {
            // Whole percents, so that a bar is a whole number of pixels.
            let percent = format!("{:.0}", row.ratio * 100.0).parse::<usize>().unwrap();
            let bar = (percent * ONE / 100).clamp(2, ONE + 130);
            let class = if row.ratio < 1.0 { "less" } else { "more" };
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
                 <rect x=\"{LABELS}\" y=\"{y}\" width=\"{bar}\" height=\"{}\" rx=\"2\" class=\"{class}\"/>\n\
                 <text x=\"{}\" y=\"{}\" class=\"value\">{:.2}</text>",
                LABELS - 10,
                y + 11,
                escape(&row.against),
                ROW - 4,
                LABELS + bar + 6,
                y + 11,
                row.ratio
            )
            .unwrap();
            y += ROW;
        }
    }
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
    assert!(
        shown == drawn,
        "docs/speed.svg does not show the table of docs/reference/benchmarks.md: run docs/record"
    );
}
