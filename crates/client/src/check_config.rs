//! The `[check]` and `[watch]` sections of `.promote.toml`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::values::duration;

/// The time for which a side is checked, and for which the public address is watched, unless the config sets it.
const DEFAULT_DURATION: Duration = Duration::from_secs(30);

/// The response time above the old side's that is considered noise: a relative limit is at least this much higher.
const NOISE: Duration = Duration::from_millis(20);

/// The `[check]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Check {
    /// The paths that must return 2xx or 3xx.
    pub paths: Vec<Page>,
    /// The number of good responses in a row.
    pub healthy: u32,
    /// The time in which they must arrive, and the timeout of each command.
    #[serde(deserialize_with = "duration")]
    pub within: Duration,
    /// The commands that must succeed for each server.
    #[serde(deserialize_with = "commands")]
    pub run: Vec<String>,
    /// The same as `for` in `[watch]`.
    #[serde(deserialize_with = "some_duration")]
    watch: Option<Duration>,
    /// The same as `tolerate` in `[watch]`.
    tolerate: Option<u64>,
}

impl Default for Check {
    fn default() -> Self {
        let root = Page { path: "/".into(), contains: None };
        Self {
            paths: vec![root],
            healthy: 3,
            within: DEFAULT_DURATION,
            run: Vec::new(),
            watch: None,
            tolerate: None,
        }
    }
}

impl Check {
    /// Returns the problem of the section and a hint, if it has one.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        if self.paths.is_empty() || !self.paths.iter().all(|page| page.path.starts_with('/')) {
            return Some(("each of `paths` must begin with a slash", "write `paths = [\"/\"]`"));
        }
        if self.paths.iter().any(|page| page.contains.as_deref() == Some("")) {
            return Some(("`contains` must not be empty", "write a text that the page contains"));
        }
        (self.healthy == 0).then_some(("`healthy` must be at least 1", "leave it out for 3"))
    }
}

/// A page that is requested.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "RawPage")]
pub struct Page {
    /// The path, which begins with a slash.
    pub path: String,
    /// The text that the response must contain.
    pub contains: Option<String>,
}

/// A page as the config has it.
#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a path like \"/\", or { path = \"/\", contains = \"text\" }"
)]
enum RawPage {
    Path(String),
    Table { path: String, contains: Option<String> },
}

impl From<RawPage> for Page {
    fn from(page: RawPage) -> Self {
        match page {
            RawPage::Path(path) => Self { path, contains: None },
            RawPage::Table { path, contains } => Self { path, contains },
        }
    }
}

/// The `[watch]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Watch {
    /// The time for which the public address is watched.
    #[serde(rename = "for", deserialize_with = "some_duration")]
    duration: Option<Duration>,
    /// The commands that are run every few seconds.
    #[serde(deserialize_with = "commands")]
    pub run: Vec<String>,
    /// The limit of the 99th percentile of the response times.
    pub p99: Option<Limit>,
    /// The failures that are tolerated before it goes back.
    tolerate: Option<u64>,
}

impl Watch {
    /// Returns the problem of the section and a hint, if it has one.
    #[must_use]
    pub fn problem(&self, check: &Check) -> Option<(&'static str, &'static str)> {
        if self.duration.is_some() && check.watch.is_some() {
            let problem = "`for` in `[watch]` and `watch` in `[check]` mean the same";
            return Some((problem, "remove `watch` from `[check]`"));
        }
        (self.tolerate.is_some() && check.tolerate.is_some())
            .then_some(("`tolerate` is in both `[watch]` and `[check]`", "remove it from `[check]`"))
    }

    /// Returns the time for which the public address is watched.
    #[must_use]
    pub fn duration(&self, check: &Check) -> Duration {
        self.duration.or(check.watch).unwrap_or(DEFAULT_DURATION)
    }

    /// Returns the failures that are tolerated.
    #[must_use]
    pub fn tolerate(&self, check: &Check) -> u64 {
        self.tolerate.or(check.tolerate).unwrap_or(0)
    }
}

/// The limit of a response time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// A multiple of what the old side takes.
    Relative(f64),
    /// A time.
    Absolute(Duration),
}

impl Limit {
    /// Returns the limit as a time. `old` is what the old side takes, if it was measured.
    #[must_use]
    pub fn time(self, old: Option<Duration>) -> Option<Duration> {
        match (self, old) {
            (Self::Absolute(limit), _) => Some(limit),
            (Self::Relative(factor), Some(old)) => Some(old.mul_f64(factor).max(old + NOISE)),
            (Self::Relative(_), None) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let factor = text.strip_suffix('x').and_then(|factor| factor.trim_end().parse::<f64>().ok());
        let time = || humantime::parse_duration(&text).ok().filter(|time| !time.is_zero());
        match factor {
            Some(factor) if (1.0..=1000.0).contains(&factor) => Ok(Self::Relative(factor)),
            Some(_) => Err(de::Error::custom(format!("invalid factor `{text}`, expected 1x to 1000x"))),
            None => time().map(Self::Absolute).ok_or_else(|| {
                de::Error::custom(format!("invalid limit `{text}`, expected one like \"2x\" or \"500ms\""))
            }),
        }
    }
}

fn some_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

/// Deserializes a list of shell commands.
fn commands<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let commands = Vec::<String>::deserialize(from)?;
    if commands.iter().any(|command| command.trim().is_empty() || command.contains('\0')) {
        return Err(de::Error::custom("expected shell commands like \"./smoke-test\""));
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_factor_or_a_time() {
        let limit = |text: &str| toml::from_str::<Watch>(&format!("p99 = '{text}'")).map(|watch| watch.p99);
        let ms = Duration::from_millis;
        assert_eq!(limit("2x").unwrap(), Some(Limit::Relative(2.0)));
        assert_eq!(limit("500ms").unwrap(), Some(Limit::Absolute(ms(500))));
        for text in ["2", "x", "0x", "-2x", "0.5x", "NaNx", "infx", "0s", "fast"] {
            assert!(limit(text).is_err(), "{text}");
        }
        assert_eq!(Limit::Relative(2.0).time(Some(ms(50))), Some(ms(100)));
        // The difference between 1 ms and 3 ms is noise.
        assert_eq!(Limit::Relative(2.0).time(Some(ms(1))), Some(ms(21)));
        assert_eq!(Limit::Relative(2.0).time(None), None);
    }

    #[test]
    fn old_keys_keep_their_meaning() {
        let read = |check: &str, watch: &str| {
            let check: Check = toml::from_str(check).unwrap();
            let watch: Watch = toml::from_str(watch).unwrap();
            (watch.problem(&check).is_none(), watch.duration(&check).as_secs(), watch.tolerate(&check))
        };
        assert_eq!(read("", ""), (true, 30, 0));
        assert_eq!(read("watch = '5s'\ntolerate = 2", ""), (true, 5, 2));
        assert_eq!(read("", "for = '5s'\ntolerate = 2"), (true, 5, 2));
        assert!(!read("watch = '5s'", "for = '5s'").0 && !read("tolerate = 2", "tolerate = 2").0);
    }

    #[test]
    fn a_page_is_a_path_or_a_table() {
        let check: Check =
            toml::from_str("paths = ['/', { path = '/a', contains = 'b' }, { path = '/c' }]").unwrap();
        let page = |path: &str, contains: Option<&str>| Page {
            path: path.into(),
            contains: contains.map(str::to_owned),
        };
        assert_eq!(check.paths, [page("/", None), page("/a", Some("b")), page("/c", None)]);
        for wrong in ["[{ contains = 'b' }]", "[5]", "[{ path = '/', contain = 'b' }]"] {
            assert!(toml::from_str::<Check>(&format!("paths = {wrong}")).is_err(), "{wrong}");
        }
    }
}
