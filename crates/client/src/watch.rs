//! The watch of the public address after a switch: five requests a second, each with a new connection, and the user's
//! own commands every five seconds.

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::check_config::Page;
use crate::error::{Error, Result};
use crate::observer::Observer;
use crate::probe::{Request, Response, join_url};
use crate::user_command::UserCommand;
use bluegreen_process::signals::Stop;
use bluegreen_process::{Task, wait_any};
use bluegreen_report::Report;
use bluegreen_text::count;

/// The time from one request to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// The maximum number of requests in flight: a response takes up to five seconds.
const MAX_IN_FLIGHT: usize = 32;

/// The time from one run of the commands to the next.
const COMMAND_PAUSE: Duration = Duration::from_secs(5);

/// The timeout of a command.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of slow responses that are always tolerated: the 99th percentile of a short watch would be its slowest
/// response.
const MIN_SLOW: u64 = 2;

/// The maximum number of servers that are listed.
const MAX_SERVERS: usize = 100;

/// The rules of a watch.
#[derive(Debug)]
pub struct Rules<'a> {
    /// The time for which the address is watched.
    pub duration: Duration,
    /// The failures that are tolerated.
    pub tolerate: u64,
    /// The percentage of the requests that the judged side gets.
    pub percent: u8,
    /// The limit of the 99th percentile of the response time.
    pub limit: Option<Duration>,
    /// The servers that must not respond.
    pub foreign: &'a [String],
    /// The commands that must succeed.
    pub commands: Vec<UserCommand<'a>>,
    /// Receives the responses.
    pub observer: Observer,
}

impl Rules<'_> {
    /// Fails as soon as it is certain that the watch will have too many failures or slow responses.
    fn check(&self, watched: &Watched) -> Result<()> {
        let watched = watched.own.as_ref().map_or(watched, |own| &own.1);
        if watched.failures > self.tolerate {
            return Err(Error::Watch(watched.first.clone().unwrap_or_default()));
        }
        let Some(limit) = self.limit else { return Ok(()) };
        let allowed = (expected(self.duration, self.percent) / 100).max(MIN_SLOW);
        let slow = watched.times.iter().filter(|time| **time > limit).count() as u64;
        if slow <= allowed {
            return Ok(());
        }
        Err(Error::Slow { slow, requests: watched.requests(), limit })
    }
}

/// Returns how many requests of a watch of that time go to a side that gets a percentage of them.
#[must_use]
pub fn expected(duration: Duration, percent: u8) -> u64 {
    let all = duration.as_millis() / PAUSE.as_millis();
    u64::try_from(all * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// How the responses of one side are recognized.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// The servers that only this side has.
    pub names: Vec<String>,
    /// The servers that only the other side has.
    pub others: Vec<String>,
}

impl Own {
    /// Returns whether a response counts for this side. A failure that no server of the other side has signed does, too:
    /// the front end itself responds in place of a server that is down.
    fn has(&self, response: &Response) -> bool {
        match &response.served_by {
            Some(name) => self.names.contains(name) || !response.is_good() && !self.others.contains(name),
            None => !response.is_good(),
        }
    }
}

/// Returns the time in which a percentage of the requests got a response; `None` without requests.
#[must_use]
pub fn percentile<T: Ord + Copy>(mut times: Vec<T>, percent: usize) -> Option<T> {
    times.sort_unstable();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied()
}

/// The responses of a watch.
#[derive(Debug, Default)]
pub struct Watched {
    pub times: Vec<Duration>,
    /// The responses that failed, or that came from a server of the other side.
    pub failures: u64,
    pub first: Option<String>,
    /// The response times without those of failures.
    pub good_times: Vec<Duration>,
    /// The servers that responded, by their `X-Served-By`.
    pub servers: BTreeSet<String>,
    /// The responses of the side that is judged, if it gets a part of the requests only. They are among the others, too.
    pub own: Option<Box<(Own, Watched)>>,
}

impl Watched {
    /// Returns the number of requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.times.len() as u64
    }

    /// Returns the time in which a percentage of the requests got a response.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        percentile(self.times.clone(), percent).unwrap_or_default()
    }

    /// Returns the 99th percentile of the good responses; `None` unless most responses were good. A side that is down
    /// fails within milliseconds.
    #[must_use]
    pub fn p99_of_good(&self) -> Option<Duration> {
        let is_representative = self.good_times.len() * 2 > self.times.len();
        percentile(self.good_times.clone(), 99).filter(|_| is_representative)
    }

    /// Formats the responses as one line.
    #[must_use]
    pub fn line(&self) -> String {
        if let Some((own, watched)) = self.own.as_deref() {
            let ms = watched.percentile(99).as_millis();
            let (names, number) = (own.names.join(", "), count(watched.requests(), "response"));
            return format!(
                "{number} of {} by {names}, {} failed, p99 {ms} ms; {} failed in all",
                self.requests(),
                watched.failures,
                self.failures
            );
        }
        let ms = |percent| self.percentile(percent).as_millis();
        let by = self.servers.iter().cloned().collect::<Vec<_>>().join(", ");
        let by = if by.is_empty() {
            "the server cannot be identified (no `X-Served-By`)".into()
        } else {
            format!("served by {by}")
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
        if let Some((own, watched)) = self.own.as_deref_mut()
            && own.has(&response)
        {
            watched.add(url, response.clone());
        }
        self.times.push(response.took);
        if response.is_good() {
            self.good_times.push(response.took);
        } else {
            self.failures += 1;
            self.first.get_or_insert_with(|| format!("{url} {}", response.words()));
        }
        if self.servers.len() < MAX_SERVERS {
            self.servers.extend(response.served_by);
        }
    }
}

/// The runs of the commands.
struct Commands<'a> {
    all: &'a [UserCommand<'a>],
    /// Each command that runs now.
    tasks: Vec<Option<Task>>,
    next: Instant,
    has_started: bool,
}

impl<'a> Commands<'a> {
    fn new(all: &'a [UserCommand<'a>], duration: Duration) -> Self {
        // A watch that is shorter than the pause runs them once.
        let next = Instant::now() + COMMAND_PAUSE.min(duration / 2);
        Self { all, tasks: all.iter().map(|_| None).collect(), next, has_started: false }
    }

    /// Returns whether a command runs, or has not run yet.
    fn is_pending(&self) -> bool {
        self.tasks.iter().any(Option::is_some) || !self.has_started && !self.all.is_empty()
    }

    /// Starts the commands if it is time, and checks those that have ended. A command that still runs is not started
    /// a second time. Commands that have not run before the end of a short watch run then.
    fn advance(&mut self, is_over: bool, stop: &Stop) -> Result<()> {
        let is_due = if is_over { !self.has_started } else { Instant::now() >= self.next };
        if is_due {
            self.next += COMMAND_PAUSE;
            self.has_started = true;
        }
        for (command, slot) in self.all.iter().zip(&mut self.tasks) {
            if is_due && slot.is_none() {
                *slot = Some(command.start()?);
            }
            let Some(task) = slot else { continue };
            if let Poll::Ready(problem) = command.poll(task, Some(stop))? {
                *slot = None;
                if let Some(how) = problem {
                    let command = command.line.trim().to_owned();
                    return Err(Error::WatchCommand { command, how });
                }
            }
        }
        Ok(())
    }
}

/// The requests in flight, each with its URL.
#[derive(Default)]
struct InFlight(Vec<(String, Request)>);

impl InFlight {
    /// Adds the responses that have arrived.
    fn collect(&mut self, watched: &mut Watched, rules: &Rules) -> Result<()> {
        let mut failed = None;
        self.0.retain_mut(|(url, request)| match request.advance() {
            Ok(None) => true,
            Ok(Some(response)) => {
                let response = response.not_from(rules.foreign);
                rules.observer.response(&response);
                watched.add(url, response);
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
    fn send(&mut self, public: &str, page: &Page) -> Result<bool> {
        match Request::start(public, page, None) {
            Ok(request) => {
                self.0.push((join_url(public, &page.path), request));
                Ok(true)
            }
            Err(_) if !self.0.is_empty() => Ok(false),
            Err(error) => Err(Error::CannotWatch { url: public.to_owned(), source: Box::new(error) }),
        }
    }
}

/// Returns how often a watch prints its progress, and how. A log gets a few lines, not one for each second.
pub fn progress(report: &Report, duration: Duration) -> (Duration, impl Fn(&str)) {
    let second = Duration::from_secs(1);
    let pause = if report.is_at_terminal() { second } else { (duration / 3).min(10 * second) };
    let show = |line: &str| {
        let line = format!("  {line}");
        if report.is_at_terminal() { report.progress(line) } else { report.line(line) }
    };
    (pause, show)
}

/// Watches for a while. `progress` receives a line once per `pause`. A watch that breaks the rules ends with an error.
pub fn watch(
    url: &str,
    pages: &[Page],
    rules: &Rules,
    stop: &Stop,
    watched: &mut Watched,
    (pause, progress): (Duration, impl Fn(&str)),
) -> Result<()> {
    let mut in_flight = InFlight::default();
    let started = Instant::now();
    let mut commands = Commands::new(&rules.commands, rules.duration);
    let (mut next, mut shown, mut sent) = (started, started, 0usize);
    while started.elapsed() < rules.duration || !in_flight.0.is_empty() || commands.is_pending() {
        stop.check()?;
        let is_over = started.elapsed() >= rules.duration;
        if Instant::now() >= next && !is_over && in_flight.0.len() < MAX_IN_FLIGHT {
            next += PAUSE;
            let page = &pages[sent % pages.len()];
            sent += usize::from(in_flight.send(url, page)?);
        }
        let wake = if Instant::now() < next { next } else { Instant::now() + PAUSE };
        let requests = in_flight.0.iter().map(|(_, request)| request.task());
        wait_any(requests.chain(commands.tasks.iter().flatten()), wake, Some(stop));
        in_flight.collect(watched, rules)?;
        if shown.elapsed() >= pause {
            shown = Instant::now();
            let pace = watched.requests() as f64 / started.elapsed().as_secs_f64();
            progress(&format!("{}, {pace:.1} responses a second", watched.line()));
        }
        rules.check(watched)?;
        commands.advance(is_over, stop)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, by: Option<&str>) -> Response {
        Response { result: Ok(status), took: Duration::from_millis(5), served_by: by.map(str::to_owned) }
    }

    /// The responses to 600 requests, of which green gets 5%, and all of green's fail.
    fn canary(own: Option<Own>, by: Option<&str>) -> Watched {
        let mut watched =
            Watched { own: own.map(|own| Box::new((own, Watched::default()))), ..Watched::default() };
        for number in 0..600 {
            let response = if number % 20 == 0 { response(500, by) } else { response(200, Some("blue")) };
            watched.add("http://x/", response);
        }
        watched
    }

    #[test]
    fn a_canary_is_judged_by_its_own_responses() {
        let own = Own { names: vec!["green".into()], others: vec!["blue".into()] };
        // 40 failures of 600 requests are tolerated, so 2 of green's 30.
        let rules = |tolerate, percent| Rules {
            duration: Duration::from_secs(120),
            tolerate,
            limit: None,
            percent,
            foreign: &[],
            commands: Vec::new(),
            observer: Observer::default(),
        };
        let total = canary(None, Some("green"));
        assert!(rules(40, 100).check(&total).is_ok(), "the total failure rate is small");
        let judged = canary(Some(own.clone()), Some("green"));
        assert!(rules(2, 5).check(&judged).is_err());
        assert_eq!((judged.failures, judged.own.as_ref().unwrap().1.requests()), (30, 30));
        // The front end responds for a server that is down.
        assert!(rules(2, 5).check(&canary(Some(own.clone()), None)).is_err());
        // Failures of the other side are not the canary's.
        assert!(rules(2, 5).check(&canary(Some(own), Some("blue"))).is_ok());
    }
}
