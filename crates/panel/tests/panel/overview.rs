//! The overview, with and without JavaScript.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fake::{Panel, change, entry, problem};
use crate::http::read_until;

#[test]
fn the_overview_shows_both_sides_and_the_effect_of_a_promotion() {
    let panel = Panel::new();
    panel.change(|world| world.changes.push(change(false, "a1a1a1a", "Lost subject", "Grace")));
    let page = panel.get("/");
    assert_eq!(page.status, 200);
    for words in [
        "<title>blue is public - bluegreen</title>",
        "http://203.0.113.10/",
        "First</p>",
        "<code>aaaaaaaaaaaa</code> by <span dir=\"auto\">Ada Developer</span>",
        "responds in 4 ms",
        "Promote green",
        "Visitors gain 1 commit",
        "<code>b2b2b2b</code> <span dir=\"auto\">Second</span>",
        "Visitors lose 1 commit",
        "Lost subject",
        "Nothing has been deployed yet.",
    ] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    assert_eq!(page.body.matches("badge on\">Public").count(), 1);
    assert_eq!(page.body.matches("\">Not public").count(), 1);
}

#[test]
fn sides_with_equal_commits_are_reported() {
    let panel = Panel::new();
    panel.change(|world| world.statuses[1] = world.statuses[0].clone());
    assert!(panel.get("/").body.contains("Visitors see no change: both sides serve"));
}

#[test]
fn a_server_that_does_not_respond_is_shown_with_the_reason() {
    let panel = Panel::new();
    panel
        .change(|world| world.statuses[0] = Err(problem("cannot reach `deploy@blue:app` by ssh: timed out")));
    let page = panel.get("/").body;
    assert!(page.contains("<strong>blue.example does not respond.</strong>"), "{page}");
    assert!(page.contains("cannot reach `deploy@blue:app` by ssh: timed out"), "{page}");
    assert!(page.contains("try again") && page.contains("Second</p>"), "{page}");
    panel.change(|world| world.public = Err(problem("the switch's `show` exited with status 1")));
    std::thread::sleep(Duration::from_millis(600));
    let page = panel.get("/").body;
    assert!(page.contains("The front end does not report which side is public."), "{page}");
    assert_eq!(page.matches("badge\">Unknown").count(), 2, "{page}");
}

#[test]
fn a_slow_server_does_not_hold_up_the_page() {
    let panel = Panel::new();
    panel.change(|world| world.delay = Duration::from_secs(5));
    let started = Instant::now();
    let page = panel.get("/").body;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(page.contains("Waiting for blue.example to respond, ") && page.contains("Second</p>"), "{page}");
}

#[test]
fn the_history_has_filters_that_work_without_a_script() {
    let panel = Panel::new();
    let promotion = entry(
        "2026-01-03T00:00:00Z",
        "promote",
        "live",
        &json!({ "promotion": { "from": "green", "to": "blue", "requests": 150, "failures": 0 } }),
    );
    let failed =
        entry("2026-01-02T00:00:00Z", "deploy", "failed", &json!({ "error": "step `npm ci` failed" }));
    let rollback = entry("2026-01-01T00:00:00Z", "rollback", "live", &json!({ "by": { "user": "grace" } }));
    panel.change(|world| {
        world.histories = [json!([promotion, failed]), json!([promotion, rollback])];
    });
    let rows = |query: &str| {
        let page = panel.get(&format!("/?{query}")).body;
        let rows = page.split("<tbody>").nth(1).unwrap_or_default().to_owned();
        rows.split("<tr>").skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let all = rows("");
    assert_eq!(all.len(), 3, "both sides record a promotion: {all:?}");
    assert!(all[0].contains("Promotion") && all[0].contains("(150 requests, 0 failed)"), "{all:?}");
    assert!(all[1].contains("step `npm ci` failed") && all[1].contains("class=\"bad\""), "{all:?}");
    for (query, count) in [
        ("action=promote", 1),
        ("action=adopt", 0),
        ("outcome=failed", 1),
        ("side=green", 1),
        ("side=blue&action=deploy", 1),
        ("text=GRACE", 1),
        ("text=npm+ci", 1),
        ("text=nothing", 0),
        ("side=%3Cb%3E", 0),
    ] {
        assert_eq!(rows(query).len(), count, "{query}");
    }
    let page = panel.get("/?text=%22%3E%3Cb%3E&side=green").body;
    assert!(page.contains("No entry matches the filter.") && !page.contains("<b>"), "{page}");
    assert!(page.contains("<option value=\"green\" selected>"), "{page}");
}

#[test]
fn changes_arrive_as_events() {
    let panel = Panel::new();
    let mut events = panel.events("?action=promote");
    let first = read_until(&mut events, &["No entry matches the filter.", "First</p>", "Second</p>"]);
    assert!(first.contains("text/event-stream") && first.contains("event: hello"), "{first}");
    panel.change(|world| world.statuses[0].as_mut().unwrap()["subject"] = "Third".into());
    let changed = read_until(&mut events, &["Third</p>"]);
    assert!(!changed.contains("side-green"), "only what changes is sent: {changed}");
}

#[test]
fn servers_are_queried_only_while_a_page_is_open() {
    let panel = Panel::new();
    let mut events = panel.events("");
    read_until(&mut events, &["First</p>"]);
    drop(events);
    // The panel detects a closed browser connection when it sends the next event.
    std::thread::sleep(Duration::from_secs(4));
    let asked = panel.questions();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(panel.questions(), asked);
}

#[test]
fn a_conflicting_mark_and_pending_work_are_shown() {
    let panel = Panel::new();
    panel.change(|world| {
        world.public = Ok(Some("green".into()));
        let status = world.statuses[1].as_mut().unwrap();
        status["pending"] = json!([{ "kind": "tip", "message": "master was never deployed", "command": "resume" }]);
        status["running"] = json!({
            "pid": 7, "action": "deploy", "by": { "user": "ada" }, "since": "2026-01-01T00:00:00Z", "phase": "build",
        });
    });
    let page = panel.get("/").body;
    assert!(page.contains("blue is marked as public.") && page.contains("run `bluegreen public`"), "{page}");
    assert!(page.contains("master was never deployed") && page.contains("run `bluegreen resume`"), "{page}");
    assert!(page.contains("deployment by ada, started "), "{page}");
}
