//! The look before a promotion: who is public, what every server serves, and whether it may go ahead.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::Wish;
use super::config::{PromoteConfig, git, wrong};
use super::named;
use super::side::{Remote, State};
use super::switch::Switch;
use crate::error::{Error, Result};
use crate::run::signals::Stop;

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
        let range = self.old.as_ref().zip(self.commit.as_ref()).map(|(old, new)| format!("{old}..{new}"));
        if self.old == self.commit {
            return vec![format!("{way}: the same commit")];
        }
        let subjects = range.and_then(|range| git(&["log", "--format=%h %s", "--no-color", &range, "--"]));
        let subjects: Vec<String> =
            subjects.map(|text| text.lines().map(crate::text::escape_controls).collect()).unwrap_or_default();
        if subjects.is_empty() {
            return vec![way];
        }
        let head = format!("{way}: {}", crate::text::count(subjects.len() as u64, "commit"));
        std::iter::once(head)
            .chain(subjects.into_iter().take(20).map(|subject| format!("  {subject}")))
            .collect()
    }
}

impl Front {
    /// Reads the config, and finds servers and switch.
    pub fn open(file: Option<&Path>) -> Result<Self> {
        let (config, folder) = PromoteConfig::read(file)?;
        let port = if config.public.url.starts_with("https:") { 443 } else { 80 };
        let parse = |(name, servers): (&String, &super::config::Servers)| {
            let servers =
                servers.list().iter().map(|spec| Remote::parse(spec, port)).collect::<Result<Vec<_>>>();
            Ok((name.clone(), servers?))
        };
        let sides = config.sides.iter().map(parse).collect::<Result<_>>()?;
        let switch = Switch::new(&config.public, &folder)?;
        Ok(Self { config, sides, switch })
    }

    /// Asks every server for its state; returns also the errors of those that do not say it.
    pub fn look(&self, stop: &Stop) -> Result<(Vec<Looked>, Vec<Error>)> {
        let (mut looked, mut errors) = (Vec::new(), Vec::new());
        for (side, servers) in &self.sides {
            for server in servers {
                match server.state(Some(stop)) {
                    Ok(state) => looked.push((side.clone(), server.url.clone(), state)),
                    Err(error @ Error::Promotion { .. }) => errors.push(error),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((looked, errors))
    }

    /// Decides what a promotion would do, or why it must not.
    pub fn plan(&self, wish: &Wish, stop: &Stop) -> Result<Plan> {
        let from = self.switch.show(Some(stop))?;
        let to = self.choose(wish.side, from.as_deref())?;
        let (looked, errors) = self.look(stop)?;
        let is_there = looked.iter().any(|(side, _, _)| *side == to);
        let (left_out, mut errors) = if wish.force && is_there {
            (errors.iter().map(ToString::to_string).collect(), Vec::new())
        } else {
            (Vec::new(), errors)
        };
        if let Some(error) = errors.pop() {
            return Err(insist(error, is_there));
        }
        for (_, url, state) in &looked {
            if let Some(holder) = state.busy() {
                return Err(refuse(
                    format!("`{url}` is busy: {holder}"),
                    "wait for its end, then promote again",
                ));
            }
        }
        let of = |side: &str| {
            looked.iter().filter(|(name, _, _)| name == side).map(|(_, _, state)| state).collect::<Vec<_>>()
        };
        let new = of(&to);
        if let [first, rest @ ..] = &new[..]
            && let Some(other) = rest.iter().find(|state| state.commit != first.commit)
        {
            return Err(refuse(
                format!(
                    "the servers of {to} do not serve the same commit: {} and {}",
                    first.server, other.server
                ),
                &format!("push to {to} again, and look with `bluegreen public`"),
            ));
        }
        if let Some(bare) = new.iter().find(|state| state.commit.is_none()) {
            return Err(refuse(
                format!("{} serves no release", bare.server),
                &format!("`git push {to}` first"),
            ));
        }
        if let Some(bad) = new.iter().find(|state| !state.good && !wish.force) {
            return Err(refuse(
                format!("the release of {} did not pass", bad.server),
                &format!("push to {to} again, or insist with `--force`"),
            ));
        }
        let commit = |states: Vec<&State>| states.first().and_then(|state| state.commit.clone());
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

    /// The names of servers that only the other side has: one of them that answers is a fault.
    #[must_use]
    pub fn servers_only_of_other(&self, plan: &Plan) -> Vec<String> {
        let own = plan.names.get(&plan.to).cloned().unwrap_or_default();
        plan.names.values().flatten().filter(|name| !own.contains(name)).cloned().collect()
    }
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
