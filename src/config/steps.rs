//! `[steps]` and `[env]`: the site's own commands, and what they find in their environment.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// How long a step may take that says nothing else.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// When a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In the new release: makes what is not in the commit.
    Build,
    /// In the new release: refuses what must not become live.
    Check,
    /// After the flip: lets services take the release up.
    Restart,
    /// After the flip: sees whether the site works.
    Verify,
}

/// The `[steps]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Raw")]
pub struct Steps {
    build: Vec<Step>,
    check: Vec<Step>,
    restart: Vec<Step>,
    verify: Vec<Step>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name in messages, progress, history and logs.
    pub name: String,
    /// The shell line, run by `sh -c`.
    pub run: String,
    /// The time limit.
    pub timeout: Duration,
}

/// The `[env]` section: what steps find in their environment, besides what they always do.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Environment(BTreeMap<String, String>);

#[derive(Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Raw {
    build: Many,
    check: Many,
    restart: Many,
    verify: Many,
    #[serde(deserialize_with = "super::duration")]
    timeout: Duration,
}

impl Default for Raw {
    fn default() -> Self {
        let none = || Many(Vec::new());
        Self { build: none(), check: none(), restart: none(), verify: none(), timeout: TIMEOUT }
    }
}

/// Steps as they are written: one or a list.
struct Many(Vec<Table>);

/// A step as it is written: a table, or a shell line that stands for a table with `run` alone.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    name: Option<String>,
    run: String,
    #[serde(default, deserialize_with = "some_duration")]
    timeout: Option<Duration>,
}

/// One step, where a list is not allowed.
struct Written(Table);

/// The form of a step, for errors.
const FORM: &str = "a shell line, `{ name = \"health\", run = \"...\", timeout = \"5m\" }`";
/// The longest name of a step, in characters.
const LONGEST_NAME: usize = 100;

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    super::duration(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Many {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Many(mut steps) = Many::deserialize(deserializer)?;
        match (steps.pop(), steps.is_empty()) {
            (Some(step), true) => Ok(Self(step)),
            _ => Err(de::Error::custom(format_args!("expected {FORM}"))),
        }
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Vec<Table>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{FORM}, or a list of these")
    }

    fn visit_str<E: de::Error>(self, run: &str) -> Result<Self::Value, E> {
        checked(Table { name: None, run: run.to_owned(), timeout: None }).map(|step| vec![step])
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
        checked(table).map(|step| vec![step])
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut steps = Vec::new();
        while let Some(Written(step)) = list.next_element()? {
            steps.push(step);
        }
        Ok(steps)
    }
}

fn checked<E: de::Error>(step: Table) -> Result<Table, E> {
    let is_name = |name: &str| {
        !name.trim().is_empty() && name.chars().count() <= LONGEST_NAME && !name.contains(char::is_control)
    };
    if step.run.trim().is_empty() || step.run.contains('\0') {
        Err(E::custom("expected a shell line like \"npm ci\""))
    } else if step.timeout == Some(Duration::ZERO) {
        Err(E::custom("a timeout of 0 leaves no time to run"))
    } else if step.name.as_deref().is_some_and(|name| !is_name(name)) {
        Err(E::custom("expected a name like \"health\", one line of at most 100 characters"))
    } else {
        Ok(step)
    }
}

impl From<Raw> for Steps {
    fn from(raw: Raw) -> Self {
        let step = |Table { name, run, timeout }| Step {
            name: name.unwrap_or_else(|| first_line(&run)),
            run,
            timeout: timeout.unwrap_or(raw.timeout),
        };
        let steps = |Many(written): Many| written.into_iter().map(step).collect();
        Self {
            build: steps(raw.build),
            check: steps(raw.check),
            restart: steps(raw.restart),
            verify: steps(raw.verify),
        }
    }
}

impl Steps {
    /// The steps of one phase, in order.
    #[must_use]
    pub fn of(&self, phase: Phase) -> &[Step] {
        match phase {
            Phase::Build => &self.build,
            Phase::Check => &self.check,
            Phase::Restart => &self.restart,
            Phase::Verify => &self.verify,
        }
    }

    /// Whether anything runs after the flip.
    #[must_use]
    pub fn has_after_flip(&self) -> bool {
        !self.restart.is_empty() || !self.verify.is_empty()
    }
}

impl Step {
    /// The shell line as the log shows it, after the step's own name where it has one.
    #[must_use]
    pub fn line(&self) -> String {
        let run = self.run.trim();
        if self.name == first_line(run) { run.to_owned() } else { format!("{}: {run}", self.name) }
    }
}

/// The name of a step that was given none.
fn first_line(run: &str) -> String {
    let mut lines = run.trim().lines();
    let first = lines.next().unwrap_or_default().trim_end();
    let name: String = first.chars().take(LONGEST_NAME).collect();
    let is_whole = name.len() == first.len() && lines.next().is_none();
    if is_whole { name } else { name + "..." }
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Build, Self::Check, Self::Restart, Self::Verify];
}

impl Display for Phase {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Build => "build",
            Self::Check => "check",
            Self::Restart => "restart",
            Self::Verify => "verify",
        })
    }
}

impl TryFrom<BTreeMap<String, String>> for Environment {
    type Error = String;

    fn try_from(variables: BTreeMap<String, String>) -> Result<Self, String> {
        for (name, value) in &variables {
            let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name || value.contains('\0') {
                return Err(format!(
                    "`{}` is not a variable, expected one like RAILS_ENV = \"production\"",
                    name.escape_debug()
                ));
            }
            if name.starts_with("BLUEGREEN_") {
                return Err(format!("`{name}` is set by bluegreen itself"));
            }
        }
        Ok(Self(variables))
    }
}

impl Environment {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
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
        };
        assert_eq!(steps.of(Phase::Build), [step("npm ci", 3600)]);
        assert_eq!(steps.of(Phase::Check), [step("make test", 300)]);
        assert_eq!(steps.of(Phase::Restart), [step("a", 3600), step("b", 3600), step("c", 1)]);
        assert!(steps.of(Phase::Verify).is_empty() && steps.has_after_flip());
        assert_eq!(env.iter().collect::<Vec<_>>(), [("A", "b")]);
        assert_eq!(Config::parse("[steps]\nbuild = 'x'").unwrap().steps.of(Phase::Build), [step("x", 600)]);
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
                "unknown field `tmeout`, expected one of `name`, `run`, `timeout`",
            ),
            ("[steps]\ncheck = { timeout = '1s' }", 2, "`steps.check`: missing field `run`"),
            ("[steps]\ncheck = { run = 'a', timeout = '0s' }", 2, "`steps.check`: a timeout of 0"),
            ("[steps]\ndeploy = 'a'", 2, "unknown field `deploy`, expected one of `build`"),
            ("[env]\n'A B' = 'x'", 1, "`env`: `A B` is not a variable"),
            ("[env]\nBLUEGREEN_SITE = 'x'", 1, "`env`: `BLUEGREEN_SITE` is set by bluegreen itself"),
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
