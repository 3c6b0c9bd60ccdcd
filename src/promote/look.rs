//! The look before a promotion: who is public, what every server serves, and whether it may go ahead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bluegreen_text::count;
use serde::Serialize;

use super::PromoteIntent;
use super::config::{PromoteConfig, git, wrong};
use super::named;
use super::side::{Remote, State, at_once};
use super::ssh::Client;
use super::switch::Switch;
use crate::error::{Error, Result};
use crate::pusher::report::Report;
use crate::run::signals::Stop;

/// The most commits that a plan names.
const SHOWN: usize = 20;

/// Sides and front end, as the config has them.
#[derive(Debug)]
pub struct Front {
    /// The config.
    pub config: PromoteConfig,
    /// The servers of each side.
    pub sides: BTreeMap<String, Vec<Remote>>,
    /// The switch.
    pub switch: Switch,
}

/// The name of a side, the address of one of its servers, and its state.
pub type Looked = (String, String, State);

/// A promotion that may go ahead.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The public side.
    pub from: Option<String>,
    /// The side that is to become public.
    pub to: String,
    /// The commit that visitors get now.
    pub old: Option<String>,
    /// The commit that they will get.
    pub commit: Option<String>,
    /// The state of every server, with its address.
    pub states: Vec<(String, State)>,
    /// The servers' names, by side.
    pub names: BTreeMap<String, Vec<String>>,
    /// The reasons for which servers are left out, because whoever called insists.
    pub left_out: Vec<String>,
}

impl Plan {
    /// Returns whether the side is public already.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.from.as_ref() == Some(&self.to)
    }

    /// The names of the servers that only this side has, and of those that only the other one has.
    #[must_use]
    pub fn told_apart(&self, side: &str) -> (Vec<String>, Vec<String>) {
        let of = |is_own| -> BTreeSet<&String> {
            self.names
                .iter()
                .filter(|(name, _)| (*name == side) == is_own)
                .flat_map(|(_, names)| names)
                .collect()
        };
        let (own, other) = (of(true), of(false));
        let only = |these: &BTreeSet<&String>, those| these.difference(those).copied().cloned().collect();
        (only(&own, &other), only(&other, &own))
    }

    /// The lines that are printed before the question.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let short = |commit: &Option<String>| {
            commit.as_deref().map_or("nothing".into(), |id| id[..id.len().min(12)].to_owned())
        };
        let (old, new) = (short(&self.old), short(&self.commit));
        if self.is_public() {
            return vec![format!("{} {new} is public already", self.to)];
        }
        let way = format!("{} {old} -> {} {new}", named(self.from.as_deref()), self.to);
        if self.old == self.commit {
            return vec![format!("{way}: the same commit")];
        }
        let commits = self.commits();
        let (forward, back): (Vec<&String>, Vec<&String>) =
            commits.iter().partition(|line| line.starts_with('+'));
        let words = |commits: &[&String], way| {
            (!commits.is_empty()).then(|| format!("{} {way}", count(commits.len() as u64, "commit")))
        };
        let words: Vec<_> =
            [words(&forward, "forward"), words(&back, "back")].into_iter().flatten().collect();
        if words.is_empty() {
            return vec![way];
        }
        let more = commits.len().saturating_sub(SHOWN);
        std::iter::once(format!("{way}: {}", words.join(", ")))
            .chain(commits.iter().take(SHOWN).map(|commit| format!("  {commit}")))
            .chain((more > 0).then(|| format!("  and {more} more")))
            .collect()
    }

    /// The commits that visitors get (`+`), and those that they lose (`-`), where the clone has both ends.
    fn commits(&self) -> Vec<String> {
        let range = self.old.as_ref().zip(self.commit.as_ref()).map(|(old, new)| format!("{old}...{new}"));
        let format = ["log", "--left-right", "--format=%m %h %s (%an)", "--no-color"];
        let text = range.and_then(|range| git(&[&format[..], &[range.as_str(), "--"]].concat()));
        let line = |line: &str| {
            let line = bluegreen_text::escape_controls(line);
            line.strip_prefix('>').map_or_else(|| line.replacen('<', "-", 1), |rest| format!("+{rest}"))
        };
        text.iter().flat_map(|text| text.lines()).map(line).collect()
    }
}

impl Front {
    /// Reads the config, and finds servers and switch.
    pub fn open(file: Option<&Path>, client: &Client) -> Result<Self> {
        let (config, folder) = PromoteConfig::read(file)?;
        let port = if config.public.url.starts_with("https:") { 443 } else { 80 };
        let parse = |(name, servers): (&String, &super::config::Servers)| {
            let servers = servers
                .list()
                .iter()
                .map(|spec| Remote::parse(spec, port, client))
                .collect::<Result<Vec<_>>>();
            Ok((name.clone(), servers?))
        };
        let sides = config.sides.iter().map(parse).collect::<Result<_>>()?;
        let switch = Switch::new(&config.public, &folder)?;
        Ok(Self { config, sides, switch })
    }

    /// Asks every server for its state; returns also the errors of those that do not say it.
    pub fn look(&self, stop: &Stop) -> Result<(Vec<Looked>, Vec<Error>)> {
        let servers =
            self.sides.iter().flat_map(|(side, servers)| servers.iter().map(move |server| (side, server)));
        let asked = at_once(servers, |(side, server)| (side, server, server.state(Some(stop))));
        let (mut looked, mut errors) = (Vec::new(), Vec::new());
        for (side, server, state) in asked {
            match state {
                Ok(state) => looked.push((side.clone(), server.url.clone(), state)),
                Err(error @ Error::Promotion { .. }) => errors.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((looked, errors))
    }

    /// Returns whether a server belongs to that side.
    #[must_use]
    pub fn is_of(&self, side: Option<&str>, url: &str) -> bool {
        let servers = side.and_then(|side| self.sides.get(side));
        servers.is_some_and(|servers| servers.iter().any(|server| server.url == url))
    }

    /// Decides what a promotion would do, or why it must not.
    pub fn plan(&self, intent: &PromoteIntent, stop: &Stop, report: &Report) -> Result<Plan> {
        let from = self.switch.show(Some(stop))?;
        let to = self.choose(intent.side, from.as_deref())?;
        let (looked, errors) = self.look(stop)?;
        let is_there = looked.iter().any(|(side, _, _)| *side == to);
        let (left_out, errors) = if intent.force && is_there {
            (errors.iter().map(ToString::to_string).collect(), Vec::new())
        } else {
            (Vec::new(), errors)
        };
        all::<()>(errors.into_iter().map(|error| Err(insist(error, is_there))).collect(), report)?;
        for (_, url, state) in &looked {
            if let Some(holder) = state.busy() {
                return Err(refuse(
                    format!("`{url}` is busy: {holder}"),
                    "wait for its end, then promote again",
                ));
            }
        }
        let of = |side: &str| looked.iter().filter(|(name, _, _)| name == side).collect::<Vec<_>>();
        may_go(&to, &of(&to), intent)?;
        let commit = |looked: Vec<&Looked>| looked.first().and_then(|(_, _, state)| state.commit.clone());
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (side, _, state) in &looked {
            names.entry(side.clone()).or_default().push(state.server.clone());
        }
        let old = from.as_deref().and_then(|side| commit(of(side)));
        let commit = commit(of(&to));
        let states = looked.into_iter().map(|(_, url, state)| (url, state)).collect();
        Ok(Plan { from, to, old, commit, states, names, left_out })
    }

    fn choose(&self, side: Option<&str>, public: Option<&str>) -> Result<String> {
        let names: Vec<&str> = self.sides.keys().map(String::as_str).collect();
        match (side, public) {
            (Some(side), _) if names.contains(&side) => Ok(side.to_owned()),
            (Some(side), _) => {
                Err(wrong(format!("there is no side `{side}`"), format!("it is {}", names.join(" or "))))
            }
            (None, Some(public)) if names.contains(&public) => {
                Ok(names.into_iter().find(|name| *name != public).unwrap_or(public).to_owned())
            }
            (None, Some(public)) => Err(refuse(
                format!("`{public}` is public, which is none of the sides"),
                "name the side: `bluegreen promote SIDE`",
            )),
            (None, None) => {
                Err(refuse("no side is public yet".into(), "name the side: `bluegreen promote SIDE`"))
            }
        }
    }
}

/// Refuses a side whose servers do not serve one good commit.
fn may_go(side: &str, servers: &[&Looked], intent: &PromoteIntent) -> Result<()> {
    if let Some((_, url, _)) = servers.iter().find(|(_, _, state)| state.commit.is_none()) {
        return Err(refuse(format!("`{url}` serves no release"), &format!("`bluegreen push {side}` first")));
    }
    if let [(_, first, one), rest @ ..] = servers
        && let Some((_, second, other)) = rest.iter().find(|(_, _, state)| state.commit != one.commit)
    {
        let short =
            |state: &State| state.commit.iter().flat_map(|id| id.chars().take(12)).collect::<String>();
        let (one, other) = (short(one), short(other));
        return Err(refuse(
            format!(
                "the servers of {side} do not serve the same commit: `{first}` serves {one}, `{second}` {other}"
            ),
            &format!("`bluegreen push {side}` deploys one commit to all of them"),
        ));
    }
    if let Some((_, url, _)) = servers.iter().find(|(_, _, state)| !state.good && !intent.force) {
        return Err(refuse(
            format!("the live release of `{url}` did not pass its verification"),
            &format!("fix it and `bluegreen push {side}` again; `--force` promotes it as it is"),
        ));
    }
    Ok(())
}

/// Gives all results, or prints all errors but the last, which it returns.
pub fn all<R>(results: Vec<Result<R>>, report: &Report) -> Result<Vec<R>> {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(result) => done.push(result),
            // One that was asked to stop has nothing to say of any server.
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => errors.push(error),
        }
    }
    let last = errors.pop();
    for error in &errors {
        report.error(error);
    }
    last.map_or(Ok(done), Err)
}

/// Says that a server which does not answer can be left out, where that is so.
fn insist(error: Error, can_insist: bool) -> Error {
    match error {
        Error::Promotion { problem, hint } if can_insist => {
            Error::Promotion { problem, hint: format!("{hint}; `--force` promotes without it") }
        }
        error => error,
    }
}

fn refuse(problem: String, hint: &str) -> Error {
    Error::Promotion { problem, hint: hint.into() }
}
