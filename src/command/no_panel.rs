//! `panel` in a build without the feature of the same name.

use std::path::PathBuf;

use crate::cli::PanelArgs;
use crate::error::Result;
use crate::panel_error::PanelError;
use bluegreen_report::Report;

/// Fails.
pub fn run(_: &PanelArgs, _: Option<PathBuf>, _: bool, _: &Report) -> Result<()> {
    Err(PanelError.into())
}
