//! The checks before a promotion and the watch after it: expected content, commands, and response times.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::promote::{Pair, said};

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
    assert!(text.contains("served by green,"), "{text}");
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

#[test]
fn failures_of_the_old_side_do_not_lower_the_limit_of_the_response_time() {
    let pair = responding("p99 = \"2x\"", "100");
    pair.write("blue.delay", "0").write("front.blue", "502");
    let text = promoted(&pair);
    assert!(text.contains("warning: cannot measure blue: only 0 of "), "{text}");
    assert!(text.contains(" succeeded; continuing without the limit of `p99`\n"), "{text}");
}

/// Serves an empty page, and counts the requests.
fn counted() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = write!(&stream, "HTTP/1.1 200 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (port, count)
}

#[test]
fn the_last_request_of_a_check_follows_the_locks_and_the_others_do_not_wait_for_them() {
    let pair = pair("", "for = \"0.4s\"");
    let config = std::fs::read_to_string(pair.file("promote.toml")).unwrap();
    let addresses: Vec<&str> = config.split('"').filter(|word| word.starts_with("127.0.0.1:")).collect();
    let (port, count) = counted();
    pair.configure(addresses[1], &format!("127.0.0.1:{port}")).configure("healthy = 1", "healthy = 3");
    // Green does not receive the request for its lock before the test allows it. Beats keep its lease until then.
    pair.by_ssh(
        "case $last:$host in *hold*:*@green)
            while read -r line; do
                if [ \"$line\" = lock ]; then until [ -e \"$here/go\" ]; do echo beat; sleep 0.2; done; fi
                echo \"$line\"
            done | sh -c \"$last\"
            exit ;;
        esac",
    );
    let child = pair.command(&["promote", "--yes"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(50);
    while count.load(Ordering::SeqCst) < 2 {
        assert!(Instant::now() < deadline, "the check waits for the locks");
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(300));
    assert_eq!(count.load(Ordering::SeqCst), 2, "the last request precedes the lock");
    pair.write("go", "");
    let (status, text) = said(&child.wait_with_output().unwrap());
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    assert_eq!(count.load(Ordering::SeqCst), 3, "{text}");
}

#[test]
fn a_server_that_cannot_be_locked_ends_the_check_of_an_unhealthy_side() {
    let pair = pair("", "for = \"0.4s\"");
    pair.configure("within = \"5s\"", "within = \"10m\"").configure("healthy = 1", "healthy = 3");
    pair.write("green.status", "503").by_ssh(
        "case $last:$host in *hold*:*@green)
            while read -r line && [ \"$line\" != lock ]; do echo \"$line\"; done | sh -c \"$last\"
            echo 'error: the disk is broken' >&2
            exit 1 ;;
        esac",
    );
    let text = pair.fails(&[], "cannot be locked: the disk is broken");
    assert!(!text.contains("returned 503"), "{text}");
}
