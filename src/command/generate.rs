//! `generate`: files of the installation that are made from the command line's own description.

use std::io::Write;

use clap_complete::{Shell, generate};

use super::table::print_text;
use crate::cli::Generated;
use crate::error::{Error, Result};

/// Prints one of them.
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
    }
    .map_err(Error::io("write", "standard output"))?;
    print_text(String::from_utf8_lossy(&text).trim_end())
}

/// One page for the program and all its subcommands.
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
