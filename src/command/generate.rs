//! `generate`: prints the man page and the completions.

use std::io::Write;

use clap_complete::env::{Bash, Fish, Zsh};
use clap_mangen::Man;

use super::table::print_text;
use super::{command_line, completion};
use crate::cli::GeneratedFile;
use crate::error::{Error, Result};

/// Prints a file. Returns false for one that only a server has.
pub fn run(what: &GeneratedFile) -> Result<bool> {
    let text = match what {
        GeneratedFile::Bash => completion::registration(&Bash)?,
        GeneratedFile::Zsh => completion::registration(&Zsh)?,
        GeneratedFile::Fish => completion::registration(&Fish)?,
        GeneratedFile::Man => man().map_err(Error::io("write", "the man page"))?,
        GeneratedFile::Files { .. }
        | GeneratedFile::Config
        | GeneratedFile::GitSettings
        | GeneratedFile::Settings { .. } => {
            return Ok(false);
        }
    };
    print_text(String::from_utf8_lossy(&text).trim_end())?;
    Ok(true)
}

/// Creates one man page for the program and all its subcommands. The subcommands have no pages of their own, so the
/// page lists none.
fn man() -> std::io::Result<Vec<u8>> {
    let (mut cli, mut to) = (command_line(), Vec::new());
    cli.build();
    let page = Man::new(cli.clone());
    page.render_title(&mut to)?;
    page.render_name_section(&mut to)?;
    writeln!(
        to,
        ".SH SYNOPSIS\n\\fBbluegreen\\fR [\\fB\\-C\\fR \\fIREPOSITORY\\fR] \\fICOMMAND\\fR [\\fIARGUMENT\\fR ...]"
    )?;
    page.render_description_section(&mut to)?;
    page.render_options_section(&mut to)?;
    for subcommand in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = subcommand.get_name();
        if name == "help" {
            continue;
        }
        writeln!(to, ".SH {}", name.to_uppercase())?;
        // clap's usage names the values of options, which clap_mangen's lacks.
        let usage = subcommand.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace('\\', "\\\\").replace('-', "\\-");
        writeln!(to, ".nf\n{usage}\n.fi\n.PP")?;
        let own = subcommand.clone().mut_args(|arg| {
            let is_general = arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str());
            arg.hide(is_general)
        });
        let man = Man::new(own.clone());
        let mut text = Vec::new();
        man.render_description_section(&mut text)?;
        if own.get_arguments().any(|arg| !arg.is_hide_set()) {
            man.render_options_section(&mut text)?;
        }
        to.extend(String::from_utf8_lossy(&text).replace(".SH ", ".SS ").bytes());
    }
    // The only text after the help is about the exit status.
    let mut extra = Vec::new();
    page.render_extra_section(&mut extra)?;
    to.extend(String::from_utf8_lossy(&extra).replace(".SH EXTRA", ".SH EXIT STATUS").bytes());
    page.render_version_section(&mut to)?;
    write!(to, "{}", addresses(include_str!("../../packaging/urls")))?;
    Ok(to)
}

/// Returns the sections about where the project is published; nothing for values that are not set.
fn addresses(urls: &str) -> String {
    let value = |key: &str| {
        let mut values = urls.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.next().filter(|value| !value.is_empty()).map(|value| value.replace('-', "\\-"))
    };
    let section = |(title, key)| Some(format!(".SH {title}\n{}\n", value(key)?));
    [("BUGS", "REPOSITORY"), ("SEE ALSO", "HOMEPAGE")].into_iter().filter_map(section).collect()
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn only_addresses_that_are_set_are_printed() {
        assert_eq!(addresses("# REPOSITORY=https://example.org/a\nREPOSITORY=\nHOMEPAGE=\n"), "");
        assert_eq!(
            addresses("REPOSITORY=https://example.org/a-b\nHOMEPAGE=\n"),
            ".SH BUGS\nhttps://example.org/a\\-b\n"
        );
    }
}
