//! `docs/demo.svg`, the animated terminal in the README, shows the program's real output.
//!
//! `docs/record` runs this test with `BLUEGREEN_RECORD` set, which records the animation. Without it, the
//! test compares the animation with a new run. Only names, ids, and numbers may differ.

use std::fmt::Write;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use crate::promote::Pair;
use crate::support::Node;
use crate::support::markdown::project;
use crate::support::normalize::normalize;
use crate::support::sandbox::BLUEGREEN;

const PICTURE: &str = "docs/demo.svg";
/// The height of a line, in pixels.
const LINE: usize = 20;
/// The width of a character, in hundredths of a pixel.
const CHARACTER: usize = 842;
/// The number of lines that the terminal shows.
const WINDOW: usize = 18;

/// A terminal in a developer's clone, and the lines that it shows.
struct Terminal {
    pair: Pair,
    lines: Vec<String>,
}

impl Terminal {
    fn say(&mut self, comment: &str) {
        if !self.lines.is_empty() {
            self.lines.push(String::new());
        }
        self.lines.push(format!("# {comment}"));
    }

    /// Runs a command and displays it as `typed`. `is_shown` filters the lines of its output.
    fn run(&mut self, typed: &str, command: &mut Command, is_shown: impl Fn(&str) -> bool) {
        self.lines.push(format!("$ {typed}"));
        let output = command.current_dir(self.pair.blue.clone_path()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap().replace("\u{1b}[K", "");
        let shown = text.lines().map(str::trim_end).filter(|line| is_shown(line));
        self.lines.extend(shown.map(str::to_owned));
    }

    fn push(&mut self) {
        let mut git = self.pair.blue.git_command(&self.pair.blue.clone_path());
        git.args(["push", "blue", "master"]);
        let is_shown = |line: &str| line.starts_with("remote:") || line.contains("rejected]");
        self.run("git push blue master", &mut git, is_shown);
    }

    fn promote(&mut self, side: &str) {
        let mut promote = self.pair.command(&["promote", side, "--yes"]);
        let first = self.lines.len();
        // A slow server is named after a second.
        let is_shown = |line: &str| !line.starts_with("Waiting for ");
        self.run(&format!("bluegreen promote {side} --yes"), &mut promote, is_shown);
        // On a terminal, each progress line replaces the previous one.
        let is_progress = |line: &String| line.starts_with("  ") && line.contains(" requests, ");
        let last = self.lines.iter().rposition(is_progress).expect("a line of progress");
        let mut at = 0;
        self.lines.retain(|line| {
            at += 1;
            at - 1 < first || at - 1 == last || !is_progress(line)
        });
    }

    fn commit(&self, subject: &str, page: &str) {
        self.pair.blue.commit_to("master", subject, &[(b"index.html", Node::file(page))]);
    }
}

/// Records a new version, a version that fails its check, a promotion, and a promotion back.
fn demonstration() -> Vec<String> {
    let pair = Pair::new();
    let (blue, green) = (&pair.blue, &pair.green);
    for (name, sandbox) in [("blue", blue), ("green", green)] {
        blue.git(&["remote", "add", name, sandbox.repository().to_str().unwrap()]);
        sandbox.raw_config(&format!(
            "server = \"{name}\"\n[site]\nroot = \"{}\"\n[steps]\nbuild = \"./build\"\n\
             check = {{ name = \"the page has a heading\", run = \"grep -q '<h1>' public/index.html\" }}\n",
            sandbox.site().display()
        ));
    }
    blue.git_in(&blue.repository(), &["config", "receive.procReceiveRefs", "refs/heads/master"]);
    symlink(BLUEGREEN, blue.repository().join("hooks/proc-receive")).unwrap();
    pair.write("public", "green\n").configure("watch = \"0.4s\"", "watch = \"2s\"");
    let build = "#!/bin/sh\nmkdir public && cp index.html public/ && echo 'built 1 page'\n";
    blue.commit_to(
        "master",
        "Welcome the first visitors",
        &[(b"build", Node::Executable(build.into())), (b"index.html", Node::file("<h1>One</h1>\n"))],
    );
    for side in ["blue", "green"] {
        blue.git(&["push", "--quiet", "--force", side, "master"]);
    }
    let mut terminal = Terminal { pair, lines: Vec::new() };
    // Two releases in the same second would have names of different lengths.
    std::thread::sleep(Duration::from_millis(1100));
    terminal.commit("Show prices with tax", "<h1>Two</h1>\n");
    terminal.say("Visitors get green. Deploy a new version to blue:");
    terminal.push();
    terminal.commit("Break the page", "Three\n");
    terminal.say("A broken version: the push fails, and nothing changes.");
    terminal.push();
    terminal.say("Send visitors to blue:");
    terminal.promote("blue");
    terminal.say("And back to green:");
    terminal.promote("green");
    terminal.lines
}

fn color(line: &str) -> &'static str {
    match line {
        _ if line.starts_with('$') => "#ffffff",
        _ if line.starts_with('#') => "#8b949e",
        _ if line.contains("error:") || line.contains("rejected]") => "#ff7b72",
        _ if line.contains("hint:") => "#e3b341",
        _ if line.contains(" is live") || line.contains(" is public") => "#7ee787",
        _ => "#c9d1d9",
    }
}

/// Draws a terminal in which the lines appear one after the other, scroll up, and repeat.
fn draw(lines: &[String]) -> String {
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap();
    let (width, height) = (columns * CHARACTER / 100 + 40, WINDOW * LINE + 60);
    // The time at which each line appears, in tenths of a second. The last screen stays for six seconds.
    let mut now = 0;
    let times: Vec<usize> = lines
        .iter()
        .map(|line| {
            now += if line.starts_with('#') { 14 } else { 5 };
            now
        })
        .collect();
    let total = now + 60;
    let percent = |time: usize| format!("{:.2}%", time as f64 * 100.0 / total as f64);
    let mut style = format!(
        "text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre }}\n\
         text, #lines {{ animation-duration: {}s; animation-timing-function: step-end; animation-iteration-count: infinite }}\n\
         #lines {{ animation-name: scroll }}\n@keyframes scroll {{ 0% {{ transform: none }} ",
        total as f64 / 10.0
    );
    for (at, time) in times.iter().enumerate().skip(WINDOW) {
        let up = (at + 1 - WINDOW) * LINE;
        write!(style, "{} {{ transform: translateY(-{up}px) }} ", percent(*time)).unwrap();
    }
    style.push_str("}\n");
    let mut texts = String::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let text = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let (y, color, length) = (at * LINE + 54, color(line), line.chars().count() * CHARACTER / 100);
        let shown = percent(times[at]);
        writeln!(style, "@keyframes l{at} {{ 0% {{ opacity: 0 }} {shown} {{ opacity: 1 }} }}").unwrap();
        writeln!(
            texts,
            "<text x=\"20\" y=\"{y}\" fill=\"{color}\" textLength=\"{length}\" style=\"animation-name: l{at}\">{text}</text>"
        )
        .unwrap();
    }
    style.push_str("@media (prefers-reduced-motion: reduce) { text, #lines { animation: none !important } }");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" xml:space=\"preserve\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>A deployment, a rejected deployment, a promotion, and back</title>\n<style>{style}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#0d1117\"/>\n\
         <circle cx=\"22\" cy=\"20\" r=\"6\" fill=\"#ff5f56\"/><circle cx=\"42\" cy=\"20\" r=\"6\" fill=\"#ffbd2e\"/>\
         <circle cx=\"62\" cy=\"20\" r=\"6\" fill=\"#27c93f\"/>\n\
         <clipPath id=\"window\"><rect y=\"36\" width=\"{width}\" height=\"{}\"/></clipPath>\n\
         <g clip-path=\"url(#window)\"><g id=\"lines\">\n{texts}</g></g>\n</svg>\n",
        WINDOW * LINE + 4
    )
}

/// Returns the lines of text in an animation.
fn lines_of(svg: &str) -> Vec<String> {
    let texts = svg.split("<text ").skip(1).map(|text| {
        let text = text.split_once('>').unwrap().1.split("</text>").next().unwrap();
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    });
    texts.collect()
}

#[test]
fn the_animation_matches_the_programs_output() {
    let lines = demonstration();
    if std::env::var_os("BLUEGREEN_RECORD").is_some() {
        std::fs::write(project(PICTURE), draw(&lines)).unwrap();
    }
    let shown = lines_of(&std::fs::read_to_string(project(PICTURE)).unwrap_or_default());
    // Durations and request counts vary.
    let number = regex::Regex::new(r"\d+(\.\d+)?").unwrap();
    let comparable = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter().filter(|line| !line.is_empty());
        lines.map(|line| number.replace_all(&normalize(line), "<n>").into_owned()).collect()
    };
    assert_eq!(comparable(&shown), comparable(&lines), "{PICTURE} is stale: run docs/record");
}
