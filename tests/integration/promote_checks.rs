//! The checks before a promotion and the watch after it: expected content, commands, and response times.

use crate::promote::Pair;

/// A pair with keys added to `[check]`, and a `[watch]` section.
fn pair(check: &str, watch: &str) -> Pair {
    let pair = Pair::new();
    let watch = format!("within = \"5s\"\n{check}\n[watch]\n{watch}\n");
    pair.configure("within = \"1s\"\nwatch = \"0.4s\"\n", &watch);
    pair
}

fn promoted(pair: &Pair) -> String {
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    text
}

/// Asserts that a promotion goes back to blue for this reason. Returns its output.
fn reverts(pair: &Pair, reason: &str) -> String {
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (1, "blue"), "{text}");
    assert!(text.contains(&format!("Going back to blue: {reason}")), "{reason}: {text}");
    assert!(text.contains("Not promoted: blue is public again, and healthy."), "{text}");
    text
}

#[test]
fn a_page_must_contain_its_text_before_and_after_the_switch() {
    let page = "paths = [\"/\", { path = \"/\", contains = \"Welcome\" }]";
    let pair = pair(page, "for = \"2s\"");
    pair.configure("within = \"5s\"", "within = \"1s\"");
    pair.write("green.body", "<h1>An error has occurred</h1>");
    pair.fails(&[], "does not contain `Welcome`");
    pair.write("green.body", "status 200\nX-Served-By: nobody\n<h1>Welcome!</h1>");
    let text = promoted(&pair);
    assert!(text.contains("answered by green,"), "{text}");
    // A page that loses its text after the switch.
    pair.write("public", "blue\n").write("blue.body", "Welcome");
    let set = "printf '%s\\n' \"$2\" >\"$here/public\"; echo Error >\"$here/green.body\"";
    pair.switch(set);
    let text = reverts(&pair, "http://");
    assert!(text.contains("/ does not contain `Welcome`\n"), "{text}");
}

#[test]
fn a_command_must_succeed_for_each_server_before_the_switch() {
    let pair = pair("run = [\"./smoke-test --fast\"]", "for = \"0.4s\"");
    let smoke_test = "#!/bin/sh\n[ \"$1\" = --fast ]\n\
        echo \"$BLUEGREEN_ADDRESS $BLUEGREEN_URL $BLUEGREEN_COMMIT $BLUEGREEN_SIDE\" >>ran\n\
        curl -fsS \"http://$BLUEGREEN_ADDRESS/\" >/dev/null\n[ ! -e broken ] || { echo 'cart is empty'; exit 7; }\n";
    pair.write("smoke-test", smoke_test);
    crate::promote::executable(&pair.file("smoke-test"));
    promoted(&pair);
    let ran = std::fs::read_to_string(pair.file("ran")).unwrap();
    let config = std::fs::read_to_string(pair.file("promote.toml")).unwrap();
    let [_, address, url] =
        config.split('"').filter(|word| word.contains("127.0.0.1:")).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(ran, format!("{address} {url} {} green\n", pair.green.id("master")));
    // A failure changes nothing. Its message contains the command, the last line of output, and how to repeat
    // it.
    pair.write("public", "blue\n").write("broken", "");
    let text = pair.fails(&[], "`./smoke-test --fast` for `");
    assert!(text.contains("` exited with status 7: cart is empty"), "{text}");
    let hint =
        format!("BLUEGREEN_COMMIT={} sh -c './smoke-test --fast'`, or promote", pair.green.id("master"));
    let variables = format!("BLUEGREEN_SIDE=green BLUEGREEN_ADDRESS={address} ");
    assert!(text.contains(&variables), "{text}");
    assert!(text.contains(&hint), "{text}");
    let (status, text) = pair.promote(&["--force"]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    assert!(text.contains("warning: green failed its check; continuing because of --force"), "{text}");
}

#[test]
fn a_hanging_or_flooding_command_is_bounded() {
    let pair = pair("run = [\"sleep 60\"]", "for = \"0.4s\"");
    pair.configure("within = \"5s\"", "within = \"1s\"");
    pair.fails(&[], "` timed out after 1s");
    pair.configure("sleep 60", "yes | head -c 50000000; printf '\\\\033[2Jx\\\\n'; false");
    let text = pair.fails(&[], "exited with status 1");
    assert!(!text.contains('\x1b') && text.len() < 10_000, "{} bytes", text.len());
}

#[test]
fn a_failed_watch_command_reverts_the_promotion() {
    let pair =
        pair("", "for = \"1s\"\nrun = [\"test ! -e errors || { echo 5 % errors; false; }\", \"touch ran\"]");
    promoted(&pair);
    assert!(pair.file("ran").exists());
    pair.write("public", "blue\n").write("errors", "");
    let text =
        reverts(&pair, "`test ! -e errors || { echo 5 % errors; false; }` exited with status 1: 5 % errors");
    assert!(text.contains("hint: see the logs of that side, and run the command by hand"), "{text}");
}

#[test]
fn a_short_watch_runs_its_commands_once() {
    let pair = pair("", "for = \"200ms\"\nrun = [\"echo >>ran\"]");
    promoted(&pair);
    assert_eq!(std::fs::read_to_string(pair.file("ran")).unwrap(), "\n");
}

/// Creates a pair in which blue responds in 10 ms, and green in `green` milliseconds.
fn responding(p99: &str, green: &str) -> Pair {
    let pair = pair("", &format!("for = \"2s\"\n{p99}"));
    pair.write("blue.delay", "10").write("green.delay", green);
    pair
}

#[test]
fn a_response_time_regression_reverts_the_promotion() {
    let text = reverts(&responding("p99 = \"2x\"", "100"), "");
    assert!(text.contains("Measuring blue...\n") && text.contains("Measured blue: p99 "), "{text}");
    assert!(
        text.contains(" ms, the limit of `p99`") && text.contains("or raise `p99` in .promote.toml"),
        "{text}"
    );
    let text = reverts(&responding("p99 = \"60ms\"", "100"), "3 of ");
    assert!(!text.contains("Measuring") && text.contains("longer than 60 ms"), "{text}");
}

#[test]
fn without_a_limit_or_a_regression_the_promotion_stands() {
    // Controls: no limit, equal response times, and a side that was already slow.
    promoted(&responding("", "100"));
    promoted(&responding("p99 = \"20x\"", "10"));
    let slow = responding("p99 = \"2x\"", "100");
    slow.write("blue.delay", "100");
    promoted(&slow);
    let forced = responding("p99 = \"2x\"", "100");
    let (status, text) = forced.promote(&["--force"]);
    assert_eq!((status, forced.public().as_str()), (0, "green"), "{text}");
}
