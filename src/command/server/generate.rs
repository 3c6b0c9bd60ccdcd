//! `generate` on a server: prints files for the installer, and settings.

use bluegreen_text::printable;

use super::files;
use super::invocation::{Invocation, host_name};
use crate::cli::GeneratedFile;
use crate::command::table::print_text;
use crate::error::Result;
use bluegreen_git::settings::RECOMMENDED;
use bluegreen_report::Report;
use bluegreen_server::config::Config;

/// Prints a file, or writes `files` to a directory. The caller prints the others.
pub fn run(what: &GeneratedFile, invocation: &Invocation, report: &Report) -> Result<()> {
    let text = match what {
        GeneratedFile::Config => include_str!("../../../share/bluegreen.toml").into(),
        GeneratedFile::GitSettings => {
            RECOMMENDED.map(|setting| format!("{} {}", setting.key, setting.value)).join("\n").into()
        }
        GeneratedFile::Settings { config: Some(file) } => settings(&Config::read_file(file)?),
        GeneratedFile::Settings { config: None } => settings(&invocation.open(report)?.config),
        GeneratedFile::Files { directory } => files::write_files(directory)?.into(),
        GeneratedFile::Man | GeneratedFile::Bash | GeneratedFile::Zsh | GeneratedFile::Fish => return Ok(()),
    };
    print_text(String::from_utf8_lossy(&text).trim_end())
}

/// Returns the values of a config that the installer needs.
fn settings(config: &Config) -> Vec<u8> {
    let Config { branch, server, site, .. } = config;
    // The installer must not report the host name as a value of the config.
    let (key, name) = server.clone().map_or_else(|| ("host", host_name()), |name| ("server", name));
    format!("branch {branch}\n{key} {name}\nroot {}", printable(&site.root)).into()
}
