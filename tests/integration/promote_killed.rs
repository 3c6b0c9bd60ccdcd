//! `kill -9` of a promotion with a canary, jobs of the public side, and draining, at each of its steps: what `public` and the
//! next promotion then do.
//!
//! Everything that a promotion runs reports a point before and after it changes something: the switch, the stand-in for ssh,
//! the steps of the servers, and the commands of the check and the watch. One run counts the points, and each following one
//! is killed at the next point.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use crate::promote::{Pair, executable, said};
use crate::roles::{Jobs, is_free};

/// Kills the promotion at the point whose number is in the file `kill`, and then returns 1.
const POINT: &str = r#"point() {
    exec 9>>"$here/points"; flock 9
    echo "$*" >&9
    number=$(wc -l <"$here/points")
    exec 9>&-
    [ "$number" = "$(cat "$here/kill")" ] || return 0
    # The test writes the id right after the start.
    until [ -s "$here/pid" ]; do sleep 0.02; done
    kill -9 "$(cat "$here/pid")"
    return 1
}
"#;

const SWITCH: &str = r#"#!/bin/sh
here=$(dirname "$0"); . "$here/point.sh"
case $1 in
    show)
        point show || exit 1
        cat "$here/public"; cat "$here/split" 2>/dev/null || : ;;
    set)
        point before "$@" || exit 1
        echo "$2" >"$here/public.new"; mv "$here/public.new" "$here/public"; rm -f "$here/split" "$here/serves"
        point after "$@" ;;
    weight)
        point before "$@" || exit 1
        if [ "$3" = 0 ]; then rm -f "$here/split" "$here/serves"; else
            echo "weight $2 $3" >"$here/split"; echo "$2" >"$here/serves"
        fi
        point after "$@" ;;
    drained)
        point "$@" || exit 1
        # One request is in flight at the first call.
        if [ -e "$here/flight" ]; then rm "$here/flight"; echo 1; exit 3; else echo 0; fi ;;
esac
"#;

const SSH: &str = r#"
. "$here/point.sh"
case $last in
    'bluegreen hold'*)
        point look || exit 1
        while read -r line; do
            case $line in beat*) ;; *) point "request ${line%% *}" || break ;; esac
            printf '%s\n' "$line"
        done | sh -c "$last"
        exit ;;
esac"#;

/// A pair of which blue is public and runs the jobs.
fn jobs() -> Jobs {
    let jobs = Jobs::begun("");
    let pair = &jobs.0;
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let run = |name: &str| format!("run = ['here=.; . ./point.sh; point {name}']");
    let config = config
        .replace("within = \"1s\"\nwatch = \"0.4s\"", &format!("within = \"30s\"\n{}", run("check")))
        .replace("switch = ", "drain = \"60s\"\nswitch = ");
    pair.write(
        "promote.toml",
        &format!(
            "{config}[watch]\nfor = '0.2s'\n{}\n\
             [canary]\nsteps = [{{ weight = 10, for = '0.2s' }}, {{ weight = 50, for = '0.2s' }}]\n",
            run("watch")
        ),
    );
    pair.write("point.sh", POINT).write("kill", "0").write("switch", SWITCH);
    executable(&pair.file("switch"));
    for side in ["blue", "green"] {
        for step in ["enter", "leave"] {
            pair.write(&format!("{side}.{step}"), &format!("here=.; . ./point.sh; point {step} || :\n"));
        }
    }
    pair.by_ssh(SSH);
    jobs
}

/// Promotes the other side, and kills the promotion at a point. Returns whether it was killed.
fn promote_until(pair: &Pair, point: usize) -> bool {
    let side = if pair.public() == "blue" { "green" } else { "blue" };
    let _ = (fs::remove_file(pair.file("points")), fs::remove_file(pair.file("pid")));
    pair.write("flight", "").write("kill", &point.to_string());
    let child = pair.command(&["promote", "--yes", side]).spawn().unwrap();
    pair.write("pid", &child.id().to_string());
    let output = child.wait_with_output().unwrap();
    is_free(pair);
    pair.write("kill", "0");
    let _ = fs::remove_file(pair.file("flight"));
    if output.status.signal() == Some(9) {
        return true;
    }
    let (status, text) = said(&output);
    assert_eq!((status, pair.public().as_str()), (0, side), "{text}");
    false
}

fn points(pair: &Pair) -> Vec<String> {
    fs::read_to_string(pair.file("points")).unwrap().lines().map(str::to_owned).collect()
}

/// Asserts that marks and jobs agree with the public side.
#[track_caller]
fn is_consistent(jobs: &Jobs, when: &str) {
    let public = jobs.0.public();
    assert_eq!(jobs.0.marks(), [Some(public == "blue"), Some(public == "green")], "{when}");
    assert_eq!(jobs.running(), [public.as_str()], "{when}: {:?}", jobs.log());
}

#[test]
fn a_promotion_killed_at_any_step_is_corrected_and_can_be_completed_or_reverted() {
    let jobs = jobs();
    let pair = &jobs.0;
    assert!(!promote_until(pair, 0));
    is_consistent(&jobs, "without a kill");
    let all = points(pair);
    for step in [
        "look",
        "request lock",
        "check",
        "before weight green 0",
        "after weight green 10",
        "after weight green 50",
        "watch",
    ]
    .into_iter()
    .chain([
        "request leave",
        "leave",
        "request enter",
        "enter",
        "before set green",
        "after set green",
        "drained blue",
    ])
    .chain(["request public", "request record", "request notify"])
    {
        assert!(all.iter().any(|point| point == step), "{step} is missing: {all:?}");
    }
    assert_eq!(all.iter().filter(|point| *point == "drained blue").count(), 2, "{all:?}");
    let mut killed = 0;
    for number in 1..=all.len() {
        let is_killed = promote_until(pair, number);
        killed += usize::from(is_killed);
        let when = format!("killed at {number}, {:?}", points(pair).get(number - 1));
        // `public` reports a split, and corrects the rest.
        let is_split = pair.file("split").exists();
        let (status, text) = said(&pair.command(&["public"]).output().unwrap());
        assert_eq!(status, 0, "{when}: {text}");
        assert_eq!(
            text.contains("a canary was interrupted\nhint: `bluegreen promote "),
            is_split,
            "{when}: {text}"
        );
        is_consistent(&jobs, &when);
        // Either side can be promoted then.
        let side = if number % 2 == 0 { "blue" } else { "green" };
        let (status, text) = pair.promote(&[side]);
        assert_eq!((status, pair.public().as_str()), (0, side), "{when}: {text}");
        assert!(!pair.file("split").exists(), "{when}: {text}");
        is_consistent(&jobs, &when);
    }
    assert!(killed + 3 >= all.len(), "only {killed} of {} were killed", all.len());
}
