//! The `[canary]` section of `.promote.toml`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::values::duration;

/// The `[canary]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Canary {
    /// The steps before the switch.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The percentage of requests that the side gets.
    #[serde(deserialize_with = "percent")]
    pub weight: u8,
    /// The time for which it gets them.
    #[serde(rename = "for", deserialize_with = "duration")]
    pub duration: Duration,
}

fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let weight = i64::deserialize(from)?;
    let weight = u8::try_from(weight).ok().filter(|weight| (1..=99).contains(weight));
    weight.ok_or_else(|| de::Error::custom("a weight is a percentage from 1 to 99"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_a_percentage_and_a_time() {
        let canary = |text: &str| toml::from_str::<Canary>(&format!("steps = [{text}]"));
        let step = Step { weight: 5, duration: Duration::from_secs(120) };
        assert_eq!(canary("{ weight = 5, for = '2m' }").unwrap().steps, [step]);
        for wrong in [
            "{ weight = 5 }",
            "{ for = '2m' }",
            "{ weight = 0, for = '2m' }",
            "{ weight = 100, for = '2m' }",
            "5",
            "{ weight = -1, for = '2m' }",
            "{ weight = 5, for = 2 }",
            "{ weight = 5, for = '2m', x = 1 }",
        ] {
            assert!(canary(wrong).is_err(), "{wrong}");
        }
    }
}
