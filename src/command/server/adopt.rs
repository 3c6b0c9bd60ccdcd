//! `adopt`: moves an existing site's files into its first release, and activates it.

use bluegreen_text::printable;

use crate::error::Result;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::pusher::message::Message;
use bluegreen_server::site::history::Action;

/// Moves all files of the site except the program's own into a release, and activates it.
pub fn run(server: &DeployContext) -> Result<()> {
    Ok(server.change_site(Action::Adopt, |site, attempt| {
        match site.adopt()? {
            Some(release) => {
                server.report.line(Message::Adopted { release: &release, site: site.root() });
                attempt.release = Some(release);
                for name in site.hidden_by_adoption()? {
                    let path = printable(&site.root().join(name));
                    server.report.warning(format!(
                        "`{path}` stays outside of the release: visitors can no longer request `/{name}/`"
                    ));
                }
            }
            None => server.report.line(Message::NothingToAdopt(site.root())),
        }
        Ok(())
    })?)
}
