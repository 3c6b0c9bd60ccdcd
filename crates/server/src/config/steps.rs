//! `[steps]`: the commands that build, check, restart, and verify a release.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bluegreen_text::MAX_NAME_CHARS;
use serde::{Deserialize, Deserializer, de};

use super::shared::RelativePath;

/// The default timeout of a step.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// The phase of a deployment in which a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before activation: creates files that are not in the commit.
    Build,
    /// Before activation: fails if the release must not be activated.
    Check,
    /// After activation: restarts services.
    Restart,
    /// After activation: fails if the site does not work.
    Verify,
}

/// The phases in order, with their names in the config and in messages.
const PHASES: [(Phase, &str); 4] = [
    (Phase::Build, "build"),
    (Phase::Check, "check"),
    (Phase::Restart, "restart"),
    (Phase::Verify, "verify"),
];

/// The `[steps]` section: the steps of each phase, in the order of [`PHASES`].
#[derive(Debug, Clone, Default)]
pub struct StepsConfig([Vec<Step>; PHASES.len()]);

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name in messages, progress lines, history, and logs.
    pub name: String,
    /// The shell command, run with `sh -c`.
    pub run: String,
    pub timeout: Duration,
    /// The files and directories of the commit that the step depends on. The paths are relative and stay inside the release.
    pub inputs: Vec<PathBuf>,
    /// The files and directories that the step creates, and that later releases can copy. Empty if the step always runs.
    pub outputs: Vec<PathBuf>,
}

/// The value of a phase in the config: one step, or a list of steps.
#[derive(Default)]
pub(super) struct StepList(Vec<RawStep>);

/// A step in the config: a table, or a shell command, which stands for a table with only `run`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawStep {
    name: Option<String>,
    run: String,
    #[serde(default, deserialize_with = "super::values::some_duration")]
    timeout: Option<Duration>,
    #[serde(default)]
    inputs: Vec<RelativePath>,
    #[serde(default)]
    outputs: Vec<RelativePath>,
}

/// An element of a list of steps. It is not a list itself.
struct OneStep(RawStep);

/// The expected form of a step, for errors.
const FORM: &str = "a shell line, `{ name = \"health\", run = \"...\", timeout = \"5m\" }`";

impl<'de> Deserialize<'de> for StepList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor).map(Self)
    }
}

impl StepList {
    /// Returns the steps, with `default` as the timeout of those that have none.
    pub(super) fn with_default_timeout(self, default: Duration) -> Vec<Step> {
        let paths = |paths: Vec<RelativePath>| paths.into_iter().map(PathBuf::from).collect();
        let step = |RawStep { name, run, timeout, inputs, outputs }| Step {
            name: name.unwrap_or_else(|| first_line(&run)),
            run,
            timeout: timeout.unwrap_or(default),
            inputs: paths(inputs),
            outputs: paths(outputs),
        };
        self.0.into_iter().map(step).collect()
    }
}

impl<'de> Deserialize<'de> for OneStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let StepList(mut steps) = StepList::deserialize(deserializer)?;
        match (steps.pop(), steps.is_empty()) {
            (Some(step), true) => Ok(Self(step)),
            _ => Err(de::Error::custom(format_args!("expected {FORM}"))),
        }
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Vec<RawStep>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{FORM}, or a list of these")
    }

    fn visit_str<E: de::Error>(self, run: &str) -> Result<Self::Value, E> {
        let (inputs, outputs) = (Vec::new(), Vec::new());
        checked(RawStep { name: None, run: run.to_owned(), timeout: None, inputs, outputs })
            .map(|step| vec![step])
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let table = RawStep::deserialize(de::value::MapAccessDeserializer::new(map))?;
        checked(table).map(|step| vec![step])
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut steps = Vec::new();
        while let Some(OneStep(step)) = list.next_element()? {
            steps.push(step);
        }
        Ok(steps)
    }
}

fn checked<E: de::Error>(step: RawStep) -> Result<RawStep, E> {
    let is_name = |name: &str| {
        !name.trim().is_empty() && name.chars().count() <= MAX_NAME_CHARS && !name.contains(char::is_control)
    };
    if step.run.trim().is_empty() || step.run.contains('\0') {
        Err(E::custom("expected a shell line like \"npm ci\""))
    } else if step.timeout == Some(Duration::ZERO) {
        Err(E::custom("invalid timeout 0, expected one like \"5m\""))
    } else if step.name.as_deref().is_some_and(|name| !is_name(name)) {
        Err(E::custom("expected a name like \"health\", one line of at most 100 characters"))
    } else if step.inputs.is_empty() != step.outputs.is_empty() {
        Err(E::custom("a step that is to be skipped needs both `inputs` and `outputs`"))
    } else if is_nested(&step.outputs) {
        Err(E::custom("an output is listed twice or is inside another one"))
    } else {
        Ok(step)
    }
}

/// Returns whether one of the paths equals another one or is inside it.
fn is_nested(paths: &[RelativePath]) -> bool {
    let mut paths: Vec<&Path> = paths.iter().map(AsRef::as_ref).collect();
    // A path directly precedes those inside it.
    paths.sort_unstable();
    paths.windows(2).any(|pair| pair[1].starts_with(pair[0]))
}

/// A key of `[steps]`: a phase, or `timeout`.
struct Key(Option<Phase>);

const KEYS: [&str; PHASES.len() + 1] = {
    let mut keys = ["timeout"; PHASES.len() + 1];
    let mut at = 0;
    while at < PHASES.len() {
        keys[at] = PHASES[at].1;
        at += 1;
    }
    keys
};

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match PHASES.iter().find(|(_, known)| *known == name) {
            Some((phase, _)) => Ok(Self(Some(*phase))),
            None if name == "timeout" => Ok(Self(None)),
            None => Err(de::Error::unknown_field(&name, &KEYS)),
        }
    }
}

/// The value of `timeout` in `[steps]`.
#[derive(Deserialize)]
struct Limit(#[serde(deserialize_with = "super::values::duration")] Duration);

struct Section;

impl<'de> de::Visitor<'de> for Section {
    type Value = StepsConfig;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a table")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut section: A) -> Result<StepsConfig, A::Error> {
        let mut raw: [Vec<RawStep>; PHASES.len()] = Default::default();
        let mut limit = TIMEOUT;
        while let Some(Key(key)) = section.next_key()? {
            match key {
                Some(phase) => raw[phase as usize] = checked_phase(phase, section.next_value()?)?,
                None => limit = section.next_value::<Limit>()?.0,
            }
        }
        Ok(StepsConfig(raw.map(|steps| StepList(steps).with_default_timeout(limit))))
    }
}

/// Validates the steps of a phase together.
fn checked_phase<E: de::Error>(phase: Phase, StepList(steps): StepList) -> Result<Vec<RawStep>, E> {
    if phase != Phase::Build && steps.iter().any(|step| !step.outputs.is_empty()) {
        return Err(E::custom(format_args!("`inputs` and `outputs` are for build steps, not for `{phase}`")));
    }
    Ok(steps)
}

impl<'de> Deserialize<'de> for StepsConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Section)
    }
}

impl StepsConfig {
    /// Iterates over the steps of one phase, in order.
    #[must_use]
    pub fn of(&self, phase: Phase) -> &[Step] {
        &self.0[phase as usize]
    }

    /// Iterates over all steps, in the order in which they run.
    pub fn iter(&self) -> impl Iterator<Item = &Step> {
        self.0.iter().flatten()
    }

    /// Returns whether any step runs after activation.
    #[must_use]
    pub fn has_after_activation(&self) -> bool {
        [Phase::Restart, Phase::Verify].iter().any(|phase| !self.of(*phase).is_empty())
    }
}

impl Step {
    /// Formats the step for the log: the shell command, preceded by the step's name if it has one.
    #[must_use]
    pub fn line(&self) -> String {
        let run = self.run.trim();
        if self.name == first_line(run) { run.to_owned() } else { format!("{}: {run}", self.name) }
    }
}

/// Derives the name of a step that has none: its first line.
fn first_line(run: &str) -> String {
    let mut lines = run.trim().lines();
    let first = lines.next().unwrap_or_default().trim_end();
    let name: String = first.chars().take(MAX_NAME_CHARS).collect();
    let is_whole = name.len() == first.len() && lines.next().is_none();
    if is_whole { name } else { name + "..." }
}

impl Display for Phase {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(PHASES[*self as usize].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn steps_are_a_line_a_table_or_a_list_of_both() {
        let text = "[steps]\nbuild = 'npm ci'\ncheck = { run = 'make test', timeout = '5m' }\n\
                    restart = ['a', { run = 'b' }, { run = 'c', timeout = '1s' }]\ntimeout = '1h'\n[env]\nA = 'b'\n";
        let Config { steps, env, .. } = Config::parse(text).unwrap();
        let step = |run: &str, seconds| Step {
            name: run.into(),
            run: run.into(),
            timeout: Duration::from_secs(seconds),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        assert_eq!(steps.of(Phase::Build), [step("npm ci", 3600)]);
        assert_eq!(steps.of(Phase::Check), [step("make test", 300)]);
        assert_eq!(steps.of(Phase::Restart), [step("a", 3600), step("b", 3600), step("c", 1)]);
        assert!(steps.of(Phase::Verify).is_empty() && steps.has_after_activation());
        assert_eq!(env.iter().collect::<Vec<_>>(), [("A", "b")]);
        assert_eq!(Config::parse("[steps]\nbuild = 'x'").unwrap().steps.of(Phase::Build), [step("x", 600)]);
    }

    #[test]
    fn phases_are_listed_in_their_order() {
        for (at, (phase, name)) in PHASES.into_iter().enumerate() {
            assert_eq!((phase as usize, phase.to_string().as_str()), (at, name));
        }
    }

    #[test]
    fn errors_name_the_key() {
        for (text, line, message) in [
            (
                "[steps]\nbuild = 5",
                2,
                "`steps.build`: invalid type: integer `5`, expected a shell line, `{ name",
            ),
            (
                "[steps]\nbuild = { run = 'a', name = '' }",
                2,
                "`steps.build`: expected a name like \"health\"",
            ),
            ("[steps]\nbuild = ['a', ' ']", 2, "`steps.build[1]`: expected a shell line like \"npm ci\""),
            ("[steps]\nbuild = ['a', ['b', 'c']]", 2, "`steps.build[1]`: expected a shell line, `{ name"),
            (
                "[steps]\ncheck = { run = 'a', tmeout = '1s' }",
                2,
                "unknown field `tmeout`, expected one of `name`, `run`, `timeout`, `inputs`, `outputs`",
            ),
            ("[steps]\ncheck = { timeout = '1s' }", 2, "`steps.check`: missing field `run`"),
            ("[steps]\ncheck = { run = 'a', timeout = '0s' }", 2, "`steps.check`: invalid timeout 0"),
            (
                "[steps]\nbuild = { run = 'a', inputs = ['b'] }",
                2,
                "`steps.build`: a step that is to be skipped needs both",
            ),
            (
                "[steps]\nbuild = { run = 'a', inputs = ['b'], outputs = ['../c'] }",
                2,
                "`steps.build.outputs[0]`: invalid path `../c`, expected one inside a release",
            ),
            (
                "[steps]\nbuild = { run = 'a', inputs = ['b'], outputs = ['c/d', 'c'] }",
                2,
                "`steps.build`: an output is listed twice or is inside another one",
            ),
            (
                "[steps]\ncheck = { run = 'a', inputs = ['b'], outputs = ['c'] }",
                1,
                "`steps`: `inputs` and `outputs` are for build steps, not for `check`",
            ),
            ("[steps]\ndeploy = 'a'", 2, "unknown field `deploy`, expected one of `build`"),
            ("[env]\n'A B' = 'x'", 1, "`env`: invalid variable name `A B`"),
            ("[env]\nBLUEGREEN_SITE = 'x'", 1, "`env`: `BLUEGREEN_SITE` is reserved: bluegreen sets it"),
        ] {
            let (at, error) = Config::parse(text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
            assert_eq!(at, line, "{text}: {error}");
        }
    }

    #[test]
    fn a_step_without_a_name_is_called_by_its_first_line() {
        assert_eq!(first_line("npm ci"), "npm ci");
        assert_eq!(first_line("\n set -e\n npm ci\n"), "set -e...");
        assert_eq!(first_line(&"x".repeat(200)), "x".repeat(100) + "...");
        let config = Config::parse("[steps]\nverify = { name = 'health', run = 'curl x' }").unwrap();
        assert_eq!(config.steps.of(Phase::Verify)[0].name, "health");
    }
}
