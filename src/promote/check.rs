//! Requests to a server or to the public address, each with a connection of its own, by `curl`.

use std::thread;
use std::time::{Duration, Instant};

use bluegreen_text::escape_controls;

use super::program;
use crate::error::Result;
use crate::run::signals::Stop;

/// The time in which an answer must come.
const LIMIT: &str = "5";

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, or what is wrong with it.
    pub result: Result<u16, String>,
    /// The time that it took.
    pub took: Duration,
    /// The header `X-Served-By`.
    pub served_by: Option<String>,
}

impl Answer {
    /// Returns whether the status is 2xx or 3xx.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.result, Ok(200..400))
    }

    /// The failure in words.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.result {
            Ok(status) => format!("answers {status}"),
            Err(problem) => problem.clone(),
        }
    }

    /// The same answer, which counts as failed if it comes from one of these servers.
    #[must_use]
    pub fn not_from(mut self, foreign: &[String]) -> Self {
        if let Some(server) = self.served_by.as_ref().filter(|server| foreign.contains(server)) {
            self.result = Err(format!("is answered by {server}, which is on the other side"));
        }
        self
    }
}

/// Asks for a URL; at `address` where that is given, under the public name.
pub fn ask(url: &str, address: Option<&str>) -> Result<Answer> {
    let mut command = program::command("curl");
    command.args(["-q", "-sS", "-o", "/dev/null", "-D", "-", "--max-time", LIMIT]);
    command.args(["-w", "\nstatus %{http_code}\ntook %{time_total}\n"]);
    if let Some(address) = address {
        command.args(["--noproxy", "*", "--connect-to", &format!("::{address}")]);
    }
    command.arg("--").arg(url);
    let started = Instant::now();
    let output = program::run(&mut command, Duration::from_secs(10), None)?;
    let status = output.stdout.lines().rev().find_map(|line| line.strip_prefix("status ")?.parse().ok());
    // Its own start is not the server's time.
    let took = output.stdout.lines().rev().find_map(|line| line.strip_prefix("took ")?.parse().ok());
    let took = took.map_or_else(|| started.elapsed(), Duration::from_secs_f64);
    let served_by = output.stdout.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-served-by").then(|| escape_controls(value.trim()))
    });
    let result = match status {
        Some(status) if output.is_ok() => Ok(status),
        _ => Err(format!("does not answer: {}", output.words())),
    };
    Ok(Answer { result, took, served_by })
}

/// The URL of a path of the public address.
#[must_use]
pub fn place(url: &str, path: &str) -> String {
    format!("{}{path}", url.trim_end_matches('/'))
}

/// The line by which somebody asks the same.
#[must_use]
pub fn try_it(url: &str, address: &str) -> String {
    format!("`curl -v --connect-to ::{address} {url}`")
}

/// Asks until so many answers in a row are good; after that time, gives the problem of the last one.
pub fn until_healthy(
    (healthy, within): (u32, Duration),
    stop: Option<&Stop>,
    mut ask: impl FnMut() -> Result<Answer>,
) -> Result<Option<String>> {
    let deadline = Instant::now() + within;
    let mut good = 0;
    loop {
        stop.map_or(Ok(()), Stop::check)?;
        let answer = ask()?;
        good = if answer.is_good() { good + 1 } else { 0 };
        if good >= healthy {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            let within = humantime::format_duration(within);
            let few = || format!("answers, but not {healthy} times in a row within {within}");
            return Ok(Some(if answer.is_good() { few() } else { answer.words() }));
        }
        thread::sleep(Duration::from_millis(if good > 0 { 50 } else { 500 }));
    }
}
