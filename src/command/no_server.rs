//! The commands of a server in a build without it. Linux compiles this for tests only.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Command as CommandLine;

use super::session::Runner;
use crate::cli::{Cli, Command};
use crate::error::Result;
use crate::server_error::missing::ServerError;
use bluegreen_protocol::role::Role;
#[cfg(not(target_os = "linux"))]
use bluegreen_report::Report;

/// The commands of a clone, which this build has.
const CLIENT: [&str; 6] = ["lock", "unlock", "push", "public", "promote", "panel"];

/// Does nothing: only a server runs programs that must not inherit descriptors.
pub fn close_inherited() {}

/// Hides the commands of a server, so that the help, the man page, and the completions list the commands of a clone.
pub fn command_line(all: CommandLine) -> CommandLine {
    all.mut_arg("repository", |arg| arg.hide(true)).mut_subcommands(|command| {
        let is_hidden = !CLIENT.contains(&command.get_name());
        command.hide(is_hidden)
    })
}

/// Returns the command line as it is.
pub fn complete(command: CommandLine, _: Option<PathBuf>) -> CommandLine {
    command
}

/// Returns [`None`]: no name of the program replaces its arguments.
pub fn parse(_: &Path, _: &[OsString]) -> Option<Result<Result<Cli, clap::Error>>> {
    None
}

/// Returns [`None`]: no ssh key runs the program.
pub fn role(_: &Path, _: &[OsString]) -> Option<Role> {
    None
}

/// Stays in the session.
#[expect(clippy::unnecessary_wraps, reason = "a server can fail to leave the session")]
pub fn leave_callers(_: &[OsString]) -> Result<Runner> {
    Ok(Runner::Ourselves)
}

/// Fails: this build has no server.
#[cfg(not(target_os = "linux"))]
pub fn run(cli: &Cli, _: &Path, _: Option<Role>, _: &Report) -> Result<()> {
    Err(refusal(&cli.command).into())
}

/// Returns the error for a command that only servers run.
fn refusal(command: &Command) -> ServerError {
    let name = match command {
        Command::Deploy { .. } => "deploy",
        Command::Rollback { .. } => "rollback",
        Command::Releases(_) => "releases",
        Command::Status(_) => "status",
        Command::History { .. } => "history",
        Command::Metrics => "metrics",
        Command::Log { .. } => "log",
        Command::Cancel => "cancel",
        Command::Resume { .. } => "resume",
        Command::Lock { .. } => "lock",
        Command::Unlock(_) => "unlock",
        Command::Hold { .. } => "hold",
        Command::Public(_) => "public -C",
        Command::Check(_) => "check",
        Command::Hook { .. } => "hook",
        Command::Adopt => "adopt",
        Command::Generate { .. } => "generate",
        Command::Push { .. } => "push",
        Command::Promote { .. } => "promote",
        Command::Panel { .. } => "panel",
    };
    ServerError::OnServer(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bluegreen_text::explain::Explain;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_help_lists_only_commands_of_a_clone() {
        let help = command_line(Cli::command()).render_long_help().to_string();
        let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        // A wrapped description continues on a line that is indented further.
        let names = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        assert_eq!(names, ["lock", "unlock", "push", "public", "promote", "panel", "help"]);
        assert!(!help.contains("--repository") && !help.contains("-C "), "{help}");
    }

    #[test]
    fn a_command_of_a_server_says_where_it_runs() {
        let refuse = |line: &str| {
            let error = refusal(&Cli::try_parse_from(line.split(' ')).unwrap().command);
            assert_eq!(error.exit_status(), 2);
            (error.to_string(), error.hint().unwrap())
        };
        let (error, hint) = refuse("bluegreen status");
        assert_eq!(error, "`status` runs on a server, and this program contains only the client");
        assert_eq!(hint, "run it there, as in `ssh deploy@blue status`");
        let (error, hint) = refuse("bluegreen lock reason");
        assert_eq!(error, "`lock` runs on a server, and this program contains only the client");
        assert_eq!(hint, "name the side whose servers it changes with `--side`");
    }
}
