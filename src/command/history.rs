//! `history`: lists deployments, rollbacks and promotions, with their author, duration and outcome.

use bluegreen_object_store::ObjectId;

use super::table::{print_json, print_rows};
use crate::deploy::server::Server;
use crate::error::Result;
use crate::site::Site;
use crate::site::history::{self, Entry};

/// Prints the history, newest first.
pub fn run(server: &Server, json: bool) -> Result<()> {
    let site = Site::open(&server.config.site)?;
    let mut entries = history::read(&site)?;
    entries.reverse();
    if json {
        return print_json(&entries);
    }
    let heading = ["TIME", "ACTION", "BY", "COMMIT", "WAS", "TOOK", "OUTCOME"].map(String::from);
    print_rows(&std::iter::once(heading).chain(entries.iter().map(row)).collect::<Vec<_>>())
}

fn row(entry: &Entry) -> [String; 7] {
    let short = |commit: Option<ObjectId>| commit.map_or("-".into(), |id| id.short());
    [
        entry.time.clone(),
        entry.action.to_string(),
        entry.by.to_string(),
        short(entry.new),
        short(entry.old),
        format!("{:.2} s", entry.seconds),
        entry.ending(),
    ]
}
