//! `docs/speed.svg`, the chart in the README, shows the durations of the table of servers in
//! `docs/reference/benchmarks.md`. `docs/record` draws it.

use std::fmt::Write;

use crate::support::markdown::{Document, project};

/// A number of servers, and each program's duration from the command to the page.
struct Row {
    servers: String,
    seconds: Vec<(String, f64)>,
}

/// The colors for light and dark pages.
const STYLE: &str = "text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #59636e } \
    .title, .value { font-weight: 600; fill: #1f2328 } .page { fill: #ffffff; stroke: #d1d9e0 } \
    .ours { fill: #2da44e } .theirs { fill: #8c959f } \
    @media (prefers-color-scheme: dark) { text { fill: #9198a1 } .title, .value { fill: #f0f6fc } \
    .page { fill: #0d1117; stroke: #3d444d } .ours { fill: #3fb950 } .theirs { fill: #656c76 } }";

/// Reads the table "From the command to the page".
fn rows() -> Vec<Row> {
    let document = Document::read("docs/reference/benchmarks.md");
    let start = document.rows.iter().position(|row| row[0] == "servers" && row[1] == "the bash hook");
    let mut rows = document.rows[start.expect("the table of durations")..].iter();
    let names = &rows.next().unwrap()[1..4];
    rows.map_while(|row| {
        let seconds = row.get(1..4)?.iter().map(|cell| cell.strip_suffix(" s")?.parse().ok());
        let seconds = names.iter().cloned().zip(seconds.collect::<Option<Vec<f64>>>()?).collect();
        let plural = if row[0] == "1" { "" } else { "s" };
        Some(Row { servers: format!("{} server{plural}", row[0]), seconds })
    })
    .collect()
}

/// Draws a bar for each duration, in groups that each have their own scale.
fn draw(rows: &[Row]) -> String {
    const LEFT: usize = 130;
    const LONGEST: usize = 420;
    const BAR: usize = 20;
    const GROUP: usize = 34;
    let bars: usize = rows.iter().map(|row| row.seconds.len()).sum();
    let (width, height) = (LEFT + LONGEST + 80, 46 + rows.len() * GROUP + bars * BAR);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>Seconds from the command to the new page</title>\n\
         <style>{STYLE}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" class=\"page\"/>\n\
         <text x=\"16\" y=\"26\">seconds from the command to the new page; each group has its own scale</text>\n"
    );
    let mut y = 36;
    for row in rows {
        writeln!(svg, "<text x=\"16\" y=\"{}\" class=\"title\">{}</text>", y + 22, row.servers).unwrap();
        y += GROUP;
        let longest = row.seconds.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max);
        for (program, seconds) in &row.seconds {
            // Round to whole pixels. Formatting avoids a cast.
            let bar: usize = format!("{:.0}", seconds / longest * LONGEST as f64).parse().unwrap();
            let class = if program == "bluegreen" { "ours" } else { "theirs" };
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{program}</text>\n\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{bar}\" height=\"{}\" rx=\"2\" class=\"{class}\"/>\n\
                 <text x=\"{}\" y=\"{}\" class=\"value\">{seconds:.2} s</text>",
                LEFT - 10,
                y + 12,
                BAR - 5,
                LEFT + bar + 6,
                y + 12
            )
            .unwrap();
            y += BAR;
        }
    }
    svg + "</svg>\n"
}

#[test]
fn the_chart_shows_the_table_of_durations() {
    let rows = rows();
    assert!(rows.len() >= 2 && rows.iter().all(|row| row.seconds.len() >= 3));
    let drawn = draw(&rows);
    let path = project("docs/speed.svg");
    if std::env::var_os("BLUEGREEN_RECORD").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let shown = std::fs::read_to_string(path).unwrap_or_default();
    assert!(shown == drawn, "docs/speed.svg does not show docs/reference/benchmarks.md: run docs/record");
}
