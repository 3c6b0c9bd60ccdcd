//! `generate`: prints files that the installer needs: man page, completions, settings.

use std::io::Write;

use bluegreen_text::printable;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::files;
use super::invocation::{Invocation, host_name};
use super::table::print_text;
use crate::cli::{Cli, Generated};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::git::settings::RECOMMENDED;
use crate::pusher::report::Report;

/// Prints one of these files, or writes `files` into a directory.
pub fn run(what: &Generated, invocation: &Invocation, report: &Report) -> Result<()> {
    let text = match what {
        Generated::Bash => completions(Shell::Bash),
        Generated::Zsh => completions(Shell::Zsh),
        Generated::Fish => completions(Shell::Fish),
        Generated::Man => man().map_err(Error::io("write", "the man page"))?,
        Generated::Config => include_str!("../../share/bluegreen.toml").into(),
        Generated::GitSettings => {
            RECOMMENDED.map(|setting| format!("{} {}", setting.key, setting.value)).join("\n").into()
        }
        Generated::Settings { config: Some(file) } => settings(&Config::read_file(file)?),
        Generated::Settings { config: None } => settings(&invocation.open(report)?.config),
        Generated::Files { directory } => files::lay(directory)?.into(),
    };
    print_text(String::from_utf8_lossy(&text).trim_end())
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    generate(shell, &mut Cli::command(), "bluegreen", &mut text);
    text
}

/// The values of a config that the installer needs.
fn settings(config: &Config) -> Vec<u8> {
    let Config { branch, server, site, .. } = config;
    // The installer must not report the host name as a value of the config.
    let (key, name) = server.clone().map_or_else(|| ("host", host_name()), |name| ("server", name));
    format!("branch {branch}\n{key} {name}\nroot {}", printable(&site.root)).into()
}

/// Makes one man page for the program and all its subcommands.
fn man() -> std::io::Result<Vec<u8>> {
    let (mut cli, mut to) = (Cli::command(), Vec::new());
    cli.build();
    clap_mangen::Man::new(cli.clone()).render(&mut to)?;
    for subcommand in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        let man = clap_mangen::Man::new(subcommand.clone());
        writeln!(to, ".SH {}", subcommand.get_name().to_uppercase())?;
        man.render_synopsis_section(&mut to)?;
        man.render_description_section(&mut to)?;
        man.render_options_section(&mut to)?;
    }
    Ok(to)
}
