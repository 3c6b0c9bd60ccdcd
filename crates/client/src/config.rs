//! `.promote.toml`: the sides, the public address and its switch, and the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::canary_config::Canary;
use crate::check_config::{Check, Watch};
use crate::error::{Error, Result};
use crate::program;
use crate::values::{KEY, duration};
use bluegreen_git_types::RUN_NOTHING;
use bluegreen_process as process;
use bluegreen_text::{MAX_MESSAGE_CHARS, MAX_NAME_CHARS, printable, reason, truncated};

/// The file's name at the top of the clone.
pub const NAME: &str = ".promote.toml";

/// The maximum size of a config, in bytes.
const MAX_CONFIG: u64 = 1024 * 1024;

/// The parsed file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PromoteConfig {
    /// The servers of each side; empty if the remotes of the clone are the sides.
    #[serde(default)]
    pub sides: BTreeMap<String, Servers>,
    /// The public address, and the switch.
    pub public: Public,
    /// The checks before the switch.
    #[serde(default)]
    pub check: Check,
    /// The steps before the switch, in which the side gets some of the requests.
    #[serde(default)]
    pub canary: Canary,
    /// The watch after it.
    #[serde(default)]
    pub watch: Watch,
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
    /// Several servers that are deployed alike.
    Several(Vec<ServerSpec>),
}

/// One server. A struct instead of the variant would also be read from a list of two strings.
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
    /// The public address, which visitors use.
    pub url: String,
    /// The name of a switch of the program, or a path; left out if the account of the host has a switch of its own.
    pub switch: Option<String>,
    /// The machine on which the switch runs, as ssh takes it; this machine if it is not set.
    pub host: Option<String>,
    /// The timeout of its `set`.
    #[serde(default = "ninety_seconds", deserialize_with = "duration")]
    pub within: Duration,
    /// The maximum time to wait for requests in flight at the old side.
    #[serde(default, deserialize_with = "duration")]
    pub drain: Duration,
    /// The settings of the switch.
    #[serde(default)]
    pub settings: BTreeMap<String, toml::Value>,
}

/// The switches for clouds give up after one minute themselves.
fn ninety_seconds() -> Duration {
    Duration::from_secs(90)
}

/// The error for a config that cannot be used.
#[must_use]
pub fn invalid(problem: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Config { problem: problem.into(), hint: hint.into() }
}

impl PromoteConfig {
    /// Reads the file, and the remotes of the clone if it names no sides; returns its path, too.
    pub fn read(named: Option<&Path>) -> Result<(Self, PathBuf)> {
        let top = git(&["rev-parse", "--show-toplevel"]).map(PathBuf::from);
        let hint = if named.is_none() && top.is_none() {
            "run it in your clone of the project, or name the file with `--config`"
        } else {
            "docs/howto/promote.md shows one to start from"
        };
        let file = named.map_or_else(|| top.unwrap_or_default().join(NAME), Path::to_path_buf);
        let text = read_bounded(&file).map_err(|error| {
            invalid(format!("cannot read `{}`: {}", printable(&file), reason(&error)), hint)
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let key = text.lines().nth(line - 1).and_then(|line| Some(line.split_once('=')?.0.trim()));
            let message = error.message().replace(KEY, key.unwrap_or("it"));
            invalid(
                format!("{}:{line}: {}", printable(&file), truncated(&message, MAX_MESSAGE_CHARS)),
                "docs/howto/promote.md lists the keys",
            )
        })?;
        if named.is_none() {
            config.check_repositories(&file)?;
        }
        if config.sides.is_empty() {
            config.sides = ["blue", "green"].into_iter().filter_map(remote).collect();
        }
        config.check(&file)?;
        Ok((config, file))
    }

    /// Rejects repositories inside the clone. Its author could have put hooks and settings into them that run programs.
    fn check_repositories(&self, file: &Path) -> Result<()> {
        let Some(Ok(top)) = file.parent().map(Path::canonicalize) else { return Ok(()) };
        let servers = self.sides.values().flat_map(Servers::list);
        let Some(inside) = servers.into_iter().find(|server| is_inside(server.url(), &top)) else {
            return Ok(());
        };
        let (file, url) = (printable(file), truncated(inside.url(), MAX_NAME_CHARS));
        let problem =
            format!("{file}: the repository `{url}` is inside the clone, so its hooks are not trusted");
        Err(invalid(problem, "move it out of the clone, or name the file with `--config` if you trust it"))
    }

    fn check(&self, file: &Path) -> Result<()> {
        let refuse =
            |problem: &str, hint: &str| Err(invalid(format!("{}: {problem}", printable(file)), hint));
        if self.sides.len() != 2 {
            return refuse(
                "two sides are needed",
                "name them in `[sides]`, or add the git remotes `blue` and `green`",
            );
        }
        let is_name = |name: &String| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !name.starts_with('-')
        };
        if let Some(name) = self.sides.keys().find(|name| !is_name(name)) {
            let problem = format!("invalid name of a side: `{}`", truncated(name, MAX_NAME_CHARS));
            return refuse(&problem, "use lower-case letters, digits, and hyphens");
        }
        let mut urls = BTreeSet::new();
        for (name, servers) in &self.sides {
            let servers = servers.list();
            if servers.is_empty() {
                return refuse(&format!("the side `{name}` has no server"), "name at least one");
            }
            // Listing a server twice would deadlock on its own lock.
            if let Some(twice) = servers.iter().find(|server| !urls.insert(server.url().to_owned())) {
                let problem = format!("`{}` is listed twice", truncated(twice.url(), MAX_NAME_CHARS));
                return refuse(&problem, "list each server on one side");
            }
        }
        if let Some((problem, hint)) = self.check.problem().or_else(|| self.watch.problem(&self.check)) {
            return refuse(problem, hint);
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

/// Returns whether an address is a repository below a directory, as git would find it from the working directory.
fn is_inside(url: &str, top: &Path) -> bool {
    let Some(path) = local_path(url) else { return false };
    // git completes a path by these.
    ["", ".git"].iter().any(|end| {
        let path = Path::new(&format!("{path}{end}")).canonicalize();
        path.is_ok_and(|path| path.starts_with(top))
    })
}

/// Returns the path of a repository on this machine; `None` for another machine's.
#[must_use]
pub fn local_path(url: &str) -> Option<&str> {
    if let Some(path) = url.strip_prefix("file://") {
        // git would decode it.
        return Some(path).filter(|path| !path.contains('%'));
    }
    let is_remote = url.split_once(':').is_some_and(|(host, _)| !host.contains('/'));
    (!url.is_empty() && !is_remote && !url.contains("://")).then_some(url)
}

/// Returns the servers of a side. Without the file, a side is a remote of the clone.
pub fn servers_of(side: &str, named: Option<&Path>) -> Result<Vec<ServerSpec>> {
    let top = git(&["rev-parse", "--show-toplevel"]).map(PathBuf::from);
    let has_file = named.is_some() || top.is_some_and(|top| top.join(NAME).exists());
    if !has_file {
        let servers = remote(side).map(|(_, servers)| servers.list());
        return servers.ok_or_else(|| {
            invalid(
                format!("unknown side `{side}`: neither `{NAME}` nor a git remote names it"),
                format!(
                    "`git remote add {side} deploy@{side}:sample_app`, or see docs/howto/many-servers.md"
                ),
            )
        });
    }
    let (config, file) = PromoteConfig::read(named)?;
    let names = config.sides.keys().cloned().collect::<Vec<_>>().join(" or ");
    let servers = config.sides.get(side).map(Servers::list);
    servers.ok_or_else(|| {
        invalid(format!("`{}` has no side `{side}`", printable(&file)), format!("use {names}"))
    })
}

/// Reads the config, which may have up to 1 MB.
fn read_bounded(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_CONFIG + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_CONFIG { Err(std::io::Error::other("it is too long")) } else { Ok(text) }
}

/// Returns all push URLs of a remote of the clone.
fn remote(name: &str) -> Option<(String, Servers)> {
    let urls = git(&["remote", "get-url", "--push", "--all", name])?;
    let servers = urls.lines().map(|url| ServerSpec::Url(url.to_owned())).collect();
    Some((name.to_owned(), Servers::Several(servers)))
}

/// Runs git in the working directory; returns `None` if it fails or prints nothing. It runs no program that the
/// clone's config names, such as that of a lazy fetch.
#[must_use]
pub fn git(arguments: &[&str]) -> Option<String> {
    let mut git = process::command("git");
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
