//! `public --watch`: the table on a terminal.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::promote::said;
use crate::support::sandbox::BLUEGREEN;

#[test]
fn the_table_is_refreshed_on_a_terminal_until_ctrl_c() {
    let pair = crate::promote::Pair::new();
    let (status, text) = said(&pair.command(&["public", "--watch"]).output().unwrap());
    assert_eq!(status, 2, "{text}");
    assert!(
        text.contains("error: `--watch` needs a terminal: use `bluegreen public --json` in a script"),
        "{text}"
    );

    let line = format!(
        "stty rows 30 cols 100; trap : INT; {BLUEGREEN} public --watch=1 --config {}; echo status $?",
        pair.file("promote.toml").display()
    );
    let mut command = pair.blue.command("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = command.spawn().unwrap();
    let mut terminal = BufReader::new(script.stdout.take().unwrap());
    let mut text = String::new();
    let mut until = |words: &str, text: &mut String| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !text.contains(words) {
            assert!(Instant::now() < deadline && terminal.read_line(text).unwrap() > 0, "{text}");
        }
    };
    until("blue is public.", &mut text);
    until("\u{1b}[J", &mut text);
    // The next refresh shows the new state, and one after a failure shows that.
    pair.write("public", "green\n");
    until("green is public.", &mut text);
    pair.switch(": ; exit 1");
    fs::remove_file(pair.file("public")).unwrap();
    until("error: the switch's `show` ", &mut text);
    pair.write("public", "blue\n");
    text.clear();
    until("blue is public.", &mut text);
    script.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    until("status 0", &mut text);
    script.wait().unwrap();
}
