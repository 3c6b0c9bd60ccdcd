//! The pages: the overview, the login, and the files that they need.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use tokio::time::sleep;

use crate::connections::{Connections, Timeouts};
use crate::fields::Fields;
use crate::guard::{cookie_name, port_of};
use crate::live::{FRESH, Live};
use crate::session::Secrets;
use crate::views;

/// The time for which a page waits for the servers. It then shows which of them have not responded.
pub const SERVER_TIMEOUT: Duration = Duration::from_secs(3);

/// The delay after a wrong token.
const WRONG_TOKEN: Duration = Duration::from_millis(500);

/// The state shared by all pages.
#[derive(Clone)]
pub struct Panel {
    /// The state of both sides.
    pub live: Arc<Live>,
    /// The secrets of this start.
    pub secrets: Arc<Secrets>,
    /// All open connections.
    pub connections: Arc<Connections>,
    /// The time limits for browsers.
    pub timeouts: Timeouts,
}

/// Shows both sides and the history.
pub async fn overview(State(panel): State<Panel>, Extension(filter): Extension<Fields>) -> Html<String> {
    panel.live.refresh(SERVER_TIMEOUT, FRESH).await;
    views::overview(&panel.live.state(), panel.secrets.needs_token(), &panel.secrets.csrf, &filter)
}

/// Shows the form that asks for the token.
pub async fn login(State(panel): State<Panel>) -> Html<String> {
    views::login(&panel.secrets.login, false)
}

/// Checks the token, and sets the cookie that represents it.
pub async fn log_in(
    State(panel): State<Panel>,
    headers: HeaderMap,
    Extension(form): Extension<Fields>,
) -> Response {
    let token = form.get("token").trim();
    let cookie = panel.secrets.is_token(token).then(|| panel.secrets.cookie()).flatten();
    let Some(cookie) = cookie else {
        sleep(WRONG_TOKEN).await;
        return (StatusCode::UNAUTHORIZED, views::login(&panel.secrets.login, true)).into_response();
    };
    see_overview(&headers, &cookie, "")
}

/// Removes the cookie.
pub async fn log_out(headers: HeaderMap) -> Response {
    see_overview(&headers, "", "; Max-Age=0")
}

fn see_overview(headers: &HeaderMap, cookie: &str, age: &str) -> Response {
    let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let secure = if origin.starts_with("https://") { "; Secure" } else { "" };
    let name = cookie_name(port_of(headers));
    let cookie = format!("{name}={cookie}; Path=/; HttpOnly; SameSite=Strict{secure}{age}");
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie)])
        .into_response()
}

/// Serves the style sheet.
pub async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", include_str!("../assets/panel.css"))
}

/// Serves the script.
pub async fn script() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", include_str!("../assets/panel.js"))
}

/// Serves the icon.
pub async fn icon() -> impl IntoResponse {
    file("image/svg+xml", include_str!("../assets/icon.svg"))
}

fn file(kind: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, kind)], text)
}

/// Shows that a page does not exist.
pub async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, views::problem_page("This page does not exist", None)).into_response()
}
