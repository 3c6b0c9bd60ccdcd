//! The steps of a promotion as the page shows them, with a canary and a drain.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::actions::{confirm, form, overview_shows};
use crate::fake::Panel;
use crate::http::read_until;

/// The steps of a promotion with a canary and a drain.
const STEPS: [&str; 8] = ["Look", "Hold", "Check", "Canary", "Switch", "Watch", "Mark", "Drain"];

/// Returns a panel whose promotions have a canary and a drain, and may begin that many steps.
fn panel(allowed: usize) -> Panel {
    let panel = Panel::new();
    panel.change(|world| (world.has_canary, world.allowed) = (true, allowed));
    panel
}

fn contains_all(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[test]
fn a_canary_and_a_drain_are_announced() {
    let page = panel(0).get("/confirm?do=promote&side=green").body;
    contains_all(
        &page,
        &[
            "Then green gets some of the requests: 10% for 2m, then 50% for 1m. If they fail, it gets none.",
            "both sides stay locked until blue has no requests in flight, for 1m at most.",
        ],
    );
}

#[test]
fn a_canary_shows_its_weight_and_the_responses_of_each_side() {
    let panel = panel(4);
    let mut events = panel.events("");
    read_until(&mut events, &["First</p>", "Second</p>"]);
    assert_eq!(confirm(&panel, "do=promote&side=green").status, 303);
    let seen = read_until(
        &mut events,
        &["Canary 10%", "Public, 90% of requests", "Not public, 10% of requests", ",8,\"unknown\"]"],
    );
    contains_all(&seen, &[",7,\"old blue\"]", ",9,\"failed\"]", ",\"10%\"]]"]);
    contains_all(
        &overview_shows(&panel, "Not public, 10% of requests"),
        &[
            "<p class=\"waiting\">Giving green 10% of the requests for 2m\\u{1b}...</p>",
            "</span>green, checks</th><td>1</td><td>0</td><td>3 ms</td>",
            "</span>green</th><td>1</td><td class=\"bad\">1</td><td>9 ms</td>",
            "</span>blue</th><td>1</td><td>0</td><td>7 ms</td>",
            "</span>unknown side</th><td>2</td><td>0</td><td>8 ms</td>",
            "The panel cannot tell which side sent 2 responses",
        ],
    );
    let page = panel.get("/confirm?do=stop").body;
    contains_all(&page, &["green no longer gets requests: all visitors get the side that is public."]);
    panel.change(|world| world.allowed = usize::MAX);
    read_until(&mut events, &[",\"switch\"]]"]);
}

#[test]
fn a_drain_shows_what_it_waits_for_and_the_wait_can_be_stopped() {
    let panel = panel(STEPS.len());
    assert_eq!(confirm(&panel, "do=promote&side=green").status, 303);
    let page = overview_shows(&panel, "Draining blue: 3 requests in flight, 2 s of at most 1m...");
    contains_all(&page, &["aria-current=\"step\">Drain", ">Stop waiting</a>"]);
    let page = panel.get("/confirm?do=stop");
    contains_all(&page.body, &["Stop waiting?", "Visitors keep the new side."]);
    assert_eq!(panel.post("/do", &form(&page)).status, 303);
    overview_shows(&panel, "green is public instead of blue");
}

#[test]
fn each_step_is_shown_within_a_second() {
    let mut best = [Duration::MAX; STEPS.len()];
    // The best of up to five promotions: the machine may be busy.
    for _ in 0..5 {
        let panel = panel(0);
        let mut events = panel.events("");
        read_until(&mut events, &["First</p>", "Second</p>"]);
        assert_eq!(confirm(&panel, "do=promote&side=green").status, 303);
        for (at, step) in STEPS.iter().enumerate() {
            let began = Instant::now();
            panel.change(|world| world.allowed = at + 1);
            read_until(&mut events, &[&format!("aria-current=\\\"step\\\">{step}")]);
            best[at] = best[at].min(began.elapsed());
        }
        if best.iter().max() < Some(&Duration::from_secs(1)) {
            return;
        }
    }
    panic!("{STEPS:?} were shown after {best:?}");
}

#[test]
fn a_promotion_that_runs_elsewhere_is_named() {
    let panel = Panel::new();
    panel.change(|world| {
        world.statuses[1].as_mut().unwrap()["running"] = json!({
            "pid": 7, "action": "promote", "by": { "user": "ada" }, "since": "2026-01-01T00:00:00Z", "phase": "promote",
        });
    });
    let page = overview_shows(&panel, "A promotion is running.");
    contains_all(
        &page,
        &["The panel did not start it and cannot show its steps.", "promotion by ada, started "],
    );
    assert!(!page.contains("do=promote"), "{page}");
}

#[test]
fn an_interrupted_canary_can_be_ended() {
    let panel = Panel::new();
    panel.change(|world| world.percent = 10);
    contains_all(
        &overview_shows(&panel, "green gets 10% of the requests."),
        &["A canary was interrupted.", "id=\"promote-blue\"", "id=\"promote-green\""],
    );
}
