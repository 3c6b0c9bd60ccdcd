//! `[public]`: the steps that run on a server when its side becomes public, or stops being public.

use std::time::Duration;

use serde::Deserialize;

use super::steps::{Step, StepList, TIMEOUT};

/// The time for which the release that visitors had stays untouched, by default.
const SETTLE: Duration = Duration::from_secs(60);

/// The `[public]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Raw")]
pub struct PublicConfig {
    /// The steps that run when the side becomes public.
    pub enter: Vec<Step>,
    /// The steps that run when it stops being public.
    pub leave: Vec<Step>,
    /// The time for which the release that visitors had is neither recycled nor pruned after leaving.
    pub settle: Duration,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Raw {
    enter: StepList,
    leave: StepList,
    #[serde(deserialize_with = "super::values::some_duration")]
    timeout: Option<Duration>,
    #[serde(deserialize_with = "super::values::some_duration")]
    settle: Option<Duration>,
}

impl From<Raw> for PublicConfig {
    fn from(raw: Raw) -> Self {
        let timeout = raw.timeout.unwrap_or(TIMEOUT);
        Self {
            enter: raw.enter.with_default_timeout(timeout),
            leave: raw.leave.with_default_timeout(timeout),
            settle: raw.settle.unwrap_or(SETTLE),
        }
    }
}

impl Default for PublicConfig {
    fn default() -> Self {
        Raw::default().into()
    }
}

impl PublicConfig {
    /// Returns whether the config has steps for the role of the side.
    #[must_use]
    pub fn has_steps(&self) -> bool {
        !self.enter.is_empty() || !self.leave.is_empty()
    }

    /// Returns the maximum time that the steps may take.
    #[must_use]
    pub fn within(&self) -> Duration {
        let of = |steps: &[Step]| steps.iter().map(|step| step.timeout).sum::<Duration>();
        of(&self.enter).max(of(&self.leave))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn steps_are_written_as_those_of_deployments() {
        let text = "[public]\nenter = ['a', { run = 'b', timeout = '1m' }]\nleave = 'c'\n";
        let public = Config::parse(text).unwrap().public;
        let lines: Vec<_> = public
            .enter
            .iter()
            .chain(&public.leave)
            .map(|step| (step.run.as_str(), step.timeout.as_secs()))
            .collect();
        assert_eq!(lines, [("a", 600), ("b", 60), ("c", 600)]);
        assert_eq!((public.settle, public.within()), (SETTLE, Duration::from_secs(660)));
        let public = Config::parse("[public]\nleave = 'c'\ntimeout = '5s'\nsettle = '0s'\n").unwrap().public;
        assert_eq!((public.settle, public.within()), (Duration::ZERO, Duration::from_secs(5)));
        assert!(!Config::default().public.has_steps());
    }

    #[test]
    fn errors_name_the_key() {
        for (text, message) in [
            ("enter = ['x', '']", "`public.enter[1]`: expected a shell line"),
            ("settle = 'soon'", "`public.settle`: invalid duration `soon`"),
            ("url = 'x'", "unknown field `url`, expected one of `enter`, `leave`"),
        ] {
            let (line, error) = Config::parse(&format!("[public]\n{text}")).unwrap_err();
            assert!(line == 2 && error.starts_with(message), "{text}: {line}: {error}");
        }
    }
}
