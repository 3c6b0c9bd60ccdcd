//! `docs/demo.svg`, the picture of a terminal in the README: it shows what the program prints today.
//!
//! `docs/record` runs this test with `BLUEGREEN_RECORD` set, and it draws the picture anew. Without it, the picture is
//! compared with what happens; only names, ids and durations may differ.

use std::fmt::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::normalize::normalize;
use crate::support::sandbox::BLUEGREEN;
use crate::support::{Node, Sandbox};

const PICTURE: &str = "docs/demo.svg";
/// The height of a line in pixels.
const LINE: usize = 20;
/// The width of a character, in hundredths of a pixel.
const CHARACTER: usize = 842;

/// A terminal in which commands are typed, and the lines that it shows.
struct Terminal<'a> {
    sandbox: &'a Sandbox,
    lines: Vec<String>,
}

impl Terminal<'_> {
    fn say(&mut self, comment: &str) {
        self.lines.extend([String::new(), format!("# {comment}")]);
    }

    /// Runs a command in the developer's clone; `is_shown` chooses lines of its output.
    fn run(&mut self, typed: &str, command: &mut Command, is_shown: impl Fn(&str) -> bool) {
        self.lines.push(format!("$ {typed}"));
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap().replace("\u{1b}[K", "");
        let shown = text.lines().map(str::trim_end).filter(|line| is_shown(line));
        self.lines.extend(shown.map(str::to_owned));
    }

    fn push(&mut self, remote: &str) {
        let mut git = self.sandbox.git_command(&self.sandbox.clone_path());
        git.args(["push", remote, "master"]);
        let is_shown = |line: &str| line.starts_with("remote:") || line.contains("rejected]");
        self.run(&format!("git push {remote} master"), &mut git, is_shown);
    }

    fn bluegreen(&mut self, arguments: &str) {
        let words: Vec<&str> = arguments.split(' ').collect();
        let mut program = self.sandbox.bluegreen_command(&words);
        self.run(&format!("bluegreen {arguments}"), &mut program, |_| true);
    }
}

/// Two versions, one that is refused, and the way back.
fn demonstration() -> Vec<String> {
    let sandbox = Sandbox::new();
    let repository = sandbox.repository();
    sandbox.config_section("[steps]\nbuild = \"./build\"\ncheck = { name = \"the page has a heading\", run = \"grep -q '<h1>' public/index.html\" }");
    sandbox.git_in(&repository, &["config", "receive.procReceiveRefs", "refs/heads/master"]);
    symlink(BLUEGREEN, repository.join("hooks/proc-receive")).unwrap();
    sandbox.git(&["remote", "add", "blue", repository.to_str().unwrap()]);
    let build = "#!/bin/sh\nmkdir public && cp index.html public/ && echo 'built 1 page'\n";
    sandbox.commit_to(
        "master",
        "Welcome the first visitors",
        &[(b"build", Node::Executable(build.into())), (b"index.html", Node::file("<h1>One</h1>\n"))],
    );
    let mut terminal = Terminal { sandbox: &sandbox, lines: Vec::new() };
    terminal.push("blue");
    let change = |subject: &str, page: &str| {
        sandbox.commit_to("master", subject, &[(b"index.html", Node::file(page))]);
    };
    // Two releases of one second would have names of two lengths.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    change("Say more", "<h1>Two</h1>\n");
    terminal.say("a second version");
    terminal.push("blue");
    change("Break the page", "Three\n");
    terminal.say("one that is broken: the push fails, and nothing has changed");
    terminal.push("blue");
    terminal.say("on blue: the way back is one rename");
    terminal.bluegreen("rollback");
    terminal.bluegreen("releases");
    terminal.lines
}

fn color(line: &str) -> &'static str {
    match line {
        _ if line.starts_with('$') => "#ffffff",
        _ if line.starts_with('#') => "#8b949e",
        _ if line.contains("error:") || line.contains("rejected]") => "#ff7b72",
        _ if line.contains("hint:") => "#e3b341",
        _ if line.contains(" is live") => "#7ee787",
        _ => "#c9d1d9",
    }
}

/// Draws the lines as a terminal; each appears a little after the one before.
fn draw(lines: &[String]) -> String {
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap();
    let (width, height) = (columns * CHARACTER / 100 + 40, lines.len() * LINE + 60);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" xml:space=\"preserve\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>Two versions are pushed, a broken one is refused, and a rollback</title>\n\
         <style>text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre; \
         animation: appear 0.2s backwards }} @keyframes appear {{ from {{ opacity: 0 }} }}\n\
         @media (prefers-reduced-motion: reduce) {{ text {{ animation: none }} }}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#0d1117\"/>\n\
         <circle cx=\"22\" cy=\"20\" r=\"6\" fill=\"#ff5f56\"/><circle cx=\"42\" cy=\"20\" r=\"6\" fill=\"#ffbd2e\"/>\
         <circle cx=\"62\" cy=\"20\" r=\"6\" fill=\"#27c93f\"/>\n"
    );
    let mut delay = 0.0;
    for (at, line) in lines.iter().enumerate() {
        delay += if line.starts_with('$') { 0.9 } else { 0.15 };
        if line.is_empty() {
            continue;
        }
        let text = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let (y, color) = (at * LINE + 54, color(line));
        let text_length = line.chars().count() * CHARACTER / 100;
        writeln!(
            svg,
            "<text x=\"20\" y=\"{y}\" fill=\"{color}\" textLength=\"{text_length}\" style=\"animation-delay: {delay:.2}s\">{text}</text>"
        )
        .unwrap();
    }
    svg + "</svg>\n"
}

/// The lines that a picture shows.
fn lines_of(svg: &str) -> Vec<String> {
    let texts = svg.split("<text ").skip(1).map(|text| {
        let text = text.split_once('>').unwrap().1.split("</text>").next().unwrap();
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    });
    texts.collect()
}

#[test]
fn the_picture_shows_what_the_program_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURE);
    let lines = demonstration();
    if std::env::var_os("BLUEGREEN_RECORD").is_some() {
        std::fs::write(&path, draw(&lines)).unwrap();
    }
    let shown: Vec<String> = lines_of(&std::fs::read_to_string(path).unwrap_or_default());
    let normalized = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| !line.is_empty()).map(|line| normalize(line)).collect()
    };
    assert_eq!(normalized(&shown), normalized(&lines), "{PICTURE} is not what happens: run docs/record");
}
