//! The watch of the public address after a switch: five requests a second, each with a new connection.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::probe::{Request, Response, join_url};
use crate::error::{ClientError, Result};
use bluegreen_process::signals::Stop;
use bluegreen_process::wait_any;
use bluegreen_text::count;

/// The time from one request to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// The most requests in flight: a response takes up to five seconds.
const MAX_IN_FLIGHT: usize = 32;

/// The most servers that are listed.
const MAX_SERVERS: usize = 100;

/// The responses of a watch.
#[derive(Debug, Default)]
pub struct Watched {
    /// The response times.
    pub times: Vec<Duration>,
    /// The responses that failed, or that came from a server of the other side.
    pub failures: u64,
    /// The first failure.
    pub first: Option<String>,
    /// The servers that answered, by their `X-Served-By`.
    pub servers: BTreeSet<String>,
}

impl Watched {
    /// Returns the number of requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.times.len() as u64
    }

    /// Returns the time in which a percentage of the requests were answered.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Formats the responses as one line.
    #[must_use]
    pub fn line(&self) -> String {
        let ms = |percent| self.percentile(percent).as_millis();
        let by = self.servers.iter().cloned().collect::<Vec<_>>().join(", ");
        let by = if by.is_empty() {
            "the server cannot be identified (no `X-Served-By`)".into()
        } else {
            format!("answered by {by}")
        };
        format!(
            "{}, {} failed, p50 {} ms, p99 {} ms, {by}",
            count(self.requests(), "request"),
            self.failures,
            ms(50),
            ms(99)
        )
    }

    fn add(&mut self, url: &str, response: Response) {
        self.times.push(response.took);
        if !response.is_good() {
            self.failures += 1;
            self.first.get_or_insert_with(|| format!("{url} {}", response.words()));
        }
        if self.servers.len() < MAX_SERVERS {
            self.servers.extend(response.served_by);
        }
    }
}

/// The requests in flight, each with its URL.
#[derive(Default)]
struct InFlight(Vec<(String, Request)>);

impl InFlight {
    /// Adds the responses that have arrived.
    fn collect(&mut self, watched: &mut Watched, foreign: &[String]) -> Result<()> {
        let mut failed = None;
        self.0.retain_mut(|(url, request)| match request.advance() {
            Ok(None) => true,
            Ok(Some(response)) => {
                watched.add(url, response.not_from(foreign));
                false
            }
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// Sends a request. If the system has no process left, it is tried again once the others have finished.
    fn send(&mut self, url: &str, public: &str) -> Result<bool> {
        match Request::start(url, None) {
            Ok(request) => {
                self.0.push((url.to_owned(), request));
                Ok(true)
            }
            Err(_) if !self.0.is_empty() => Ok(false),
            Err(error) => {
                Err(ClientError::CannotWatch { url: public.to_owned(), source: Box::new(error) }.into_error())
            }
        }
    }
}

/// Watches for a while. `foreign` are the servers that must not answer, and `progress` receives a line once per `pause`.
/// More failures than the config tolerates end it with an error.
pub fn watch(
    url: &str,
    check: &super::config::Check,
    foreign: &[String],
    stop: &Stop,
    watched: &mut Watched,
    (pause, progress): (Duration, impl Fn(&str)),
) -> Result<()> {
    let mut in_flight = InFlight::default();
    let started = Instant::now();
    let (mut next, mut shown, mut sent) = (started, started, 0usize);
    while started.elapsed() < check.watch || !in_flight.0.is_empty() {
        stop.check()?;
        let is_due = Instant::now() >= next && started.elapsed() < check.watch;
        if is_due && in_flight.0.len() < MAX_IN_FLIGHT {
            next += PAUSE;
            let path = &check.paths[sent % check.paths.len()];
            sent += usize::from(in_flight.send(&join_url(url, path), url)?);
        }
        let wake = if Instant::now() < next { next } else { Instant::now() + PAUSE };
        wait_any(in_flight.0.iter().map(|(_, request)| request.task()), wake, Some(stop));
        in_flight.collect(watched, foreign)?;
        if shown.elapsed() >= pause {
            shown = Instant::now();
            let pace = watched.requests() as f64 / started.elapsed().as_secs_f64();
            progress(&format!("{}, {pace:.1} responses a second", watched.line()));
        }
        if watched.failures > check.tolerate {
            return Err(ClientError::Watch(watched.first.clone().unwrap_or_default()).into_error());
        }
    }
    Ok(())
}
