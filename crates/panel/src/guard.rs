//! The guard: checks every request before it reaches a page, and limits the browser in handling the response.
//!
//! The checks, in order: the host, against DNS rebinding; the origin, against cross-site requests; the size of the body, and
//! the time in which it arrives; the operator's token; the CSRF token.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::connections::Phase;
use crate::fields::Fields;
use crate::session::{Secrets, is_same};
use crate::views;

/// The maximum length of a request's body, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// The headers that limit the browser in handling a response.
const HEADERS: [(header::HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With `no-referrer`, browsers would send `Origin: null` with the panel's own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The pages that need no token.
const PUBLIC: [&str; 4] = ["/login", "/panel.css", "/panel.js", "/icon.svg"];

/// The rules of this panel.
#[derive(Debug)]
pub struct Guard {
    address: SocketAddr,
    hosts: Vec<String>,
    /// The timeout for reading a body.
    timeout: Duration,
    secrets: Arc<Secrets>,
}

/// The reason why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Host,
    Origin,
    Form,
    TooLong,
    TooSlow,
    Token,
    Csrf,
}

impl Refusal {
    fn response(self) -> Response {
        let (status, words) = match self {
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "The panel is not served under this name. Open it by its address, or start it with --host NAME.",
            ),
            Self::Origin => (StatusCode::FORBIDDEN, "The request comes from another page."),
            Self::Form => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The request is not a form."),
            Self::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "The request is too long."),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "The request did not arrive in time."),
            Self::Token => (StatusCode::UNAUTHORIZED, "Log in first."),
            Self::Csrf => (
                StatusCode::FORBIDDEN,
                "The form is from before the panel was started. Go back to the overview, and try again.",
            ),
        };
        (status, views::problem_page(words, None)).into_response()
    }
}

impl Guard {
    /// Creates the rules for a panel that listens on an address and is also reachable by these host names.
    #[must_use]
    pub fn new(address: SocketAddr, hosts: &[String], timeout: Duration, secrets: Arc<Secrets>) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { address, hosts, timeout, secrets }
    }

    /// Accepts IP addresses, `localhost`, and the configured host names. A page that rebinds its own name to this machine
    /// sends that name.
    fn check_host(&self, host: &str) -> Result<(), Refusal> {
        let name = without_port(host).ok_or(Refusal::Host)?.to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let is_local = self.address.ip().is_loopback();
        let is_address = address.is_some_and(|address| !is_local || address.is_loopback());
        if is_address || name == "localhost" || self.hosts.contains(&name) {
            Ok(())
        } else {
            Err(Refusal::Host)
        }
    }

    fn is_logged_in(&self, headers: &HeaderMap) -> bool {
        if !self.secrets.needs_token() {
            return true;
        }
        let bearer = text(headers, &header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let has_token = bearer.is_some_and(|token| self.secrets.is_token(token.trim()));
        let name = cookie_name(port_of(headers));
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        has_token || pairs.any(|(key, value)| key == name && self.secrets.is_cookie(value))
    }
}

/// Checks a request, and adds the headers to the response.
pub async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if let Some(phase) = request.extensions().get::<Phase>() {
        phase.begin_request();
    }
    let mut response = match inspect(&guard, request).await {
        Ok(request) => next.run(request).await,
        Err(response) => response,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn inspect(guard: &Guard, request: Request) -> Result<Request, Response> {
    let refuse = |refusal: Refusal| refusal.response();
    let host = text(request.headers(), &header::HOST).unwrap_or_default().to_owned();
    guard.check_host(&host).map_err(refuse)?;
    check_origin(&request, &host).map_err(refuse)?;
    let (mut parts, body) = request.into_parts();
    let fields = if parts.method == Method::POST {
        read_form(&parts.headers, body, guard.timeout).await.map_err(refuse)?
    } else {
        Fields::parse(parts.uri.query().unwrap_or_default().as_bytes())
    };
    let path = parts.uri.path();
    if !PUBLIC.contains(&path) && !guard.is_logged_in(&parts.headers) {
        let is_page = parts.method == Method::GET && path == "/";
        let login = || (StatusCode::SEE_OTHER, [(header::LOCATION, "/login")]).into_response();
        return Err(if is_page { login() } else { Refusal::Token.response() });
    }
    if parts.method == Method::POST {
        let expected = if path == "/login" { &guard.secrets.login } else { &guard.secrets.csrf };
        if !is_same(expected, fields.get("csrf")) {
            return Err(Refusal::Csrf.response());
        }
    } else if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(StatusCode::METHOD_NOT_ALLOWED.into_response());
    }
    parts.extensions.insert(fields);
    Ok(Request::from_parts(parts, Body::empty()))
}

/// Refuses cross-site requests, except those that follow a link to the panel.
fn check_origin(request: &Request, host: &str) -> Result<(), Refusal> {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        let origin = text(headers, &header::ORIGIN).unwrap_or_default();
        let own = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
        if own.is_none_or(|own| !own.eq_ignore_ascii_case(host)) {
            return Err(Refusal::Origin);
        }
    }
    let fetch = |name: &'static str| text(headers, &header::HeaderName::from_static(name));
    let is_link = request.method() == Method::GET
        && fetch("sec-fetch-mode") == Some("navigate")
        && fetch("sec-fetch-dest") == Some("document");
    match fetch("sec-fetch-site") {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) if is_link => Ok(()),
        Some(_) => Err(Refusal::Origin),
    }
}

async fn read_form(headers: &HeaderMap, body: Body, limit: Duration) -> Result<Fields, Refusal> {
    let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() != "application/x-www-form-urlencoded" {
        return Err(Refusal::Form);
    }
    let read = timeout(limit, to_bytes(body, MAX_BODY)).await.map_err(|_| Refusal::TooSlow)?;
    Ok(Fields::parse(&read.map_err(|_| Refusal::TooLong)?))
}

fn text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Returns the host without its port; `None` if the port is not a number.
fn without_port(host: &str) -> Option<&str> {
    let end = if host.starts_with('[') { host.find(']')? + 1 } else { host.find(':').unwrap_or(host.len()) };
    let (name, port) = host.split_at(end);
    let is_port = |port: &str| port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (!name.is_empty() && (port.is_empty() || is_port(port))).then_some(name)
}

/// Returns the port under which the browser reaches the panel.
#[must_use]
pub fn port_of(headers: &HeaderMap) -> u16 {
    let host = text(headers, &header::HOST).unwrap_or_default();
    host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
}

/// Returns the name of the cookie. Browsers do not distinguish the ports of a host, but two panels must.
#[must_use]
pub fn cookie_name(port: u16) -> String {
    format!("bluegreen-panel-{port}")
}
