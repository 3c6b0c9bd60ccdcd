//! Requests to a server or to the public address, each with a connection of its own, by `curl`.

use std::time::{Duration, Instant};

use super::program;
use crate::error::{Error, Result};
use crate::run::signals::Stop;

/// The time in which an answer must come.
const LIMIT: &str = "5";

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, or the reason for which there is none.
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
            Err(reason) => format!("does not answer: {reason}"),
        }
    }
}

/// Asks for a path of `url`; at `address` where that is given, under the public name.
pub fn ask(url: &str, path: &str, address: Option<&str>) -> Result<Answer> {
    let mut command = program::command("curl");
    command.args([
        "-q",
        "-sS",
        "-o",
        "/dev/null",
        "-D",
        "-",
        "-w",
        "\nstatus %{http_code}\ntook %{time_total}\n",
        "--max-time",
        LIMIT,
    ]);
    if let Some(address) = address {
        command.args(["--noproxy", "*", "--connect-to", &format!("::{address}")]);
    }
    command.arg("--").arg(format!("{}{path}", url.trim_end_matches('/')));
    let started = Instant::now();
    let output = program::run(&mut command, Duration::from_secs(10), None)?;
    let status = output.stdout.lines().rev().find_map(|line| line.strip_prefix("status ")?.parse().ok());
    // Its own start is not the server's time.
    let took = output.stdout.lines().rev().find_map(|line| line.strip_prefix("took ")?.parse().ok());
    let took = took.map_or_else(|| started.elapsed(), Duration::from_secs_f64);
    let served_by = output.stdout.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-served-by").then(|| value.trim().to_owned())
    });
    let result = match status {
        Some(status) if output.is_ok() => Ok(status),
        _ => Err(output.words()),
    };
    Ok(Answer { result, took, served_by })
}

/// Asks until so many answers in a row are good, or the time is over.
pub fn until_healthy(
    healthy: u32,
    within: Duration,
    stop: &Stop,
    what: &str,
    mut ask: impl FnMut() -> Result<Answer>,
) -> Result<()> {
    let deadline = Instant::now() + within;
    let mut good = 0;
    loop {
        stop.check()?;
        let answer = ask()?;
        good = if answer.is_good() { good + 1 } else { 0 };
        if good >= healthy {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::Promotion {
                problem: format!("{what} {}", answer.words()),
                hint: "see why with `curl -v`, and mend that side first; `--force` promotes it as it is"
                    .into(),
            });
        }
        std::thread::sleep(Duration::from_millis(if good > 0 { 50 } else { 500 }));
    }
}
