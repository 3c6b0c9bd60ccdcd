//! `promote` itself, back and forth under load behind real front ends, without a failed request.

use crate::lab::Lab;
use crate::machine::Machine;

/// The number of promotions behind each front end. `BLUEGREEN_TEST_PROMOTIONS` overrides it.
const PROMOTIONS: &str = "16";

/// Adds two sites on the front end's machine, a config, and the program.
pub(crate) fn add_sides(front: &Machine, switch: &str) {
    front.bring(std::path::Path::new(env!("CARGO_BIN_EXE_bluegreen")), "/usr/local/bin/bluegreen");
    front.write(
        "/test/promote.toml",
        &format!(
            "[sides]
blue = {{ ssh = \"/srv/blue/app\", address = \"127.0.0.1:8001\" }}
green = {{ ssh = \"/srv/green/app\", address = \"127.0.0.1:8002\" }}
[public]
url = \"http://127.0.0.1/\"
switch = \"{switch}\"
[check]
healthy = 1
watch = \"0.2s\"
"
        ),
    );
    // A switch for the load script: like the promotion, it returns once visitors get the side.
    front.write(
        "/test/promote",
        "#!/bin/sh\nbluegreen promote \"$2\" --yes --config /test/promote.toml >/tmp/promoted 2>&1 || { cat /tmp/promoted >&2; exit 1; }\ngrep -q \"^$2 is public\" /tmp/promoted\n",
    );
    // A job of both sides at once would be noticed.
    front.write(
        "/test/enter",
        "#!/bin/sh\ntouch /srv/jobs/$BLUEGREEN_SERVER\n[ $(ls /srv/jobs | wc -l) = 1 ] || touch /srv/twice\n",
    );
    front
        .sh("chmod 755 /test/promote /test/enter
            git config --global user.name Dev; git config --global user.email dev@example.org
            git init -q -b master /srv/clone; cd /srv/clone; echo v1 >index.html; git add -A; git commit -qm v1
            for side in blue green; do
                mkdir -p /srv/$side/html; git init -q -b master --bare /srv/$side/app
                ln -s /usr/local/bin/bluegreen /srv/$side/app/hooks/post-receive
                printf 'server = \"%s\"\\n[site]\\nroot = \"/srv/%s/html\"\\n[public]\\nenter = \"/test/enter\"\\nleave = \"rm -f /srv/jobs/%s\"\\n' $side $side $side >/srv/$side/app/bluegreen.toml
                git push -q /srv/$side/app master
            done
            mkdir /srv/jobs")
        .ok();
}

/// Promotes back and forth. No request fails, and no request that starts after a promotion has returned gets
/// the old side.
fn is_seamless(front: &Machine) {
    let times = std::env::var("BLUEGREEN_TEST_PROMOTIONS").unwrap_or_else(|_| PROMOTIONS.into());
    let ran = front.sh(&format!("python3 /test/load.py {times} /test/promote")).ok();
    let ran = ran.says("\"failed\": 0,").says("\"reused\": 0,").says("\"stale\": 0,");
    let judged = ran.text().split("\"judged\": ").nth(1).unwrap().split(',').next().unwrap();
    let promotions: u32 = times.parse().unwrap();
    assert!(judged.parse::<u32>().unwrap() > 10 * promotions, "no load: {}", ran.text());
    assert!(!ran.text().contains("\"slow\": 0,"), "no long request: {}", ran.text());
    // The figures, shown with `--nocapture`.
    std::io::Write::write_all(&mut std::io::stderr(), ran.text().as_bytes()).unwrap();
    let last = if promotions.is_multiple_of(2) { "blue" } else { "green" };
    front
        .sh("bluegreen public --config /test/promote.toml")
        .ok()
        .says(&format!("{last:6} {last:7} yes"))
        .lacks("warning");
    front.sh("test ! -e /srv/twice; ls /srv/jobs").ok().says(last);
    front.sh("grep -c promote /srv/blue/html/.bluegreen/history.jsonl").ok().says(&times);
}

#[test]
fn promotions_behind_haproxy_are_seamless() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = super::local::haproxy::machine(&lab, "") else { return };
    add_sides(&front, "haproxy");
    is_seamless(&front);
}

#[test]
fn promotions_behind_nginx_are_seamless() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = super::local::nginx::machine(&lab) else { return };
    add_sides(&front, "nginx");
    is_seamless(&front);
}
