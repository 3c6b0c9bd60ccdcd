//! The page and its parts as HTML. The templates escape everything that they show; here all texts are bounded, and
//! control characters are made visible.

mod activity;
pub mod confirm;
mod history;
mod promotion;
mod side;

pub use self::activity::kind;
use askama::Template;
use axum::response::Html;

use crate::client::Problem;
use crate::fields::Fields;
use crate::state::State;
use bluegreen_text::{MAX_MESSAGE_CHARS, escape_controls, truncated};

/// The maximum length of a subject or of a name, in characters.
const MAX_WORDS: usize = 200;

/// Returns a text from a server as the page shows it: bounded, and with control characters that are visible.
fn text(from: &str, max_chars: usize) -> String {
    escape_controls(&truncated(from, max_chars))
}

fn words(from: &str) -> String {
    text(from, MAX_WORDS)
}

fn message(from: &str) -> String {
    text(from, MAX_MESSAGE_CHARS)
}

/// Renders a template. Writing to a string fails only if the program has a defect.
fn render(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| format!("<p>internal error: {error}</p>"))
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview<'a> {
    title: String,
    public_url: String,
    has_token: bool,
    csrf: &'a str,
    notice: String,
    sides: Vec<String>,
    promotion: String,
    activity: String,
    filters: Vec<history::Select>,
    text: String,
    is_filtered: bool,
    history: String,
}

#[derive(Template)]
#[template(path = "notice.html")]
struct Notices {
    notices: Vec<Notice>,
}

struct Notice {
    kind: &'static str,
    title: String,
    text: String,
    hint: Option<String>,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login<'a> {
    csrf: &'a str,
    is_wrong: bool,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    title: &'a str,
    message: String,
    hint: Option<String>,
}

/// Returns the page with both sides and the history.
pub fn overview(state: &State, has_token: bool, csrf: &str, filter: &Fields) -> Html<String> {
    let title = match state.public_side() {
        Some(side) => format!("{} is public - bluegreen", words(side)),
        None => "bluegreen".into(),
    };
    let sides = state.sides().iter().map(|side| side::part(state, side, true)).collect();
    let page = Overview {
        title,
        public_url: words(&state.public_url),
        has_token,
        csrf,
        notice: notices(state),
        sides,
        promotion: promotion::part(state),
        activity: activity::part(state, true),
        filters: history::selects(state, filter),
        text: words(filter.get("text")),
        is_filtered: history::is_filtered(filter),
        history: history::part(state, filter),
    };
    Html(render(&page))
}

/// Returns the parts of the page that change, by their element ids. Logs are empty: their lines are events of their own.
#[must_use]
pub fn parts(state: &State, filter: &Fields) -> Vec<(String, String)> {
    let mut parts = vec![("notice".into(), notices(state))];
    parts.extend(state.sides().iter().map(|side| (format!("side-{side}"), side::part(state, side, false))));
    parts.push(("promotion".into(), promotion::part(state)));
    parts.push(("activity".into(), activity::part(state, false)));
    parts.push(("history".into(), history::part(state, filter)));
    parts
}

/// Returns the form that asks for the token.
pub fn login(csrf: &str, is_wrong: bool) -> Html<String> {
    Html(render(&Login { csrf, is_wrong }))
}

/// Returns a page that explains why a request failed.
pub fn problem_page(title: &str, problem: Option<&Problem>) -> Html<String> {
    let hint = problem.and_then(|problem| problem.hint.as_deref()).map(message);
    let message = problem.map_or_else(String::new, |problem| message(&problem.message));
    Html(render(&ProblemPage { title, message, hint }))
}

fn notices(state: &State) -> String {
    let bad = |title: &str, problem: &Problem| Notice {
        kind: "bad",
        title: title.into(),
        text: message(&problem.message),
        hint: problem.hint.as_deref().map(message),
    };
    let mut notices = Vec::new();
    notices.extend(state.problem.as_ref().map(|problem| bad("The config cannot be used.", problem)));
    let front = state.front.problem().filter(|_| state.problem.is_none());
    notices.extend(front.map(|problem| bad("The front end does not report which side is public.", problem)));
    notices.extend(side::warnings(state));
    notices.extend(front_notices(state));
    render(&Notices { notices })
}

/// Returns notices about promotions that this panel does not run.
fn front_notices(state: &State) -> Vec<Notice> {
    let mut notices = Vec::new();
    let notice = |title: String, text: &str| Notice { kind: "warn", title, text: text.into(), hint: None };
    if state.has_foreign_promotion() {
        let text =
            "The panel did not start it and cannot show its steps. They are printed where it was started.";
        notices.push(notice("A promotion is running.".into(), text));
    } else if let Some(split) = state.split().filter(|_| !state.is_busy()) {
        let (side, percent) = (words(&split.side), split.percent);
        notices.push(Notice {
            hint: Some("promote the public side to end it, or the other side to run it again".into()),
            ..notice(format!("{side} gets {percent}% of the requests."), "A canary was interrupted.")
        });
    }
    notices
}
