//! HTTP requests to a server or to the public address, each by a `curl` with a connection of its own.

use std::borrow::Cow;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::check_config::Page;
use crate::error::Result;
use crate::latch::Latch;
use crate::program::{self, Output};
use bluegreen_process::signals::Stop;
use bluegreen_process::{self as process, Task};
use bluegreen_text::{MAX_NAME_CHARS, truncated};

/// The time in which a response must arrive, in seconds, as curl takes it.
const RESPONSE_TIMEOUT: &str = "5";

/// The time in which curl itself must exit.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of bytes of response headers that are read.
const MAX_HEADERS: usize = 256 * 1024;

/// The maximum number of bytes of a response that are read if the page must contain a text.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// One response, or the reason why there is none.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status, or the problem.
    pub result: Result<u16, String>,
    /// The response time.
    pub took: Duration,
    /// The header `X-Served-By`.
    pub served_by: Option<String>,
}

impl Response {
    /// Returns whether the status is 2xx or 3xx.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.result, Ok(200..400))
    }

    /// Describes the failure.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.result {
            Ok(status) => format!("returned {status}"),
            Err(problem) => problem.clone(),
        }
    }

    /// Counts the response as a failure if it comes from one of these servers.
    #[must_use]
    pub fn not_from(mut self, foreign: &[String]) -> Self {
        if let Some(server) = self.served_by.as_ref().filter(|server| foreign.contains(server)) {
            self.result = Err(format!("was served by {server}, which is on the other side"));
        }
        self
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct Request {
    task: Task,
    started: Instant,
    contains: Option<String>,
}

impl Request {
    /// Sends a request for a page below a URL, to `address` if one is given, under the public name.
    pub fn start(url: &str, page: &Page, address: Option<&str>) -> Result<Self> {
        let mut curl = curl(&join_url(url, &page.path), page.contains.is_some(), address);
        let started = Instant::now();
        let max = if page.contains.is_some() { MAX_BODY } else { MAX_HEADERS };
        let task = Task::start(&mut curl, TIMEOUT, max).map_err(|error| program::cannot_run(&curl, error))?;
        Ok(Self { task, started, contains: page.contains.clone() })
    }

    /// Returns the response once it is there, without waiting.
    pub fn advance(&mut self) -> Result<Option<Response>> {
        let failed = |error: std::io::Error| Response {
            result: Err(format!("sent an invalid response: {}", bluegreen_text::reason(&error))),
            took: self.started.elapsed(),
            served_by: None,
        };
        match self.task.advance(None) {
            Ok(None) => Ok(None),
            Ok(Some(done)) => {
                let output = Output::new(done, TIMEOUT)?;
                let mut response = parse(&output.stdout, output.is_ok(), self.started.elapsed());
                if response.result.is_err() {
                    response.result = Err(format!("does not respond: {}", output.words()));
                }
                if let Some(text) = self.contains.as_ref().filter(|_| response.is_good())
                    && !split(&output.stdout).1.contains(text.as_str())
                {
                    let text = truncated(text, MAX_NAME_CHARS);
                    response.result = Err(format!("does not contain `{text}`"));
                }
                Ok(Some(response))
            }
            Err(error) => Ok(Some(failed(error))),
        }
    }

    /// Returns the program that sends the request, so that a caller can wait for several of them.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }
}

/// Requests a page below a URL and waits for the response.
pub fn probe(url: &str, page: &Page, address: Option<&str>, stop: Option<&Stop>) -> Result<Response> {
    let mut request = Request::start(url, page, address)?;
    loop {
        if let Some(response) = request.advance()? {
            return Ok(response);
        }
        stop.map_or(Ok(()), Stop::check)?;
        process::wait_any(std::iter::once(&request.task), Instant::now() + Duration::from_secs(1), stop);
    }
}

fn curl(url: &str, reads_body: bool, address: Option<&str>) -> Command {
    let mut command = process::command("curl");
    // `-q` ignores a user's own config. curl would expand brackets and braces in the URL without `--globoff`.
    command.args(["-q", "-sS", "--globoff", "--proto", "=http,https", "-D", "-"]);
    command.arg("--suppress-connect-headers");
    command.args(["-o", if reads_body { "-" } else { "/dev/null" }]);
    command.args(["--max-time", RESPONSE_TIMEOUT, "-w", "\nstatus %{http_code}\ntook %{time_total}\n"]);
    if let Some(address) = address {
        let (url, address) = at(url, address);
        command.args(["--noproxy", "*", "--connect-to", &format!("::{address}"), "--", &url]);
    } else {
        command.arg("--").arg(url);
    }
    command
}

/// Returns the URL and the host and port at which a server gets a request for a public URL. A server whose address
/// begins with `http://` speaks plain HTTP, behind a front end that speaks TLS.
fn at<'a>(url: &'a str, address: &'a str) -> (Cow<'a, str>, &'a str) {
    match (address.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(address), Some(rest)) => (format!("http://{rest}").into(), address),
        (Some(address), None) => (url.into(), address),
        (None, _) => (url.into(), address),
    }
}

/// Returns the headers and the body of a response, without the interim responses before it (RFC 9110, 15.2), such as
/// 103 Early Hints, and without what curl reports about it.
fn split(stdout: &str) -> (&str, &str) {
    let (mut rest, _) = stdout.rsplit_once("\nstatus ").unwrap_or((stdout, ""));
    loop {
        let (headers, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
        let is_interim = headers.split(' ').nth(1).is_some_and(|status| status.starts_with('1'));
        if !is_interim || !body.starts_with("HTTP/") {
            return (headers, body);
        }
        rest = body;
    }
}

/// Parses the headers of a response, and what curl reports about it.
#[must_use]
pub fn parse(stdout: &str, is_ok: bool, elapsed: Duration) -> Response {
    let last = |key: &str| stdout.lines().rev().find_map(|line| line.strip_prefix(key));
    let status = last("status ").and_then(|status| status.parse().ok());
    // Starting curl is not part of the server's response time.
    let took = last("took ").and_then(|took| Duration::try_from_secs_f64(took.parse().ok()?).ok());
    let served_by = split(stdout).0.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-served-by").then(|| truncated(value.trim(), MAX_NAME_CHARS).into_owned())
    });
    let result = match status {
        Some(status) if is_ok => Ok(status),
        _ => Err("does not respond".into()),
    };
    Response { result, took: took.unwrap_or(elapsed), served_by }
}

/// Joins the public URL and a path.
#[must_use]
pub fn join_url(url: &str, path: &str) -> String {
    format!("{}{path}", url.trim_end_matches('/'))
}

/// Returns the command that sends the same request.
#[must_use]
pub fn try_it(url: &str, address: &str) -> String {
    let (url, address) = at(url, address);
    format!("`curl -v --globoff --noproxy '*' --connect-to ::{address} '{url}'`")
}

/// Requests until `healthy` responses in a row are good; returns the problem of the last one if the time is up before. The
/// last request begins, and the time runs, once the latch is open.
pub fn until_healthy(
    (healthy, within): (u32, Duration),
    latch: &Latch,
    stop: Option<&Stop>,
    mut probe: impl FnMut() -> Result<Response>,
) -> Result<Option<String>> {
    let mut good = 0;
    loop {
        stop.map_or(Ok(()), Stop::check)?;
        if good + 1 >= healthy {
            latch.wait(stop)?;
        }
        let response = probe()?;
        good = if response.is_good() { good + 1 } else { 0 };
        if good >= healthy {
            return Ok(None);
        }
        if latch.opened().is_some_and(|opened| opened.elapsed() >= within) {
            let within = humantime::format_duration(within);
            let few = || format!("responds, but not {healthy} times in a row within {within}");
            return Ok(Some(if response.is_good() { few() } else { response.words() }));
        }
        thread::sleep(Duration::from_millis(if good > 0 { 50 } else { 500 }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_behind_a_front_end_speaks_plain_http() {
        let line = |address| try_it("https://shop.example/a", address);
        assert_eq!(
            line("http://127.0.0.1:8001"),
            "`curl -v --globoff --noproxy '*' --connect-to ::127.0.0.1:8001 'http://shop.example/a'`"
        );
        assert_eq!(
            line("10.0.0.3:443"),
            "`curl -v --globoff --noproxy '*' --connect-to ::10.0.0.3:443 'https://shop.example/a'`"
        );
    }

    #[test]
    fn only_the_headers_of_the_final_response_name_the_server() {
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
        let last = "HTTP/1.1 200 OK\r\nX-Served-By: green\r\n\r\n";
        let page = "X-Served-By: blue\r\n\r\nHTTP/1.1 100 x";
        let end = "\nstatus 200\ntook 0.005\n";
        for (output, server) in [
            (format!("{early}{early}{last}{page}{end}"), Some("green")),
            (format!("HTTP/2 200 \r\nServer: nginx\r\n\r\n{page}{end}"), None),
        ] {
            let response = parse(&output, true, Duration::ZERO);
            assert_eq!(response.served_by.as_deref(), server);
            assert_eq!((response.result, split(&output).1), (Ok(200), page));
        }
        assert_eq!(split("\nstatus 000\ntook 0\n"), ("", ""));
    }
}
