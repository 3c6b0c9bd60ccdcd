//! What every step of a promotion needs.

use bluegreen_process::signals::Stop;
use bluegreen_report::Report;

use crate::plan::{Plan, PromoteIntent, Topology};

/// The context of a promotion.
#[derive(Debug, Clone, Copy)]
pub struct PromoteContext<'a> {
    pub topology: &'a Topology,
    pub plan: &'a Plan,
    pub intent: &'a PromoteIntent<'a>,
    pub stop: &'a Stop,
    pub report: &'a Report,
}
