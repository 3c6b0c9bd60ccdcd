//! `history`: lists deployments, rollbacks, and promotions, with their author, duration, and outcome.

use bluegreen_object_store::ObjectId;

use crate::command::table::{print_json, print_rows};
use crate::error::Result;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::site::Site;
use bluegreen_server::site::history::{self, Entry};
use bluegreen_text::age;

/// Prints the newest `limit` entries of the history, newest first; without a limit, all of them.
pub fn run(server: &DeployContext, json: bool, limit: Option<usize>) -> Result<()> {
    let site = Site::open(&server.config.site)?;
    let mut entries = history::read(&site)?;
    entries.reverse();
    entries.truncate(limit.unwrap_or(usize::MAX));
    if json {
        return print_json(&entries);
    }
    let heading = ["TIME", "AGE", "ACTION", "BY", "COMMIT", "WAS", "TOOK", "OUTCOME"].map(String::from);
    print_rows(&std::iter::once(heading).chain(entries.iter().map(row)).collect::<Vec<_>>())
}

fn row(entry: &Entry) -> [String; 8] {
    let short = |commit: Option<ObjectId>| commit.map_or("-".into(), |id| id.short());
    [
        entry.time.clone(),
        age(&entry.time).unwrap_or_default(),
        entry.action.to_string(),
        entry.by.to_string(),
        short(entry.new),
        short(entry.old),
        format!("{:.2} s", entry.seconds),
        entry.ending(),
    ]
}
