//! `public` on a server: prints its own mark.

use bluegreen_text::{age, escape_controls};

use crate::command::table::{print_json, print_text};
use crate::error::Result;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::site::Site;

/// Prints the mark of one server. Only a clone can query the front end.
pub fn run(server: &DeployContext, json: bool) -> Result<()> {
    let site = Site::open(&server.config.site)?;
    let (mark, lock) = (site.public_mark()?, site.freeze()?);
    if json {
        return print_json(&serde_json::json!({
            "server": server.name,
            "public": mark.as_ref().map(|mark| mark.public),
            "since": mark.as_ref().map(|mark| &mark.since),
            "lock": lock,
        }));
    }
    let name = &server.name;
    let mut lines = vec![match mark {
        Some(mark) => {
            let age = age(&mark.since).map(|age| format!(" ({age})")).unwrap_or_default();
            let not = if mark.public { "" } else { "not " };
            escape_controls(&format!("{name} is {not}public, since {}{age}", mark.since))
        }
        None => format!("{name} has not been part of a promotion yet"),
    }];
    lines.extend(lock.map(|lock| escape_controls(&format!("{name} is {lock}"))));
    print_text(&lines.join("\n"))
}
