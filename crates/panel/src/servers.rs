//! The real servers: every method calls what the command line calls.

use std::path::PathBuf;

use bluegreen_client::changes::{self, Change};
use bluegreen_client::plan::{Access, Topology};
use bluegreen_client::remote::Remote;
use bluegreen_client::{Error, probe, ssh, trust};
use bluegreen_object_store::ObjectId;
use bluegreen_process::signals::Stop;
use bluegreen_protocol::history::Entry;
use bluegreen_protocol::status::Status;
use bluegreen_text::explain::Explain;

use crate::client::{Client, Endpoint, Health, Pair, Problem};

/// The most entries of a server's history that are requested.
const MAX_ENTRIES: usize = 200;

/// What is needed to reach the servers.
#[derive(Debug)]
pub struct Servers {
    /// The config, if the operator named one.
    pub config: Option<PathBuf>,
    /// The ssh client.
    pub client: ssh::Client,
    /// The directory in which answers about trust are remembered.
    pub state: Option<PathBuf>,
}

/// Nobody can be asked once the panel runs. The command that starts it asks.
struct Nobody;

impl trust::Judge for Nobody {
    fn trusts(&self, _: &[String]) -> bluegreen_client::Result<bool> {
        Ok(false)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { message: error.to_string(), hint: error.hint() }
    }
}

impl Client for Servers {
    fn open(&self) -> Result<Box<dyn Pair>, Problem> {
        let access =
            Access { config: self.config.as_deref(), client: self.client.clone(), state: self.state.clone() };
        Ok(Box::new(Opened { topology: Topology::open(&access, &Nobody)? }))
    }
}

/// The servers of the config as it is now.
#[derive(Debug)]
struct Opened {
    topology: Topology,
}

impl Opened {
    fn remote(&self, server: &Endpoint) -> Result<&Remote, Problem> {
        let message = || format!("`{}` is not in the config any more", server.url);
        self.topology.server(&server.url).ok_or_else(|| Problem { message: message(), hint: None })
    }
}

impl Pair for Opened {
    fn public_url(&self) -> String {
        self.topology.config.public.url.clone()
    }

    fn servers(&self) -> Vec<Endpoint> {
        let sides = self.topology.sides.iter();
        let servers = sides.flat_map(|(side, servers)| servers.iter().map(move |server| (side, server)));
        servers
            .map(|(side, server)| Endpoint {
                side: side.clone(),
                url: server.url.clone(),
                host: server.host().to_owned(),
            })
            .collect()
    }

    fn public_side(&self, stop: &Stop) -> Result<Option<String>, Problem> {
        Ok(self.topology.switch.show(Some(stop))?)
    }

    fn status(&self, server: &Endpoint, stop: &Stop) -> Result<Status, Problem> {
        Ok(self.remote(server)?.status(Some(stop))?)
    }

    fn health(&self, server: &Endpoint, stop: &Stop) -> Result<Health, Problem> {
        let (config, remote) = (&self.topology.config, self.remote(server)?);
        let page = &config.check.paths[0];
        let response = probe::probe(&config.public.url, page, Some(&remote.address), Some(stop))?;
        let is_healthy = response.is_good();
        let problem = if is_healthy { String::new() } else { response.words() };
        Ok(Health { is_healthy, problem, took: response.took })
    }

    fn history(&self, server: &Endpoint, stop: &Stop) -> Result<Vec<Entry>, Problem> {
        Ok(self.remote(server)?.history(MAX_ENTRIES, Some(stop))?)
    }

    fn author(&self, commit: &ObjectId) -> Option<String> {
        changes::author(commit)
    }

    fn changes(&self, old: &ObjectId, new: &ObjectId) -> Vec<Change> {
        changes::changes(old, new)
    }
}
