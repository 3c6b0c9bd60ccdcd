//! Deserializers for single values of `.promote.toml`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Stands for the key in messages, which is known where the file is read.
pub const KEY: &str = "{key}";

/// The maximum duration in a config: deadlines are computed from it.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Deserializes a duration with a unit.
pub fn duration<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Duration, D::Error> {
    /// Anything that a duration may be mistaken for.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Text(String),
        Number(f64),
        Other(serde::de::IgnoredAny),
    }
    let wrong = |problem: String| Err(serde::de::Error::custom(problem));
    match Raw::deserialize(from)? {
        Raw::Text(text) => match humantime::parse_duration(&text) {
            Ok(duration) if duration <= MAX_DURATION => Ok(duration),
            Ok(_) => wrong(format!("`{text}` is too long: write at most \"365d\"")),
            Err(error) => {
                wrong(format!("invalid duration `{text}`: {error}; write a number and a unit: \"30s\""))
            }
        },
        Raw::Number(number) => wrong(format!("`{KEY}` needs a unit: `{KEY} = \"{number}s\"`")),
        Raw::Other(_) => wrong(format!("`{KEY}` is a duration: `{KEY} = \"30s\"`")),
    }
}
