//! `log --app [RELEASE]`: prints the output of a release's instance.

use std::io::stdout;
use std::time::Duration;

use super::log::print;
use crate::error::{Error, Result};
use bluegreen_process::{self as process, End};
use bluegreen_server::deploy::app;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::site::Site;

/// The time after which following the output stops.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Prints the output of a release's instance, by default the live release's. With `follow`, keeps printing.
pub fn run(server: &DeployContext, release: Option<&str>, follow: bool) -> Result<()> {
    let release = match release {
        Some(name) => name.parse()?,
        None => Site::open(&server.config.site)?.live()?.release().cloned().ok_or(Error::NoLog(None))?,
    };
    let Some(mut command) = app::log_command(server, &release, follow) else {
        return Err(Error::Usage("bluegreen.toml has no section `[app]`".into()));
    };
    let mut printed = Ok(true);
    server.catch_signals();
    // An instance can be silent for hours after the reader has gone.
    let stop = server.stop().or_unread(stdout());
    let end = process::run(&mut command, FOLLOW_TIMEOUT, Some(&stop), |bytes| {
        if matches!(printed, Ok(true)) && stop.check().is_ok() {
            printed = print(bytes);
        }
    });
    match end.map_err(Error::io("run", command.get_program()))? {
        End::Exited(status) if !status.success() => Err(Error::NoLog(Some(release.to_string()))),
        _ => printed.map(|_| ()),
    }
}
