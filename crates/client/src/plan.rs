//! The plan of a promotion: which side is public, what every server serves, and whether the promotion may go ahead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::changes::changes;
use crate::config::{PromoteConfig, Servers, invalid};
use crate::error::{Error, Result};
use crate::observer::Observer;
use crate::remote::Remote;
use crate::ssh::Client;
use crate::switch::Switch;
use crate::trust::TrustPrompt;
use bluegreen_git_types::ObjectId;
use bluegreen_protocol::status::{Status, first_different};
use bluegreen_report::Report;
use bluegreen_sys::concurrent;
use bluegreen_sys::parallel::{THREAD_ROOM, require_room};
use bluegreen_text::{count, message};

/// The maximum number of commits that a plan lists.
const MAX_COMMITS: usize = 20;

/// Sides and front end, as the config describes them.
#[derive(Debug)]
pub struct Topology {
    pub config: PromoteConfig,
    /// The servers of each side.
    pub sides: BTreeMap<String, Vec<Remote>>,
    pub switch: Switch,
    /// The directory of the config, in which its commands run.
    pub folder: PathBuf,
    /// Receives the steps and the responses of a promotion.
    pub observer: Observer,
}

/// What is needed to open a topology: the config that was named, and the user's own settings.
#[derive(Debug)]
pub struct Access<'a> {
    /// The config, if the user named one.
    pub config: Option<&'a Path>,
    pub client: Client,
    /// The directory of the file that lists the trusted configs.
    pub state: Option<PathBuf>,
}

/// The options of `promote`, as they were given.
#[derive(Debug)]
pub struct PromoteIntent<'a> {
    /// The side; by default the one that is not public.
    pub side: Option<&'a str>,
    /// True if there is no confirmation.
    pub yes: bool,
    /// True if nothing is changed.
    pub dry_run: bool,
    /// True if an unhealthy side is promoted, too.
    pub force: bool,
}

/// A server of a side, and its state.
#[derive(Debug, Clone)]
pub struct ServerStatus {
    pub side: String,
    /// The server's address.
    pub url: String,
    /// The server's state.
    pub status: Status,
}

/// A server that did not report its state.
#[derive(Debug)]
pub struct Failed {
    pub side: String,
    /// The server's address.
    pub url: String,
    /// The reason.
    pub error: Error,
}

/// A promotion that may go ahead.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The public side.
    pub from: Option<String>,
    /// The side that is to become public.
    pub to: String,
    /// The commit that visitors get now.
    pub old: Option<ObjectId>,
    /// The commit that they will get.
    pub commit: Option<ObjectId>,
    /// The state of every server, with its address.
    #[serde(serialize_with = "pairs")]
    pub states: Vec<ServerStatus>,
    /// The servers' names, by side.
    pub names: BTreeMap<String, Vec<String>>,
    /// The reasons why servers are left out with `--force`.
    pub left_out: Vec<String>,
}

/// Serializes states as the documented pairs of address and state.
fn pairs<S: serde::Serializer>(states: &[ServerStatus], to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_seq(states.iter().map(|server| (&server.url, &server.status)))
}

impl Plan {
    /// Returns whether the side is public already.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.from.as_ref() == Some(&self.to)
    }

    /// Returns the names of the servers that only this side has, and of those that only the other one has.
    #[must_use]
    pub fn distinct_names(&self, side: &str) -> (Vec<String>, Vec<String>) {
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

    /// Returns the lines that are printed before the question.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let (old, new) = (short(self.old.as_ref()), short(self.commit.as_ref()));
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
        let more = commits.len().saturating_sub(MAX_COMMITS);
        std::iter::once(format!("{way}: {}", words.join(", ")))
            .chain(commits.iter().take(MAX_COMMITS).map(|commit| format!("  {commit}")))
            .chain((more > 0).then(|| format!("  and {more} more")))
            .collect()
    }

    /// Returns the commits that visitors get (`+`), and those that they lose (`-`), if the clone has both ends.
    fn commits(&self) -> Vec<String> {
        let ends = self.old.as_ref().zip(self.commit.as_ref());
        ends.iter().flat_map(|(old, new)| changes(old, new)).map(|change| change.line()).collect()
    }
}

impl Topology {
    /// Reads the config, and finds servers and switch. `prompt` decides about a clone that is not trusted yet.
    pub fn open(access: &Access, prompt: &dyn TrustPrompt) -> Result<Self> {
        // A promotion starts a thread later. Fail now if its memory is lacking, rather than in the middle of an
        // allocation.
        require_room(THREAD_ROOM).map_err(Error::io("start", "a thread"))?;
        let (config, file) = PromoteConfig::read(access.config)?;
        let names: Vec<&str> = config.sides.keys().map(String::as_str).collect();
        let folder = file.parent().unwrap_or(Path::new(""));
        let switch = Switch::new(&config.public, folder, &names, &access.client)?;
        if access.config.is_none() {
            let commands = [&config.check.run[..], &config.watch.run[..]].concat();
            switch.check_trust(&file, &commands, access.state.as_deref(), prompt)?;
        }
        let port = if config.public.url.starts_with("https:") { 443 } else { 80 };
        let parse = |(name, servers): (&String, &Servers)| {
            let servers = concurrent::map(servers.list(), |spec| Remote::parse(&spec, port, &access.client));
            Ok((name.clone(), servers.into_iter().collect::<Result<Vec<_>>>()?))
        };
        let sides = config.sides.iter().map(parse).collect::<Result<_>>()?;
        Ok(Self { config, sides, switch, folder: folder.to_owned(), observer: Observer::default() })
    }

    /// Finds a server by its address.
    #[must_use]
    pub fn server(&self, url: &str) -> Option<&Remote> {
        self.sides.values().flatten().find(|server| server.url == url)
    }

    /// Returns the side of a server; an empty text if it has none.
    #[must_use]
    pub fn side_of(&self, url: &str) -> &str {
        let of = |(_, servers): &(&String, &Vec<Remote>)| servers.iter().any(|server| server.url == url);
        self.sides.iter().find(of).map_or("", |(side, _)| side)
    }

    /// Returns whether a server belongs to that side.
    #[must_use]
    pub fn is_on_side(&self, side: Option<&str>, url: &str) -> bool {
        let servers = side.and_then(|side| self.sides.get(side));
        servers.is_some_and(|servers| servers.iter().any(|server| server.url == url))
    }

    /// Plans a promotion, or returns the reason why it must not run.
    pub(crate) fn decide(
        &self,
        intent: &PromoteIntent,
        from: Option<String>,
        (states, failed): (Vec<ServerStatus>, Vec<Failed>),
        report: &Report,
    ) -> Result<Plan> {
        let to = self.choose(intent.side, from.as_deref())?;
        let is_there = states.iter().any(|server| server.side == to);
        let errors: Vec<Error> = failed.into_iter().map(|failed| failed.error).collect();
        let left_out = if intent.force && is_there {
            errors.iter().map(ToString::to_string).collect()
        } else {
            let offer = |error| if is_there { Error::CanBeLeftOut(Box::new(error)) } else { error };
            all::<()>(errors.into_iter().map(|error| Err(offer(error))).collect(), report)?;
            Vec::new()
        };
        if let Some((server, holder)) =
            states.iter().find_map(|server| Some((server, server.status.running.as_ref()?)))
        {
            return Err(Error::Busy { url: server.url.clone(), holder: message(holder) });
        }
        refuse_frozen(
            states.iter().map(|server| (server.side.as_str(), server.url.as_str(), &server.status)),
        )?;
        let of = |side: &str| states.iter().filter(|server| server.side == side).collect::<Vec<_>>();
        check_side(&to, &of(&to), intent)?;
        let commit = |servers: &[&ServerStatus]| servers.first().and_then(|server| server.status.commit);
        let old = from.as_deref().and_then(|side| commit(&of(side)));
        let commit = commit(&of(&to));
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for server in &states {
            names.entry(server.side.clone()).or_default().push(server.status.server.clone());
        }
        Ok(Plan { from, to, old, commit, states, names, left_out })
    }

    pub(crate) fn choose(&self, side: Option<&str>, public: Option<&str>) -> Result<String> {
        let names: Vec<&str> = self.sides.keys().map(String::as_str).collect();
        match (side, public) {
            (Some(side), _) if names.contains(&side) => Ok(side.to_owned()),
            (Some(side), _) => {
                Err(invalid(format!("unknown side `{side}`"), format!("use {}", names.join(" or "))))
            }
            (None, Some(public)) if names.contains(&public) => {
                Ok(names.into_iter().find(|name| *name != public).unwrap_or(public).to_owned())
            }
            (None, Some(public)) => Err(Error::UnknownPublicSide(public.to_owned())),
            (None, None) => Err(Error::NoPublicSide),
        }
    }
}

/// Fails if an operator has locked one of the servers.
pub fn refuse_frozen<'s>(servers: impl Iterator<Item = (&'s str, &'s str, &'s Status)>) -> Result<()> {
    let mut frozen = servers.filter_map(|(side, url, status)| Some((side, url, status.lock.as_ref()?)));
    let Some((side, url, lock)) = frozen.next() else { return Ok(()) };
    let more = match frozen.count() as u64 {
        0 => String::new(),
        more => format!(" (and {more} more {})", if more == 1 { "server" } else { "servers" }),
    };
    Err(Error::Frozen { url: url.into(), side: side.into(), lock: message(lock), more })
}

/// Rejects a side whose servers do not serve the same good files.
fn check_side(side: &str, servers: &[&ServerStatus], intent: &PromoteIntent) -> Result<()> {
    if let Some(server) = servers.iter().find(|server| server.status.commit.is_none()) {
        return Err(Error::NothingLive { url: server.url.clone(), side: side.into() });
    }
    let statuses: Vec<&Status> = servers.iter().map(|server| &server.status).collect();
    if let Some(other) = first_different(&statuses) {
        let serves = |server: &ServerStatus| {
            format!("`{}` serves {}", server.url, short(server.status.commit.as_ref()))
        };
        let commits = format!("{}, {}", serves(servers[0]), serves(servers[other]));
        return Err(Error::DifferentCommits { side: side.into(), commits });
    }
    if let Some(server) = servers.iter().find(|server| !server.status.good && !intent.force) {
        return Err(Error::Unverified { url: server.url.clone(), side: side.into() });
    }
    Ok(())
}

/// Returns the name of a side, or "no side".
#[must_use]
pub fn named(side: Option<&str>) -> &str {
    side.unwrap_or("no side")
}

/// Returns the first digits of a commit, or "nothing".
#[must_use]
pub fn short(commit: Option<&ObjectId>) -> String {
    commit.map_or_else(|| "nothing".into(), ObjectId::short)
}

/// Returns all results, or prints all errors but the last, which it returns.
pub fn all<R>(results: Vec<Result<R>>, report: &Report) -> Result<Vec<R>> {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(result) => done.push(result),
            // A cancelled request says nothing about its server.
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
