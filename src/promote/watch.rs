//! The watch of the public address after a switch: five requests a second, each with a new connection.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::check::{self, Answer};
use crate::error::{Error, Result};
use crate::run::signals::Stop;

/// The time from one request to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// The answers while it watched.
#[derive(Debug, Default)]
pub struct Watched {
    /// The time that each took.
    pub times: Vec<Duration>,
    /// Answers that failed, or came from a server of the other side.
    pub failures: u64,
    /// The first failure.
    pub first: Option<String>,
    /// The servers that answered by their `X-Served-By`.
    pub servers: BTreeSet<String>,
}

impl Watched {
    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.times.len() as u64
    }

    /// The time in which so many of a hundred were answered.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let ms = |percent| self.percentile(percent).as_millis();
        let by = self.servers.iter().cloned().collect::<Vec<_>>().join(", ");
        let by = if by.is_empty() {
            "which server answers cannot be seen (no `X-Served-By`)".into()
        } else {
            format!("answered by {by}")
        };
        format!(
            "{} requests, {} failed, p50 {} ms, p99 {} ms, {by}",
            self.requests(),
            self.failures,
            ms(50),
            ms(99)
        )
    }

    fn add(&mut self, place: &str, answer: Answer) {
        self.times.push(answer.took);
        if !answer.is_good() {
            self.failures += 1;
            self.first.get_or_insert_with(|| format!("{place} {}", answer.words()));
        }
        self.servers.extend(answer.served_by);
    }
}

/// Watches for a while. `foreign` are the servers that must not answer any more, `progress` gets a line now and
/// then. Too many failures end it with an error.
pub fn watch(
    url: &str,
    check: &super::config::Check,
    foreign: &[String],
    stop: &Stop,
    watched: &mut Watched,
    (pause, progress): (Duration, impl Fn(&str)),
) -> Result<()> {
    let (sender, answers) = channel();
    let started = Instant::now();
    let mut next = started;
    let mut shown = started;
    let mut asked = 0usize;
    while started.elapsed() < check.watch || watched.times.len() < asked {
        stop.check()?;
        if Instant::now() >= next && started.elapsed() < check.watch {
            next += PAUSE;
            let sender = sender.clone();
            let place = check::place(url, &check.paths[asked % check.paths.len()]);
            asked += 1;
            // A slow answer must not hold up the next request.
            thread::spawn(move || {
                let answer = check::ask(&place, None);
                sender.send((place, answer))
            });
        }
        if let Ok((place, answer)) = answers.recv_timeout(Duration::from_millis(20)) {
            watched.add(&place, answer?.not_from(foreign));
        }
        if shown.elapsed() >= pause {
            shown = Instant::now();
            let pace = watched.requests() as f64 / started.elapsed().as_secs_f64();
            progress(&format!("{}, {pace:.1} answers a second", watched.line()));
        }
        if watched.failures > check.tolerate {
            return Err(Error::Promotion {
                problem: watched.first.clone().unwrap_or_default(),
                hint: "see the logs of that side; if so many answers may fail, raise `tolerate` in .promote.toml".into(),
            });
        }
    }
    Ok(())
}
