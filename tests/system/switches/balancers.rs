//! Load balancers in clouds: AWS against `moto`, with the real client, and Hetzner and DigitalOcean against a server that
//! responds as their documentation says.

use super::cloud::{Cloud, Moto, machine};
use crate::lab::Lab;

#[test]
fn aws_alb_gives_each_side_its_weight() {
    let Some(moto) = Moto::start("alb.py", "aws-alb") else { return };
    let run = |more: &[(&str, &str)], arguments: &[&str]| {
        let output = moto.run(more, arguments);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let ok = |said: &str| (Some(0), said.to_owned());
    let shows = |said: &str| assert_eq!(run(&[], &["show"]), ok(said));
    shows("blue\n");
    moto.sets(&[], "green");
    shows("green\n");
    // A side stays public with any percentage for the other one.
    assert_eq!(run(&[], &["weight", "blue", "60"]), ok(""));
    shows("green\nweight blue 60\n");
    assert_eq!(run(&[], &["weight", "blue", "0"]), ok(""));
    shows("green\n");
    // The end of a canary at the new side.
    assert_eq!(run(&[], &["weight", "blue", "5"]), ok(""));
    moto.sets(&[], "blue");
    shows("blue\n");

    // A rule, and a listener that forwards to only one group.
    let rule = [("SWITCH_LISTENER", moto.value("RULE"))];
    assert_eq!(run(&rule, &["weight", "green", "5"]), ok(""));
    assert_eq!(run(&rule, &["show"]), ok("blue\nweight green 5\n"));
    assert_eq!(run(&[("SWITCH_LISTENER", moto.value("SINGLE"))], &["show"]), ok("blue\n"));
    moto.refuses(&[], "empty", "no target of `empty` is healthy: nothing is switched");
    moto.refuses(&[], "pink", "no target group is set for `pink`");
    moto.refuses(&[("SWITCH_BLUE", "arn; id")], "blue", "no target group is set for `blue`");
    let other = |name| [("SWITCH_LISTENER", moto.value(name))];
    moto.refuses(&other("FIXED"), "green", "does more than forward: nothing is switched");
    moto.refuses(&other("THIRD"), "green", "forwards to more than two target groups");
    moto.refuses(&[("SWITCH_LISTENER", "x")], "green", "the ARN of the listener is missing or invalid");
    for (words, said) in [
        (&["weight", "blue", "5"][..], "`blue` is public: only the other side can get a percentage"),
        (&["weight", "green", "100"], "invalid percentage: `100`"),
        (&["weight", "green", "05"], "invalid percentage: `05`"),
        (&["weight", "green"], "wrong usage"),
        (&["drained", "green"], "wrong usage"),
    ] {
        let (status, text) = run(&[], words);
        assert!(status != Some(0) && text.contains(said) && text.contains("\nhint: "), "{words:?}: {text}");
    }
    assert_eq!(run(&[("SWITCH_FORCE", "1")], &["set", "empty"]), ok(""));
    shows("empty\n");
}

#[test]
fn load_balancers_of_hetzner_and_digitalocean_switch_sides_of_several_servers() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = machine(&lab) else { return };
    let parts = [goes_back_and_forth, waits, gives_up, reports_invalid_setup];
    std::thread::scope(|scope| {
        for (name, green, first) in [("digitalocean-lb", "2 22", 8100), ("hetzner-lb", "2 env=green", 8110)] {
            for (port, part) in (first..).zip(parts) {
                let machine = &front;
                scope.spawn(move || {
                    let sides = format!("SWITCH_BLUE='1 11' SWITCH_GREEN='{green}' SWITCH_GONE=4");
                    part(&Cloud::start(machine, name, port, &format!("{sides} SWITCH_LOAD_BALANCER=9")));
                });
            }
        }
    });
}

fn is_hetzner(cloud: &Cloud) -> bool {
    cloud.name == "hetzner-lb"
}

/// Returns the requests that change something, in order.
fn changes(cloud: &Cloud) -> Vec<String> {
    let seen: Vec<String> = serde_json::from_str(cloud.seen().lacks("token in sight").text()).unwrap();
    let last = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_change = |path: &&String| !path.starts_with("GET");
    seen.iter()
        .filter(is_change)
        .map(|path| if is_hetzner(cloud) { last(path) } else { path[..4].trim().to_owned() })
        .collect()
}

fn goes_back_and_forth(cloud: &Cloud) {
    cloud.shows("blue");
    cloud.run("", "set green").ok();
    cloud.shows("green");
    // Everything is added before anything is removed.
    let wanted = if is_hetzner(cloud) {
        &["add_target", "add_target", "remove_target", "remove_target"][..]
    } else {
        &["POST", "DELE"]
    };
    assert_eq!(changes(cloud), wanted);
    cloud.run("", "set green").ok();
    assert_eq!(changes(cloud), wanted, "a second `set green` changes nothing");
    cloud.run("", "set blue").ok();
    cloud.shows("blue");

    // Killed between the two changes, it leaves both sides, and the next `set` completes it in either direction.
    for side in ["green", "blue"] {
        cloud.faults("{\"takes\": 2}");
        let word = if is_hetzner(cloud) { "remove_target" } else { "DELETE" };
        cloud
            .machine
            .sh(&format!(
                ". /test/token; {} setsid /switches/{} set green >/dev/null 2>&1 & pid=$!
                until curl -sS {}/seen | grep -q {word}; do sleep 0.1; done; kill -9 -$pid; sleep 3",
                cloud.settings,
                cloud.name,
                cloud.url()
            ))
            .ok();
        cloud.run("", &format!("set {side}")).ok();
        cloud.shows(side);
    }
}

fn waits(cloud: &Cloud) {
    let pending = if is_hetzner(cloud) { "[423, 0], [409, 0]" } else { "[422, 0], [422, 0]" };
    for faults in [format!("{{\"answers\": [{pending}]}}"), "{\"answers\": [[429, 1], [500, 0]]}".into()] {
        cloud.faults(&faults);
        cloud.run("", "set green").ok();
        cloud.shows("green");
    }
}

fn gives_up(cloud: &Cloud) {
    if is_hetzner(cloud) {
        cloud.faults("{\"sick\": [\"env=green\"]}");
        let failed = cloud.run("SWITCH_WITHIN=20", "set green").fails();
        drop(failed.says("reports targets of green as unhealthy: env=green after 20 s: nothing is switched"));
        cloud.shows("blue");
        cloud.run("SWITCH_FORCE=1", "set green").ok();
        cloud.shows("green");
        cloud.faults("{\"end\": \"errored\"}");
        cloud.run("", "set green").fails().says("could not change the target 2: Action failed: nothing");
    } else {
        cloud.faults("{\"tag\": \"web\"}");
        cloud.run("", "set green").fails().says("chooses its droplets by a tag");
        cloud.faults("{}");
        let failed = cloud.run("SWITCH_WITHIN=2", "set green").fails();
        drop(failed.says("the health check needs 2 s for a new droplet, which is longer than 2 s: nothing"));
    }
    // In the second case, the load balancer stays busy, so that the switch cannot remove what it has added.
    for (faults, said) in
        [("{\"lies\": true}", ""), ("{\"takes\": 1000}", "hint: cannot undo the addition of ")]
    {
        cloud.faults(faults);
        cloud
            .run("SWITCH_WITHIN=4", "set green")
            .fails()
            .says(" after 4 s")
            .says(": nothing is switched")
            .says(said);
    }
    cloud.faults("{\"answers\": [[429, 60]]}");
    cloud.run("SWITCH_WITHIN=10", "set green").fails().says("returned 429: API rate limit exceeded.");
    cloud.run("SWITCH_API=http://127.0.0.1:1", "set green").fails().says("cannot reach http://127.0.0.1:1");
    cloud.run("SWITCH_API=http://127.0.0.1:8001", "show").fails().says("error: ");
}

fn reports_invalid_setup(cloud: &Cloud) {
    let wrong = "DIGITALOCEAN_ACCESS_TOKEN=secret HCLOUD_TOKEN=secret";
    cloud.run(wrong, "set green").fails().says("returned 401: Unable to authenticate you.").lacks("secret");
    cloud
        .run("DIGITALOCEAN_ACCESS_TOKEN= HCLOUD_TOKEN=", "show")
        .fails()
        .says("error: the API token is missing");
    cloud.run("", "set gone").fails().says("could not be found");
    cloud.run("", "set pink").fails().says("is set for `pink`");
    cloud.run("SWITCH_BLUE='1; id'", "set blue").fails().says("is set for `blue`");
    cloud.run("SWITCH_GREEN='2 11'", "set green").fails().says(" 11 belongs to two sides");
    cloud.run("SWITCH_LOAD_BALANCER=8", "show").fails().says("could not be found");
    cloud.run("SWITCH_LOAD_BALANCER=../x", "show").fails().says("error: invalid ").says(": `../x`");
    for side in ["", "'gre en'", "'green\"'", "../green"] {
        cloud.run("", &format!("set {side}")).fails().says("error: ");
    }
    cloud.run("", "weight green 5").ends_with_status(2).says("wrong usage");
    // Targets of neither side are no reason to fail.
    cloud.run("SWITCH_BLUE=8", "show").ok().lacks("e");
    cloud.shows("blue");
}
