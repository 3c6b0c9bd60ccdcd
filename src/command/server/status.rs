//! `status`: prints the live release and the running action.

use crate::command::table::{print_json, print_text};
use crate::error::Result;
use bluegreen_protocol::freeze::Freeze;
use bluegreen_protocol::hold::PROTOCOL;
use bluegreen_protocol::status::Status;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::deploy::folder;
use bluegreen_server::deploy::pending::{self, Pending};
use bluegreen_server::deploy::role;
use bluegreen_server::error as server_error;
use bluegreen_server::release::{Record, ReleaseName};
use bluegreen_server::site::{Live, Site};
use bluegreen_text::{age, escape_controls, printable};

/// Prints the state of the server.
pub fn run(server: &DeployContext, json: bool) -> Result<()> {
    let (status, live) = read(server)?;
    if json {
        return print_json(&status);
    }
    print_text(&text(&status, &live))
}

/// Reads the state of the server.
pub(super) fn read(server: &DeployContext) -> server_error::Result<(Status, Live)> {
    let site = Site::open(&server.config.site)?;
    let live = site.live()?;
    let tip = server.repository.tip(&server.config.branch)?;
    let record = site.live_record(&live);
    let status = Status {
        server: server.name.clone(),
        branch: server.config.branch.clone(),
        site: site.root().to_string_lossy().into_owned(),
        live: live.release().map(ReleaseName::to_string),
        elsewhere: if let Live::Elsewhere(path) = &live {
            Some(path.to_string_lossy().into_owned())
        } else {
            None
        },
        commit: record.as_ref().map(|record| record.commit),
        subject: record.as_ref().map(|record| record.subject.clone()),
        sealed: record.as_ref().and_then(|record| record.sealed.clone()),
        since: site.live_since(),
        good: record.as_ref().is_some_and(Record::is_good),
        public: site.public_mark().unwrap_or_else(|error| {
            server.report.warning(error);
            None
        }),
        role: role::read(server, &site),
        protocol: PROTOCOL,
        lock: site.freeze().unwrap_or_else(|error| {
            // A server whose lock cannot be read counts as locked.
            let problem = error.to_string();
            server.report.warning(error);
            Some(Freeze::unreadable(problem))
        }),
        tip,
        why: tip.and_then(|tip| site.tip_status(&server.config.branch, tip).ok()?.why()),
        unchanged: record
            .zip(tip)
            .is_some_and(|(record, tip)| record.commit != tip && folder::is_unchanged(server, &record, tip)),
        pending: pending::find(&server.repository, &server.config.branch, &site).unwrap_or_else(|error| {
            server.report.warning(error);
            Vec::new()
        }),
        running: site.holder(),
    };
    Ok((status, live))
}

/// Formats a time and its age.
fn dated(time: &str) -> String {
    let age = age(time).map(|age| format!(" ({age})")).unwrap_or_default();
    escape_controls(&format!("{time}{age}"))
}

fn text(status: &Status, live: &Live) -> String {
    let unknown = || "unknown".to_owned();
    let mut lines = vec![format!("Server:   {}", status.server), format!("Site:     {}", status.site)];
    lines.push(match live {
        Live::Nothing => "Live:     nothing".into(),
        Live::Gone(name) => {
            format!("Live:     nothing: `current` points to release {name}, which does not exist")
        }
        Live::Elsewhere(path) => format!("Live:     `{}`, which is not a release", printable(path)),
        Live::Release(name) => format!("Live:     {name}"),
    });
    if let Live::Release(name) = live {
        let subject = status.subject.clone().unwrap_or_else(unknown);
        lines.push(format!("Commit:   {} {subject}", name.commit()));
        lines.push(format!("Since:    {}", status.since.as_deref().map_or_else(unknown, dated)));
    }
    let same = status.tip.is_some() && status.tip == status.commit;
    lines.push(match &status.tip {
        Some(_) if same => format!("Branch:   {} is live", status.branch),
        Some(tip) if status.unchanged => {
            format!(
                "Branch:   {} is at {}, which changes nothing that is deployed",
                status.branch,
                tip.short()
            )
        }
        Some(tip) => {
            let why = status.why.as_ref().map(|why| format!(": {}", escape_controls(why)));
            format!(
                "Branch:   {} is at {}, which is not live{}",
                status.branch,
                tip.short(),
                why.unwrap_or_default()
            )
        }
        None => format!("Branch:   {} does not exist yet", status.branch),
    });
    if let Some(mark) = &status.public {
        let not = if mark.public { "yes" } else { "no" };
        lines.push(format!("Public:   {not}, since {}", dated(&mark.since)));
    }
    lines.extend(status.role.as_ref().map(|role| format!("Role:     {}", role.words())));
    if let Some(lock) = &status.lock {
        lines.push(format!("Lock:     {lock}"));
    }
    let pending =
        |Pending { message, command, .. }: &Pending| format!("Pending:  {message}: `bluegreen {command}`");
    lines.extend(status.pending.iter().map(pending));
    lines.push(match &status.running {
        Some(holder) => escape_controls(&format!("Running:  {holder}: {}", holder.phase)),
        None => "Running:  nothing".into(),
    });
    lines.iter().map(|line| escape_controls(line)).collect::<Vec<_>>().join("\n")
}
