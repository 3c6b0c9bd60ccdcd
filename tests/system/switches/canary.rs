//! A canary behind a real HAProxy: the share of requests, what is kept, and what sends it back.

use super::local::haproxy;
use super::promotions::add_sides;
use crate::lab::Lab;
use crate::machine::{Machine, Ran};

/// Sends requests, and returns how many blue and green have answered.
fn counts(front: &Machine, requests: u32) -> (u32, u32) {
    let ran = front.sh(&format!("python3 /test/count.py {requests}")).ok();
    let counts: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
    let of = |side: &str| counts[side].as_u64().unwrap_or(0).try_into().unwrap();
    let (blue, green) = (of("blue"), of("green"));
    assert_eq!(blue + green, requests, "{}", ran.text());
    (blue, green)
}

fn show(front: &Machine) -> String {
    front.sh("/switches/haproxy show").ok().text().to_owned()
}

#[test]
fn five_percent_of_the_requests_are_three_to_seven_in_a_hundred() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = haproxy::machine(&lab, "") else { return };
    front.sh("/switches/haproxy weight green 5").ok();
    assert_eq!(show(&front), "blue\nweight green 5\n");
    let (_, green) = counts(&front, 10_000);
    assert!((300..=700).contains(&green), "{green} of 10,000");

    // A reload and a reboot keep it, and so does a second setting.
    front.sh("/switches/haproxy weight green 50").ok();
    haproxy::reload(&front);
    assert_eq!(show(&front), "blue\nweight green 50\n");
    haproxy::reboot(&front);
    assert_eq!(show(&front), "blue\nweight green 50\n");
    let (_, green) = counts(&front, 1000);
    assert!((350..=650).contains(&green), "{green} of 1,000");

    // Its end, by itself and by `set`.
    front.sh("/switches/haproxy weight green 0").ok();
    assert_eq!((show(&front).as_str(), counts(&front, 400)), ("blue\n", (400, 0)));
    front.sh("/switches/haproxy weight green 100; /switches/haproxy set green").ok();
    assert_eq!((show(&front).as_str(), counts(&front, 400)), ("green\n", (0, 400)));
    front.sh("/switches/haproxy weight blue 30; /switches/haproxy set green").ok();
    assert_eq!((show(&front).as_str(), counts(&front, 400)), ("green\n", (0, 400)));
    haproxy::reload(&front);
    assert_eq!(show(&front), "green\n");

    for (wrong, said) in [
        ("green 5", "`green` is public: only the other side can get a percentage"),
        ("pink 5", "HAProxy has no backend `pink`"),
        ("blue 101", "invalid percentage: `101`"),
        ("blue 05", "invalid percentage: `05`"),
        ("blue -5", "invalid percentage: `-5`"),
        ("blue", "wrong usage"),
    ] {
        front.sh(&format!("/switches/haproxy weight {wrong}")).fails().says(said);
    }
    front
        .sh("touch /tmp/blue.ill; sleep 1; /switches/haproxy weight blue 5")
        .fails()
        .says("backend `blue` is DOWN");
    assert_eq!(show(&front), "green\n");
}

/// Promotes green with these lines of the config.
fn promote(front: &Machine, config: &str) -> Ran {
    front.write("/test/more.toml", config);
    front.sh("{ sed '/^watch/d' /test/promote.toml; cat /test/more.toml; } >/test/canary.toml
        bluegreen promote green --yes --config /test/canary.toml")
}

#[test]
fn a_canary_ends_at_the_new_side_or_goes_back_by_itself() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = haproxy::machine(&lab, "") else { return };
    add_sides(&front, "haproxy");
    let steps = "[canary]\nsteps = [{ weight = 20, for = \"8s\" }, { weight = 60, for = \"3s\" }]\n[watch]\nfor = \"2s\"\n";
    let done = promote(&front, steps).ok();
    let done = done
        .says("Giving green 20% of the requests for 8s...")
        .says("Giving green 60% of the requests for 3s...");
    drop(done.says(" responses of ").says("green is public instead of blue"));
    assert_eq!(show(&front), "green\n");

    // Green responds with 500 to visitors but not to the check. The total number of failures stays below the tolerated one:
    // 80 in 40 s, and so 16 of the 40 requests of this step, of which green gets about 8.
    front.sh("/switches/haproxy set blue; touch /tmp/green.fails").ok();
    let tolerant =
        "[canary]\nsteps = [{ weight = 20, for = \"8s\" }]\n[watch]\nfor = \"40s\"\ntolerate = 80\n";
    let failed = promote(&front, tolerant).ends_with_status(1);
    let failed = failed.says("Going back to blue: ").says("returned 500");
    drop(failed.says("Not promoted: blue is public again, and healthy.").lacks("Switching to green"));
    assert_eq!((show(&front).as_str(), counts(&front, 400)), ("blue\n", (400, 0)));

    // Killed in a step, it leaves a split, which the next commands report.
    front.sh("rm /tmp/green.fails").ok();
    let long = "[canary]\nsteps = [{ weight = 30, for = \"60s\" }]\n[watch]\nfor = \"1s\"\n";
    front.write("/test/more.toml", long);
    front
        .sh("{ sed '/^watch/d' /test/promote.toml; cat /test/more.toml; } >/test/canary.toml
            bluegreen promote green --yes --config /test/canary.toml >/tmp/killed 2>&1 & pid=$!
            until grep -q Giving /tmp/killed; do sleep 0.1; done; sleep 1; kill -9 $pid; sleep 1")
        .ok();
    let public = front.sh("bluegreen public --config /test/canary.toml").ok();
    let public = public.says("blue   blue    70%").says("green  green   30%");
    let public = public.says("warning: green gets 30% of the requests: a canary was interrupted");
    drop(public.says("hint: `bluegreen promote blue` ends it; `bluegreen promote green` runs it again"));
    front.sh("bluegreen promote blue --yes --config /test/canary.toml").ok().says("blue is public");
    assert_eq!(show(&front), "blue\n");
}
