//! `panel`: serves the control panel, until a signal stops it.

use std::path::PathBuf;
use std::sync::Arc;

use super::promote::{Judge, access};
use crate::cli::{Promotable, Served};
use crate::error::Result;
use bluegreen_client::plan::Topology;
use bluegreen_panel::servers::Servers;
use bluegreen_panel::{Options, Patience, serve};
use bluegreen_process::signals::Stop;
use bluegreen_report::Report;

/// Checks the config, asks whether it is trusted, and serves the panel.
pub fn run(served: &Served, config: Option<PathBuf>, trust: bool, report: &Report) -> Result<()> {
    let options = Promotable { config, json: false, trust };
    Topology::open(&access(&options), &Judge { is_trusted: trust, report })?;
    let (client, state) = {
        let access = access(&options);
        (access.client, access.state)
    };
    let servers = Servers { config: options.config, client, state };
    let options = Options {
        listen: served.listen,
        token_file: served.token_file.clone(),
        hosts: served.host.clone(),
        patience: Patience::default(),
    };
    serve(&options, Arc::new(servers), &Stop::catch(false), |address| {
        report.line(format_args!("The panel is at http://{address}/. Ctrl-C stops it."));
    })?;
    Ok(())
}
