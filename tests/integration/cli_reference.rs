//! `docs/reference/cli.md` is generated from the clap definitions. `docs/record` writes it. Without
//! `BLUEGREEN_RECORD`, the test fails if the page is stale.

use std::fmt::Write;

use bluegreen::cli::Cli;
use clap::{Command, CommandFactory};

use crate::support::markdown::project;

const PAGE: &str = "docs/reference/cli.md";

const HEAD: &str = "\
<!-- Generated from src/cli.rs by docs/record. -->

# Commands

This page is for everyone who looks up a command or an option.

Every command accepts `-C REPOSITORY`, the bare repository on the server. By default that is `GIT_DIR`, or else the
repository from whose `hooks/` directory the program was called, or else the working directory unless it is a developer's
clone, or else the only repository that the installer has set up on the server. Over ssh, call a command as
`ssh deploy@blue COMMAND`. `-h` and `--help` print help, and `-V` prints the version. `--log-format json` prints
[messages as JSON](../howto/monitor.md#filter-the-journal).

[Exit status and JSON](json.md) lists the exit status and the fields that `--json` prints.
";

fn page() -> String {
    let quiet = |command: Command| command.disable_help_flag(true).disable_version_flag(true);
    let mut cli = Cli::command().term_width(100).mut_arg("repository", |arg| arg.hide(true));
    cli = cli.mut_arg("log_format", |arg| arg.hide(true));
    cli = cli.mut_subcommands(quiet);
    cli.build();
    let mut page = HEAD.to_owned();
    for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        if command.get_name() == "help" {
            continue;
        }
        let help = command.clone().render_long_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let help = lines.join("\n");
        write!(page, "\n## {}\n\n```text\n{}\n```\n", command.get_name(), help.trim()).unwrap();
    }
    page
}

#[test]
fn the_page_shows_the_help_of_every_command() {
    let expected = page();
    if std::env::var_os("BLUEGREEN_RECORD").is_some() {
        std::fs::write(project(PAGE), &expected).unwrap();
    }
    let found = std::fs::read_to_string(project(PAGE)).unwrap_or_default();
    assert!(found == expected, "{PAGE} is stale: run docs/record");
}
