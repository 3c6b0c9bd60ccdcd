//! Output to the pusher: the wording of each line, and the output of steps.

pub mod leftover;
pub mod live_line;
pub mod message;
pub mod output;
mod wording;

use bluegreen_checkout::monitor::Notice;
use bluegreen_report::Report;

use self::message::Message;

/// Prints a notice of a checkout.
pub fn print_notice(report: &Report, notice: &Notice) {
    match *notice {
        Notice::Progress { done, total } => report.progress(Message::Writing { done, total }),
        Notice::End => report.end_progress(),
        Notice::Complaint(text) => report.warning(text),
        Notice::Pointers(paths) => report.warning(Message::Pointers(paths)),
    }
}
