//! The actions: their confirmation pages, and the forms that these submit.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bluegreen_client::action::Action;

use crate::client::{Change, Planned, Problem, Promotion};
use crate::fields::Fields;
use crate::jobs::Order;
use crate::live::{FRESH, blocking};
use crate::pages::{Panel, SERVER_TIMEOUT};
use crate::views::{self, confirm};

/// The maximum length of a lock's reason, in characters.
const MAX_REASON: usize = 200;

/// Shows a page that asks for a confirmation.
pub async fn confirmation(State(panel): State<Panel>, Extension(fields): Extension<Fields>) -> Response {
    panel.live.refresh(SERVER_TIMEOUT, FRESH).await;
    let (csrf, side) = (&panel.secrets.csrf, fields.get("side"));
    if !panel.live.state().sides().iter().any(|name| name == side) && fields.get("do") != "stop" {
        return refused(StatusCode::NOT_FOUND, "This side does not exist", None);
    }
    let page = match fields.get("do") {
        "promote" => {
            let force = fields.get("force") == "yes";
            let planned = plan(&panel, side, force).await;
            Some(confirm::promote(&panel.live.state(), csrf, (side, force), planned))
        }
        "stop" => confirm::stop(&panel.live.state(), csrf),
        action => confirm::apply(&panel.live.state(), csrf, (action, side)),
    };
    page.map_or_else(
        || refused(StatusCode::NOT_FOUND, "There is nothing to confirm", None),
        IntoResponse::into_response,
    )
}

async fn plan(panel: &Panel, side: &str, force: bool) -> Result<Planned, Problem> {
    let (live, side) = (Arc::clone(&panel.live), side.to_owned());
    blocking(move || live.client.open()?.plan(&side, force, &live.stop)).await
}

/// Starts a confirmed action, and redirects to the overview, which shows its progress.
pub async fn act(State(panel): State<Panel>, Extension(form): Extension<Fields>) -> Response {
    if form.get("do") == "stop" {
        let seen = {
            let state = panel.live.state();
            state.job.as_ref().map(|job| confirm::seen_to_stop(&state, job))
        };
        if seen.as_deref() != Some(form.get("seen")) {
            let problem = Problem {
                message: "What runs has changed since you confirmed. Nothing was cancelled.".into(),
                hint: Some("look at the overview, and try again".into()),
            };
            return refused(StatusCode::CONFLICT, "Not cancelled", Some(&problem));
        }
        panel.live.cancel();
        return see_activity();
    }
    let order = match order(&form) {
        Ok(order) => order,
        Err(words) => return refused(StatusCode::BAD_REQUEST, words, None),
    };
    if let Order::Apply { side, seen, .. } = &order {
        panel.live.refresh(SERVER_TIMEOUT, Duration::ZERO).await;
        if *seen != confirm::seen(&panel.live.state(), form.get("do"), side) {
            let problem = Problem {
                message: format!("{side} has changed since you confirmed. Nothing was done."),
                hint: Some("look at the overview, and try again".into()),
            };
            return refused(StatusCode::CONFLICT, "Not done", Some(&problem));
        }
    }
    match panel.live.start(order) {
        Ok(()) => see_activity(),
        Err(running) => {
            let problem = Problem {
                message: format!("Another action runs: {running}. Nothing was done."),
                hint: Some("wait until it has finished, or cancel it on the overview".into()),
            };
            refused(StatusCode::CONFLICT, "Not done", Some(&problem))
        }
    }
}

fn order(form: &Fields) -> Result<Order, &'static str> {
    let side = form.get("side").to_owned();
    let change = match form.get("do") {
        "promote" => {
            let (force, seen) = (form.get("force") == "yes", Some(form.get("seen").to_owned()));
            return Ok(Order::Promote(Promotion { side, force, seen }));
        }
        "rollback" => Change::Run(Action::Rollback),
        "deploy" => Change::Run(Action::Deploy),
        "cancel" => Change::Run(Action::Cancel),
        "lock" => Change::Lock { reason: reason(form)?, until: until(form.get("until"))? },
        "unlock" => Change::Unlock,
        _ => return Err("This action does not exist"),
    };
    Ok(Order::Apply { side, change, seen: form.get("seen").to_owned() })
}

fn reason(form: &Fields) -> Result<String, &'static str> {
    let reason = form.get("reason").trim();
    let is_line = !reason.is_empty() && !reason.chars().any(char::is_control);
    if is_line && reason.chars().count() <= MAX_REASON {
        Ok(reason.to_owned())
    } else {
        Err("The reason must be one line of up to 200 characters")
    }
}

fn until(choice: &str) -> Result<Option<SystemTime>, &'static str> {
    let hours = match choice {
        "" => return Ok(None),
        "1h" => 1,
        "4h" => 4,
        "1d" => 24,
        "7d" => 7 * 24,
        _ => return Err("The end of the lock is not one of the choices"),
    };
    Ok(Some(SystemTime::now() + Duration::from_secs(hours * 3600)))
}

fn see_activity() -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/#activity")]).into_response()
}

fn refused(status: StatusCode, title: &str, problem: Option<&Problem>) -> Response {
    (status, views::problem_page(title, problem)).into_response()
}
