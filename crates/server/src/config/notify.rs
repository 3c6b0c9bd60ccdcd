//! `[notify]`: the shell commands that receive the outcome of each deployment, rollback, and promotion.

use std::time::Duration;

use serde::Deserialize;

use super::steps::{Step, StepList};

/// The default timeout of a command. It is short, because the pusher waits.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The `[notify]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Raw")]
pub struct Notify(Vec<Step>);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    run: StepList,
    #[serde(default = "timeout", deserialize_with = "super::values::duration")]
    timeout: Duration,
}

fn timeout() -> Duration {
    TIMEOUT
}

impl From<Raw> for Notify {
    fn from(raw: Raw) -> Self {
        Self(raw.run.with_default_timeout(raw.timeout))
    }
}

impl Notify {
    /// Iterates over the commands, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Step> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn lines_are_written_as_steps_are() {
        let text = "[notify]\nrun = ['logger', { name = 'chat', run = 'curl x', timeout = '3s' }]\n";
        let notify = Config::parse(text).unwrap().notify;
        let lines: Vec<_> = notify.iter().map(|line| (line.name.as_str(), line.timeout.as_secs())).collect();
        assert_eq!(lines, [("logger", 10), ("chat", 3)]);
        let notify = Config::parse("[notify]\nrun = 'x'\ntimeout = '1m'\n").unwrap().notify;
        assert_eq!(notify.iter().next().unwrap().timeout.as_secs(), 60);
    }

    #[test]
    fn errors_name_the_key() {
        for (text, message) in [
            ("run = ['x', '']", "`notify.run[1]`: expected a shell line"),
            ("run = 5", "`notify.run`: invalid type: integer `5`, expected a shell line"),
            ("timeout = 'soon'", "`notify.timeout`: invalid duration `soon`"),
            ("mail = 'x'", "unknown field `mail`, expected `run` or `timeout`"),
        ] {
            let (line, error) = Config::parse(&format!("[notify]\n{text}")).unwrap_err();
            assert!(line == 2 && error.starts_with(message), "{text}: {line}: {error}");
        }
    }
}
