//! Canaries, with a switch that is a few files and a front end that sends every request to the canary while there is one.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::promote::{Pair, executable, said};

/// The switch's `weight`, which sends visitors to the canary.
const WEIGHT: &str = "if [ \"$3\" = 0 ]; then rm -f \"$here/split\" \"$here/serves\"; else
    echo \"weight $2 $3\" >\"$here/split\"; echo \"$2\" >\"$here/serves\"; fi";

/// A pair with these steps, and a switch with this `weight`.
fn pair(steps: &str, weight: &str) -> Pair {
    let pair = Pair::new();
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    pair.write("promote.toml", &format!("{config}[canary]\nsteps = [{steps}]\n"));
    let text = format!(
        "#!/bin/sh\nhere=$(dirname \"$0\")\n[ \"$1\" = show ] || echo \"$*\" >>\"$here/calls\"\n\
         case $1 in show) cat \"$here/public\"; cat \"$here/split\" 2>/dev/null || : ;;\n\
         set) echo \"$2\" >\"$here/public\"; rm -f \"$here/split\" \"$here/serves\" ;;\nweight) {weight} ;;\n*) exit 2 ;; esac\n"
    );
    pair.write("switch", &text);
    executable(&pair.file("switch"));
    pair
}

fn calls(pair: &Pair) -> Vec<String> {
    let calls = fs::read_to_string(pair.file("calls")).unwrap_or_default();
    calls.lines().map(str::to_owned).collect()
}

const STEPS: &str = "{ weight = 10, for = '0.6s' }, { weight = 50, for = '0.6s' }";

#[test]
fn a_canary_gets_its_steps_and_then_everything() {
    let pair = pair(STEPS, WEIGHT);
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    assert_eq!(calls(&pair), ["weight green 0", "weight green 10", "weight green 50", "set green"]);
    assert!(text.contains("Giving green 10% of the requests for 600ms...\n"), "{text}");
    assert!(text.contains("1 response of 1 by green, 0 failed, p99 "), "{text}");
    // The figures of the promotion are those of the watch.
    assert!(text.contains("green is public instead of blue: 2 requests, 0 failed"), "{text}");
}

#[test]
fn a_canary_that_fails_goes_back_to_no_weight() {
    let pair = pair(STEPS, WEIGHT);
    pair.write("front.green", "500");
    let text = pair.fails_with(&[], "returned 500", "blue is public again, and healthy.");
    assert!(text.contains("Going back to blue: "), "{text}");
    assert_eq!(calls(&pair), ["weight green 0", "weight green 10", "weight green 0"]);
    assert_eq!(pair.marks(), [Some(true), Some(false)]);
    assert_eq!(pair.blue.history().pop().unwrap()["outcome"], "failed");

    // If the weight cannot be taken back, the whole side is set.
    let weight = format!("[ \"$3 $(grep -c . \"$here/calls\")\" != '0 3' ] || exit 1; {WEIGHT}");
    let pair = self::pair(STEPS, &weight);
    pair.write("front.green", "500");
    pair.fails_with(&[], "returned 500", "blue is public again, and healthy.");
    assert_eq!(calls(&pair)[2..], ["weight green 0", "set blue"]);
}

#[test]
fn nothing_is_switched_if_a_canary_cannot_be_judged() {
    let pair = pair(STEPS, WEIGHT);
    pair.write("serves", "nobody")
        .fails(&[], "a canary needs responses that name their server, but http://127.0.0.1:");
    pair.write("serves", "green").fails(&[], " sends `X-Served-By: green`");
    assert_eq!(calls(&pair), [""; 0]);

    let without = self::pair(STEPS, "exit 2");
    let text =
        without.fails(&[], "the switch cannot give a side a part of the requests, which [canary] needs");
    assert!(text.contains("hint: use a switch with `weight`") && !text.contains("Giving"), "{text}");

    // A switch that ignores what it does not have.
    let deaf = self::pair(STEPS, ":");
    deaf.fails(&[], "the switch reported success, but the front end shows blue\n");
    let failing = self::pair(STEPS, "[ \"$3\" = 0 ] || { echo 'error: no' >&2; exit 1; }");
    failing.fails(&[], "the switch's `weight green 10` exited with status 1: no\n");
}

#[test]
fn a_front_end_that_ignores_the_weight_is_noticed() {
    let ignored =
        "if [ \"$3\" = 0 ]; then rm -f \"$here/split\"; else echo \"weight $2 $3\" >\"$here/split\"; fi";
    let pair = pair("{ weight = 99, for = '2.4s' }", ignored);
    pair.fails_with(
        &[],
        "no response came from green, although it has a weight of 99%\n",
        "blue is public again, and healthy.",
    );
    // A few requests prove nothing.
    let short = self::pair("{ weight = 5, for = '0.4s' }", ignored);
    let (status, text) = short.promote(&[]);
    assert!(
        status == 0 && text.contains("although it has a weight of 5%: it is not judged in this step\n"),
        "{text}"
    );
}

#[test]
fn a_canary_is_left_out_if_it_would_be_in_the_way() {
    let pair = pair(STEPS, WEIGHT);
    let (status, text) = pair.promote(&["--force"]);
    assert!(status == 0 && text.contains("Skipping the canary, because of --force.\n"), "{text}");
    assert_eq!(calls(&pair), ["set green"]);
    pair.write("public", "");
    let (status, text) = pair.promote(&["blue"]);
    assert!(status == 0 && text.contains("Skipping the canary, because no side is public.\n"), "{text}");
    // The side that is public already needs none, and gets back what an interrupted one has left to the other.
    pair.write("split", "weight green 30\n");
    let (status, text) = said(&pair.command(&["public"]).output().unwrap());
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("warning: green gets 30% of the requests: a canary was interrupted\nhint: `bluegreen promote blue` ends it"), "{text}");
    let json = pair.command(&["public", "--json"]).output().unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&rows[0]["weight"], &rows[1]["weight"]), (&70.into(), &30.into()));
    let (status, text) = pair.promote(&["blue"]);
    assert!(status == 0 && !pair.file("split").exists(), "{text}");
}

#[test]
fn ctrl_c_in_a_step_takes_the_weight_back() {
    let pair = pair("{ weight = 10, for = '60s' }", WEIGHT);
    let promotion = pair.command(&["promote", "--yes"]).spawn().unwrap();
    while !pair.file("split").exists() {
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_millis(500));
    Command::new("kill").args(["-INT", &promotion.id().to_string()]).status().unwrap();
    let (status, text) = said(&promotion.wait_with_output().unwrap());
    assert!(
        status != 0 && text.contains("Not promoted: blue is public again, and healthy.\n"),
        "{status} {text}"
    );
    assert_eq!(calls(&pair).last().unwrap(), "weight green 0");
}
