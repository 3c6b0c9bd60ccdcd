//! `releases`: lists the releases on disk.

use bluegreen_object_store::ObjectId;
use bluegreen_text::printable;
use serde::Serialize;

use crate::command::table::{print_json, print_rows};
use crate::error::Result;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::release::Release;
use bluegreen_server::site::{Live, Site};

/// A release, as `--json` prints it.
#[derive(Serialize)]
struct Row {
    name: String,
    live: bool,
    state: &'static str,
    commit: Option<ObjectId>,
    subject: Option<String>,
    files: Option<u64>,
    sealed: Option<String>,
}

/// Prints all releases, newest first.
pub fn run(server: &DeployContext, json: bool) -> Result<()> {
    let site = Site::open(&server.config.site)?;
    let live = site.live()?;
    let rows: Vec<Row> = site.releases()?.iter().rev().map(|release| row(release, &live)).collect();
    if json {
        return print_json(&rows);
    }
    let heading = ["RELEASE", "STATE", "COMMIT", "SUBJECT"].map(String::from);
    let line = |release: &Release| {
        let state = if live.release() == Some(&release.name) { "live" } else { release.state() };
        let commit = release.name.commit().to_owned();
        let subject = release.record.as_ref().map_or_else(String::new, |record| printable(&record.subject));
        [release.name.to_string(), state.into(), commit, subject]
    };
    let releases = site.releases()?;
    print_rows(&std::iter::once(heading).chain(releases.iter().rev().map(line)).collect::<Vec<_>>())
}

fn row(release: &Release, live: &Live) -> Row {
    let record = release.record.clone();
    Row {
        name: release.name.to_string(),
        live: live.release() == Some(&release.name),
        state: release.state(),
        commit: record.as_ref().map(|record| record.commit),
        subject: record.as_ref().map(|record| record.subject.clone()),
        files: record.as_ref().map(|record| record.files),
        sealed: record.and_then(|record| record.sealed),
    }
}
