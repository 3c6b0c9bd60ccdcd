//! `.promote.toml`: the sides, the public address and its switch, and the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bluegreen_text::{escape_controls, printable, reason};
use serde::{Deserialize, Deserializer};

use super::program;
use crate::error::{Error, Result};
use crate::git::RUN_NOTHING;

/// The file's name at the top of the clone.
pub const NAME: &str = ".promote.toml";

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PromoteConfig {
    /// The servers of each side; empty where the remotes of the clone are the sides.
    #[serde(default)]
    pub sides: BTreeMap<String, Servers>,
    /// The address that visitors type, and the switch.
    pub public: Public,
    /// The checks.
    #[serde(default)]
    pub check: Check,
}

/// The servers of a side.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"deploy@blue:sample_app\", { ssh = ..., address = ... }, or a list of them"
)]
pub enum Servers {
    /// One server.
    One(ServerSpec),
    /// Several that are deployed alike.
    Several(Vec<ServerSpec>),
}

/// One server. As a variant, the table is not read from a list of two strings, as a struct would be.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum ServerSpec {
    /// The address that `git push` takes.
    Url(String),
    /// The same, with the address of its web server.
    Table {
        /// The address that `git push` takes.
        ssh: String,
        /// Host and port of its web server.
        address: Option<String>,
    },
}

impl ServerSpec {
    /// The address that `git push` takes.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Url(url) | Self::Table { ssh: url, .. } => url,
        }
    }
}

/// The `[public]` section.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Public {
    /// The address that visitors type.
    pub url: String,
    /// The name of a switch of the program, or a path.
    pub switch: String,
    /// The time in which its `set` must end.
    #[serde(default = "ninety_seconds", deserialize_with = "duration")]
    pub within: Duration,
    /// The settings of the switch.
    #[serde(default)]
    pub settings: BTreeMap<String, toml::Value>,
}

/// The `[check]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Check {
    /// The paths that must answer 2xx or 3xx.
    pub paths: Vec<String>,
    /// So many good answers in a row.
    pub healthy: u32,
    /// The time in which they must come.
    #[serde(deserialize_with = "duration")]
    pub within: Duration,
    /// The time for which the public address is watched.
    #[serde(deserialize_with = "duration")]
    pub watch: Duration,
    /// Failed answers before it goes back.
    pub tolerate: u64,
}

impl Default for Check {
    fn default() -> Self {
        let half_a_minute = Duration::from_secs(30);
        Self { paths: vec!["/".into()], healthy: 3, within: half_a_minute, watch: half_a_minute, tolerate: 0 }
    }
}

/// Clouds give up after one minute by themselves.
fn ninety_seconds() -> Duration {
    Duration::from_secs(90)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text)
        .map_err(|error| serde::de::Error::custom(format!("`{text}`: {error}, write \"30s\"")))
}

/// Says what is wrong with the file.
#[must_use]
pub fn wrong(problem: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::PromoteConfig { problem: problem.into(), hint: hint.into() }
}

impl PromoteConfig {
    /// Reads the file, and the remotes of the clone where it names no sides.
    pub fn read(named: Option<&Path>) -> Result<(Self, PathBuf)> {
        let top = git(&["rev-parse", "--show-toplevel"]).map(PathBuf::from);
        let file = named.map_or_else(|| top.unwrap_or_default().join(NAME), Path::to_path_buf);
        let text = std::fs::read_to_string(&file).map_err(|error| {
            wrong(
                format!("cannot read `{}`: {}", printable(&file), reason(&error)),
                "docs/howto/promote.md shows one to start from",
            )
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            wrong(
                format!("{}:{line}: {}", printable(&file), error.message()),
                "docs/howto/promote.md lists the keys",
            )
        })?;
        if config.sides.is_empty() {
            config.sides = ["blue", "green"].into_iter().filter_map(remote).collect();
        }
        config.refuse_nonsense(&file)?;
        let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok((config, folder))
    }

    fn refuse_nonsense(&self, file: &Path) -> Result<()> {
        let refuse = |problem: &str, hint: &str| Err(wrong(format!("{}: {problem}", printable(file)), hint));
        if self.sides.len() != 2 {
            return refuse(
                "there must be two sides",
                "name them in `[sides]`, or add the git remotes `blue` and `green`",
            );
        }
        let is_name = |name: &String| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !name.starts_with('-')
        };
        if let Some(name) = self.sides.keys().find(|name| !is_name(name)) {
            let problem = format!("`{}` is no name of a side", escape_controls(name));
            return refuse(&problem, "use lower-case letters, digits and hyphens");
        }
        let mut urls = BTreeSet::new();
        for (name, servers) in &self.sides {
            let servers = servers.list();
            if servers.is_empty() {
                return refuse(&format!("the side `{name}` has no server"), "name at least one");
            }
            // Its lock would be waited for by the one who holds it.
            if let Some(twice) = servers.iter().find(|server| !urls.insert(server.url().to_owned())) {
                let problem = format!("`{}` is named twice", escape_controls(twice.url()));
                return refuse(&problem, "a server belongs to one side");
            }
        }
        if self.check.paths.is_empty() || !self.check.paths.iter().all(|path| path.starts_with('/')) {
            return refuse("each of `paths` must begin with a slash", "write `paths = [\"/\"]`");
        }
        if self.check.healthy == 0 {
            return refuse("`healthy` must be at least 1", "leave it out for 3");
        }
        if !["http://", "https://"].iter().any(|scheme| self.public.url.starts_with(scheme)) {
            return refuse("`url` must begin with http:// or https://", "write what visitors type");
        }
        Ok(())
    }
}

impl Servers {
    /// The servers, in the order of the file.
    #[must_use]
    pub fn list(&self) -> Vec<ServerSpec> {
        match self {
            Self::One(server) => vec![server.clone()],
            Self::Several(servers) => servers.clone(),
        }
    }
}

/// The servers of a side that is to be pushed to. Without the file, a side is a remote of the clone.
pub fn servers_of(side: &str, named: Option<&Path>) -> Result<Vec<ServerSpec>> {
    let top = git(&["rev-parse", "--show-toplevel"]).map(PathBuf::from);
    let has_file = named.is_some() || top.is_some_and(|top| top.join(NAME).exists());
    if !has_file {
        let servers = remote(side).map(|(_, servers)| servers.list());
        return servers.ok_or_else(|| {
            wrong(
                format!("there is no side `{side}`: neither `{NAME}` nor a git remote names it"),
                format!(
                    "`git remote add {side} deploy@{side}:sample_app`, or see docs/howto/many-servers.md"
                ),
            )
        });
    }
    let (config, _) = PromoteConfig::read(named)?;
    let names = config.sides.keys().cloned().collect::<Vec<_>>().join(" or ");
    let side = config.sides.get(side).map(Servers::list);
    side.ok_or_else(|| wrong(format!("there is no such side in `{NAME}`"), format!("it is {names}")))
}

/// All push URLs of a remote of the clone.
fn remote(name: &str) -> Option<(String, Servers)> {
    let urls = git(&["remote", "get-url", "--push", "--all", name])?;
    let servers = urls.lines().map(|url| ServerSpec::Url(url.to_owned())).collect();
    Some((name.to_owned(), Servers::Several(servers)))
}

/// Asks git in the working directory; `None` where it fails or prints nothing. It runs no program
/// that the clone's config names, such as that of a lazy fetch.
#[must_use]
pub fn git(arguments: &[&str]) -> Option<String> {
    let mut git = program::command("git");
    git.envs(RUN_NOTHING).args(["-c", "log.showSignature=false"]).args(arguments);
    let output = program::run(&mut git, Duration::from_secs(10), None).ok()?;
    let text = output.stdout.trim_end().to_owned();
    (output.is_ok() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(line: &str) -> Result<Servers, toml::de::Error> {
        toml::from_str::<BTreeMap<String, Servers>>(line).map(|mut sides| sides.remove("blue").unwrap())
    }

    #[test]
    fn a_list_of_two_is_two_servers() {
        for (line, urls) in [
            (r#"blue = "a:app""#, &["a:app"][..]),
            (r#"blue = ["a:app"]"#, &["a:app"]),
            (r#"blue = ["a:app", "b:app"]"#, &["a:app", "b:app"]),
            (r#"blue = { ssh = "a:app", address = "a:80" }"#, &["a:app"]),
            (r#"blue = ["a:app", { ssh = "b:app" }]"#, &["a:app", "b:app"]),
        ] {
            let servers = sides(line).unwrap().list();
            assert_eq!(servers.iter().map(ServerSpec::url).collect::<Vec<_>>(), urls, "{line}");
        }
        for line in [r#"blue = [["a:app", "a:80"]]"#, r#"blue = { ssh = "a:app", adress = "a:80" }"#] {
            assert!(sides(line).is_err(), "{line}");
        }
    }
}
