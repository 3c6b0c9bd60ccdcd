//! `generate`: prints files that the installer needs: man page, completions, settings.

use std::io::Write;

use clap_complete::{Shell, generate};

use super::place::host_name;
use super::table::print_text;
use crate::cli::Generated;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::git::settings::RECOMMENDED;
use crate::text::printable;

/// Prints one of these files.
pub fn run(what: Generated, cli: &mut clap::Command) -> Result<()> {
    let mut text = Vec::new();
    let mut complete = |shell| {
        generate(shell, cli, "bluegreen", &mut text);
        Ok(())
    };
    match what {
        Generated::Bash => complete(Shell::Bash),
        Generated::Zsh => complete(Shell::Zsh),
        Generated::Fish => complete(Shell::Fish),
        Generated::Man => man(cli, &mut text),
        Generated::Config => text.write_all(include_bytes!("../../hooks/bluegreen.toml")),
        Generated::GitSettings => {
            RECOMMENDED.iter().try_for_each(|setting| writeln!(text, "{} {}", setting.key, setting.value))
        }
        // Others do these: they come from a config, or are not printed.
        Generated::Settings | Generated::Files => Ok(()),
    }
    .map_err(Error::io("write", "standard output"))?;
    print_text(String::from_utf8_lossy(&text).trim_end())
}

/// Prints the values of a config that the installer needs.
pub fn settings(config: &Config) -> Result<()> {
    let Config { branch, server, site, .. } = config;
    let name = server.clone().unwrap_or_else(host_name);
    print_text(&format!("branch {branch}\nserver {name}\nsite {}", printable(&site.root)))
}

/// Writes one man page for the program and all its subcommands.
fn man(cli: &mut clap::Command, to: &mut impl Write) -> std::io::Result<()> {
    cli.build();
    clap_mangen::Man::new(cli.clone()).render(to)?;
    for subcommand in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        let man = clap_mangen::Man::new(subcommand.clone());
        writeln!(to, ".SH {}", subcommand.get_name().to_uppercase())?;
        man.render_synopsis_section(to)?;
        man.render_description_section(to)?;
        man.render_options_section(to)?;
    }
    Ok(())
}
