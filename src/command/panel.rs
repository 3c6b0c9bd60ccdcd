//! `panel`: serves the control panel, until a signal stops it.

use std::path::PathBuf;
use std::sync::Arc;

use super::promote::{TerminalPrompt, access};
use crate::cli::{CloneArgs, PanelArgs};
use crate::error::Result;
use bluegreen_client::plan::Topology;
use bluegreen_panel::servers::Servers;
use bluegreen_panel::{Options, Timeouts, serve};
use bluegreen_process::signals::Stop;
use bluegreen_report::Report;

/// Checks the config and that it is trusted, and serves the panel.
pub fn run(arguments: &PanelArgs, config: Option<PathBuf>, trust: bool, report: &Report) -> Result<()> {
    let options = CloneArgs { config, json: false, trust };
    Topology::open(&access(&options), &TerminalPrompt { is_trusted: trust, report })?;
    let (client, state) = {
        let access = access(&options);
        (access.client, access.state)
    };
    let servers = Servers { config: options.config, client, state };
    let options = Options {
        listen: arguments.listen,
        token_file: arguments.token_file.clone(),
        hosts: arguments.host.clone(),
        timeouts: Timeouts::default(),
    };
    serve(&options, Arc::new(servers), &Stop::catch(false), |address| {
        report.line(format_args!("The panel is at http://{address}/. Ctrl-C stops it."));
    })?;
    Ok(())
}
