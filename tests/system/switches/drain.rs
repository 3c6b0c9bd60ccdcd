//! In-flight requests at the old side, as real front ends count them.

use super::promotions::add_sides;
use crate::lab::Lab;
use crate::machine::Machine;

const SIDES: &str = "SWITCH_BLUE=127.0.0.1:8001 SWITCH_GREEN=127.0.0.1:8002";

/// Asserts that a slow request is counted until it ends, while visitors already get the other side.
pub(super) fn drains(front: &Machine, switch: &str) {
    let drained = |side: &str| front.sh(&format!("{SIDES} /switches/{switch} drained {side}"));
    // Idle connections to a side are closed within five seconds.
    let idle = || {
        let asked = format!("{SIDES} /switches/{switch} drained blue");
        front
            .sh(&format!("for _ in $(seq 80); do [ \"$({asked})\" != 0 ] || exit 0; sleep 0.1; done; exit 1"))
            .ok()
    };
    front.sh(&format!("/switches/{switch} set blue")).ok();
    drop(idle());
    let slow = front.start("root", "curl -sS http://127.0.0.1/slow/4");
    front.sh(&format!("sleep 1; /switches/{switch} set green")).ok();
    assert_eq!(drained("blue").ends_with_status(3).text(), "1\n");
    assert_eq!(slow.finish(), "blue");
    drop(idle());
    assert_eq!(drained("blue").ok().text(), "0\n");
    drained("pink").fails().says("pink");
    drained("'bl ue'").fails().says("invalid name of a side");
    front.sh(&format!("/switches/{switch} drain blue")).ends_with_status(2).says("wrong usage");
    front.sh(&format!("/switches/{switch} set blue")).ok();
}

/// Asserts that a promotion with `drain` finishes after the slow request, and one without it before.
fn promotes(front: &Machine, switch: &str, settings: &str) {
    add_sides(front, switch);
    front.sh(&format!("printf '[public.settings]\\n{settings}' >>/test/promote.toml")).ok();
    let promote = |drain: &str| {
        front
            .sh(&format!(
                "sed 's/^switch/drain = \"{drain}\"\\n&/' /test/promote.toml >/test/drain.toml
                /switches/{switch} set blue; rm -f /tmp/slow
                (curl -sS http://127.0.0.1/slow/6 >/tmp/slow.part; mv /tmp/slow.part /tmp/slow) & sleep 1
                bluegreen promote green --yes --config /test/drain.toml
                [ -e /tmp/slow ] && echo 'the request has ended' || echo 'the request is in flight'; wait
                grep -q blue /tmp/slow"
            ))
            .ok()
    };
    let drained = promote("60s").says("Draining blue: ").says("blue has no requests in flight after ");
    drop(drained.says("the request has ended").lacks("warning"));
    drop(promote("0s").says("the request is in flight").lacks("Draining"));
    drop(
        promote("1s")
            .says("warning: blue still has ")
            .says(" in flight after 1s")
            .says("the request is in flight"),
    );
}

#[test]
fn haproxy_counts_in_flight_requests_including_those_of_old_workers() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = super::local::haproxy::machine(&lab, "") else { return };
    drains(&front, "haproxy");
    let slow = front.start("root", "curl -sS http://127.0.0.1/slow/6");
    front.sh("sleep 1").ok();
    super::local::haproxy::reload(&front);
    front.sh("/switches/haproxy set green").ok();
    assert_eq!(front.sh("/switches/haproxy drained blue").ends_with_status(3).text(), "1\n");
    assert_eq!(slow.finish(), "blue");
    front.sh("sleep 0.5; /switches/haproxy drained blue").ok();
    promotes(&front, "haproxy", "");
}

#[test]
fn nginx_counts_in_flight_requests_if_it_has_the_addresses() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = super::local::nginx::machine(&lab) else { return };
    drains(&front, "nginx");
    front.sh("/switches/nginx drained blue").ends_with_status(2).says("no address is set for `blue`");
    for wrong in ["'a b;c'", "'-x:80'", "127.0.0.1", "'*:80'"] {
        front
            .sh(&format!("SWITCH_BLUE={wrong} /switches/nginx drained blue"))
            .fails()
            .says("error: invalid address");
    }
    promotes(&front, "nginx", "blue = \"127.0.0.1:8001\"\\ngreen = \"127.0.0.1:8002\"\\n");
}
