//! Actions: what they ask, what they do, and that only one runs at a time.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fake::{Panel, World, problem};
use crate::http::{Response, read_until};

/// Returns the form of a page that asks, as a browser sends it.
pub fn form(page: &Response) -> String {
    let fields = page.body.split("<input type=\"hidden\" name=\"").skip(1).map(|field| {
        let (name, rest) = field.split_once('"').unwrap();
        let value = rest.split("value=\"").nth(1).unwrap().split('"').next().unwrap();
        format!("{name}={}", value.replace(' ', "+"))
    });
    fields.collect::<Vec<_>>().join("&")
}

pub fn confirm(panel: &Panel, question: &str) -> Response {
    let page = panel.get(&format!("/confirm?{question}"));
    assert_eq!(page.status, 200, "{page:?}");
    panel.post("/do", &form(&page))
}

/// Loads the overview until it shows a text.
pub fn overview_shows(panel: &Panel, text: &str) -> String {
    let started = Instant::now();
    loop {
        let page = panel.get("/").body;
        if page.contains(text) {
            return page;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{text}: {page}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_promotion_is_confirmed_in_words_and_shows_its_steps() {
    let panel = Panel::new();
    assert!(panel.get("/").body.contains("href=\"/confirm?do=promote&amp;side=green\""));
    let page = panel.get("/confirm?do=promote&side=green");
    for words in [
        "Promote green?",
        "Visitors of http://203.0.113.10/ get green with bbbbbbbbbbbb instead of blue with aaaaaaaaaaaa.",
        "If a check fails, visitors see no change.",
        "is watched for 30s. If requests fail, visitors get the side before again.",
        "Visitors gain 1 commit",
    ] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    let done = panel.post("/do", &form(&page));
    assert_eq!((done.status, done.header("location")), (303, "/#activity"));
    let page = overview_shows(&panel, "green is public instead of blue");
    for words in [
        "Promotion of green",
        "<li class=\"done\">Switch</li>",
        "Checked green: 1 server.",
        "</span>green</th><td>2</td><td class=\"bad\">1</td><td>900 ms</td><td>900 ms</td>",
        "&#60;b&#62;2 requests&#60;/b&#62;\\u{1b}[2J, 1 failed",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
}

#[test]
fn two_browsers_see_each_line_and_each_response() {
    let panel = Panel::new();
    panel.change(|world| world.is_blocked = true);
    let mut browsers = [panel.events(""), panel.events("")];
    assert_eq!(confirm(&panel, "do=promote&side=green").status, 303);
    for browser in &mut browsers {
        let started = Instant::now();
        read_until(
            browser,
            &[
                "Checked green",
                "<li class=\\\"now\\\" aria-current=\\\"step\\\">Watch",
                ",5,\"new green\"]",
                ",900,\"failed\"]",
            ],
        );
        assert!(started.elapsed() < Duration::from_secs(20));
    }
    // One that comes later sees all of it, too, and closing one changes nothing.
    drop(browsers);
    read_until(&mut panel.events(""), &["Checked green", ",3,\"check\"]", ",900,\"failed\"]"]);
    panel.change(|world| world.is_blocked = false);
    overview_shows(&panel, "green is public instead of blue");
}

#[test]
fn only_one_action_runs_and_it_can_be_cancelled() {
    let panel = Panel::new();
    panel.change(|world| world.is_blocked = true);
    let late = panel.get("/confirm?do=promote&side=green");
    assert_eq!(confirm(&panel, "do=promote&side=green").status, 303);
    let refused = panel.post("/do", &form(&late));
    assert_eq!(refused.status, 409);
    assert!(
        refused.body.contains("Another action runs: Promotion of green. Nothing was done."),
        "{refused:?}"
    );
    let page = overview_shows(&panel, "aria-current=\"step\">Watch");
    assert!(!page.contains("do=promote") && !page.contains("do=rollback"), "nothing else is offered: {page}");
    let question = panel.get("/confirm?do=stop");
    assert!(question.body.contains("Visitors get the side again that was public before."), "{question:?}");
    assert_eq!(panel.post("/do", &form(&question)).status, 303);
    overview_shows(&panel, "Not promoted: blue is public again, and healthy. cancelled");
    assert_eq!(panel.get("/confirm?do=stop").status, 404);
}

#[test]
fn what_has_changed_since_the_confirmation_is_not_done() {
    let panel = Panel::new();
    let page = panel.get("/confirm?do=promote&side=green");
    let rollback = panel.get("/confirm?do=rollback&side=green");
    panel.change(|world| {
        let status = world.statuses[1].as_mut().unwrap();
        (status["commit"], status["live"]) = ("c".repeat(40).into(), "another".into());
    });
    assert_eq!(panel.post("/do", &form(&page)).status, 303);
    overview_shows(&panel, "the sides have changed since you confirmed");
    let refused = panel.post("/do", &form(&rollback));
    assert!(
        refused.status == 409 && refused.body.contains("green has changed since you confirmed"),
        "{refused:?}"
    );
    assert_eq!(panel.fake.0.lock().unwrap().applied, Vec::<String>::new());
}

#[test]
fn a_deployment_is_not_done_if_visitors_or_the_tip_have_changed() {
    let panel = Panel::new();
    let change_tip = |world: &mut World| {
        world.statuses[1].as_mut().unwrap()["tip"] = "d".repeat(40).into();
    };
    for change in [|world: &mut World| world.public = Ok(Some("green".into())), change_tip] {
        let deploy = panel.get("/confirm?do=deploy&side=green");
        panel.change(change);
        let refused = panel.post("/do", &form(&deploy));
        assert_eq!(refused.status, 409, "{refused:?}");
    }
    assert_eq!(panel.fake.0.lock().unwrap().applied, Vec::<String>::new());
}

#[test]
fn cancelling_an_action_names_what_it_stops() {
    let panel = Panel::new();
    panel.change(|world| world.is_blocked = true);
    assert_eq!(confirm(&panel, "do=rollback&side=green").status, 303);
    let early = panel.get("/confirm?do=stop");
    assert!(early.body.contains("This stops nothing."), "{early:?}");
    // The rollback waits for the deployment of someone else.
    panel.change(|world| {
        world.statuses[1].as_mut().unwrap()["running"] = json!({
            "pid": 7, "action": "deploy", "by": { "user": "grace" }, "since": "2026-01-03T00:00:00Z", "phase": "build",
        });
    });
    overview_shows(&panel, "grace");
    let refused = panel.post("/do", &form(&early));
    assert!(refused.status == 409 && refused.body.contains("Nothing was cancelled."), "{refused:?}");
    let question = panel.get("/confirm?do=stop");
    assert!(question.body.contains("This stops a deployment by grace (process 7"), "{question:?}");
    assert_eq!(panel.post("/do", &form(&question)).status, 303);
    overview_shows(&panel, "Cancelling...");
    assert_eq!(panel.fake.0.lock().unwrap().applied, ["green: Run(Rollback)", "green: Run(Cancel)"]);
}

#[test]
fn a_change_of_a_lock_cannot_be_cancelled() {
    let panel = Panel::new();
    panel.change(|world| world.is_blocked = true);
    assert_eq!(confirm(&panel, "do=unlock&side=green").status, 303);
    let page = overview_shows(&panel, "Unlock of green");
    assert!(!page.contains("do=stop"), "{page}");
    assert_eq!(panel.get("/confirm?do=stop").status, 404);
}

#[test]
fn a_promotion_that_a_check_forbids_can_be_forced() {
    let panel = Panel::new();
    panel
        .change(|world| world.unhealthy = Some(problem("the live release of green failed its verification")));
    let page = panel.get("/confirm?do=promote&side=green");
    assert!(page.body.contains("failed its verification") && !page.body.contains("<form"), "{page:?}");
    let link = "href=\"/confirm?do=promote&#38;side=green&#38;force=yes\"";
    assert!(page.body.contains(link), "{page:?}");
    let page = panel.get("/confirm?do=promote&side=green&force=yes");
    assert!(page.body.contains("Nothing stops this promotion"), "{page:?}");
    assert_eq!(panel.post("/do", &form(&page)).status, 303);
    overview_shows(&panel, "green is public instead of blue");
}

#[test]
fn each_action_on_a_side_says_what_visitors_see() {
    let panel = Panel::new();
    let ask = |question: &str| panel.get(&format!("/confirm?{question}")).body;
    for (question, words) in [
        ("do=rollback&side=blue", "blue is public: visitors see this at once."),
        ("do=rollback&side=green", "green is not public: visitors see no change."),
        ("do=deploy&side=green", "a fresh release of the tip of master, bbbbbbbbbbbb"),
        ("do=cancel&side=green", "What is live stays live."),
        ("do=lock&side=green", "Everyone who is refused reads your reason."),
        ("do=unlock&side=green", "Visitors see no change."),
    ] {
        assert!(ask(question).contains(words), "{question}: {}", ask(question));
    }
    for question in
        ["do=rollback&side=red", "do=destroy&side=blue", "do=stop", "", "do=rollback", "side=blue"]
    {
        assert_eq!(panel.get(&format!("/confirm?{question}")).status, 404, "{question}");
    }
    for (question, applied) in [
        ("do=rollback&side=blue", "blue: Run(Rollback)"),
        ("do=deploy&side=green", "green: Run(Deploy)"),
        ("do=unlock&side=green", "green: Unlock"),
    ] {
        assert_eq!(confirm(&panel, question).status, 303);
        overview_shows(&panel, &format!("{} has changed.", &applied[..applied.find(':').unwrap()]));
        assert_eq!(panel.fake.0.lock().unwrap().applied.pop().unwrap(), applied);
    }
    let page = panel.get("/confirm?do=lock&side=blue");
    let lock = |reason: &str, until: &str| {
        panel.post("/do", &format!("{}&reason={reason}&until={until}", form(&page))).status
    };
    for (reason, until) in [("", ""), ("a%0Ab", ""), ("x", "99y"), (&*"x".repeat(201), "")] {
        assert_eq!(lock(reason, until), 400, "{reason} {until}");
    }
    assert_eq!(lock("Black+Friday", "1h"), 303);
    overview_shows(&panel, "blue has changed.");
    let applied = panel.fake.0.lock().unwrap().applied.pop().unwrap();
    assert!(applied.starts_with("blue: Lock { reason: \"Black Friday\", until: Some("), "{applied}");
}

#[test]
fn only_a_form_of_the_panel_starts_an_action() {
    let panel = Panel::new();
    let page = panel.get("/confirm?do=rollback&side=blue");
    let (good, csrf) = (form(&page), page.csrf());
    let other = Panel::new().get("/confirm?do=rollback&side=blue").csrf();
    let host = panel.address;
    for (form, headers) in [
        (good.replace(&csrf, ""), format!("Origin: http://{host}\r\n")),
        (good.replace(&csrf, &other), format!("Origin: http://{host}\r\n")),
        (good.clone(), "Origin: http://evil.example\r\n".into()),
        (good.clone(), "Origin: null\r\n".into()),
        (good.clone(), "Sec-Fetch-Site: same-site\r\n".into()),
    ] {
        assert_eq!(panel.post_with("/do", &form, &headers).status, 403, "{form} {headers}");
    }
    assert_eq!(panel.get(&format!("/do?{good}")).status, 405, "a link does nothing");
    assert_eq!(panel.post(&format!("/do?{good}"), "").status, 403, "fields of the address do not count");
    assert_eq!(panel.fake.0.lock().unwrap().applied, Vec::<String>::new());
    assert_eq!(panel.post("/do", &good).status, 303);
}

#[test]
fn the_log_of_a_deployment_is_live() {
    let panel = Panel::new();
    panel.change(|world| {
        world.is_blocked = true;
        world.statuses[1].as_mut().unwrap()["running"] = serde_json::json!({
            "pid": 7, "action": "deploy", "by": { "user": "ada" }, "since": "2026-01-01T00:00:00Z", "phase": "build",
        });
    });
    let events = read_until(&mut panel.events(""), &["event: log", "is running"]);
    assert!(events.contains("Step <npm>\\\\u{1b}[2J is running") && events.contains("\"log-1\""), "{events}");
    let page = overview_shows(&panel, "Step &#60;npm&#62;\\u{1b}[2J is running");
    assert!(page.contains("do=cancel&amp;side=green"), "{page}");
    panel.change(|world| world.is_blocked = false);
}
