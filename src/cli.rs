//! The command line as clap structs. The man page and the completions are generated from them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

/// Blue-green deployment by git push: a push becomes a release directory, and one rename makes it live.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 success; 1 failure, and the live release is unchanged; 2 invalid usage or config; \
    3 the new release is live, but something failed afterwards."
)]
pub struct Cli {
    /// The bare repository, on a server [default: `GIT_DIR`, else the repository that contains the program, else the
    /// working directory unless it is a clone, else the only repository of the server]
    #[arg(short = 'C', value_name = "REPOSITORY", global = true)]
    pub repository: Option<PathBuf>,
    /// The form of messages; `json` prints an object for each, with `time`, `level`, and `message`
    #[arg(long, value_name = "FORMAT", global = true, default_value = "text", hide_default_value = true)]
    pub log_format: LogFormat,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The form of messages.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// JSON objects.
    Json,
}

/// The subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deploy a fresh release of a revision
    Deploy {
        /// Any revision that git resolves [default: the branch of the config]
        revision: Option<String>,
        /// Print what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Run every build step, even if its inputs are unchanged
        #[arg(long)]
        no_cache: bool,
        /// Deploy although the server is locked
        #[arg(long)]
        force: bool,
    },
    /// Go back to an older release
    Rollback {
        /// The release's name [default: the newest good release older than the live one]
        release: Option<String>,
        /// Roll back although the server is locked
        #[arg(long)]
        force: bool,
    },
    /// List the releases
    Releases(TableArgs),
    /// Show what is live and what is running
    Status(TableArgs),
    /// Show deployments, rollbacks, and promotions, by whom, and their outcome
    History {
        /// Show only the newest ones
        #[arg(short = 'n', long, value_name = "NUMBER")]
        limit: Option<usize>,
        /// The form of the table
        #[command(flatten)]
        table: TableArgs,
    },
    /// Print metrics for Prometheus's textfile collector
    Metrics,
    /// Show the output of a release's steps
    Log {
        /// The release's name [default: the one from the last deployment or rollback]
        release: Option<String>,
        /// Keep printing while a deployment runs
        #[arg(short, long)]
        follow: bool,
        /// Print the output of the release's instance of the application [default: the live release's]
        #[arg(long)]
        app: bool,
    },
    /// Stop the running deployment; the live release stays
    Cancel,
    /// Recover after a crash: finish an interrupted activation, and deploy a tip of the branch that was never deployed
    Resume {
        /// Record the boot, instead of you, as the actor
        #[arg(long)]
        boot: bool,
    },
    /// Refuse deployments and promotions until `unlock`, and show the reason to everyone who is refused
    Lock {
        /// The reason
        #[arg(required = true)]
        reason: Vec<String>,
        /// The end: a duration like "2h", or a time like "2026-12-01T08:00:00Z" [default: until `unlock`]
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Replace another lock
        #[arg(long)]
        force: bool,
        /// The side
        #[command(flatten)]
        options: SideArgs,
    },
    /// Allow deployments and promotions again
    Unlock(SideArgs),
    /// Hold the site's lock for `promote`, and respond to its commands on standard input
    Hold {
        /// The version of the protocol that the client speaks
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        protocol: u32,
        /// Report the state first, and take the lock on request
        #[arg(long)]
        standby: bool,
    },
    /// Push to all servers of a side in parallel, from a clone
    Push {
        /// Side, refs and push options
        #[command(flatten)]
        push: PushArgs,
        /// File and form
        #[command(flatten)]
        options: CloneArgs,
    },
    /// Show which side is public, and what both sides serve
    Public(PublicArgs),
    /// Send visitors to the other side, and go back automatically on a failure
    Promote {
        /// The side [default: the one that is not public]
        side: Option<String>,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
        /// Print what would be done, and change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Promote an unhealthy side, or one with servers that do not respond
        #[arg(long)]
        force: bool,
        /// The options that `public` has too
        #[command(flatten)]
        options: CloneArgs,
    },
    /// Serve a web page on which an operator sees both sides and promotes
    Panel {
        /// Address and page
        #[command(flatten)]
        panel: PanelArgs,
        /// The file with the sides and the switch [default: .promote.toml at the top of the clone]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Trust the programs and settings of this clone's .promote.toml from now on
        #[arg(long)]
        trust: bool,
    },
    /// Report every problem of this setup
    Check(TableArgs),
    /// Run as a git hook, which reads ref updates from standard input
    Hook {
        /// The hook
        #[arg(value_enum)]
        hook: Hook,
    },
    /// Move the files of the site into a first release
    #[command(hide = true)]
    Adopt,
    /// Print a file of the installation
    #[command(hide = true)]
    Generate {
        /// The file
        #[command(subcommand)]
        what: GeneratedFile,
    },
}

/// The options of commands that print a table.
#[derive(Debug, clap::Args)]
pub struct TableArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// The options of `public`.
#[derive(Debug, clap::Args)]
pub struct PublicArgs {
    /// Refresh the table on the terminal every few seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "5",
        value_parser = clap::value_parser!(u64).range(1..=3600), conflicts_with = "json")]
    pub watch: Option<u64>,
    /// The options that `promote` has too
    #[command(flatten)]
    pub options: CloneArgs,
}

/// The options of `lock` and `unlock`.
#[derive(Debug, clap::Args)]
pub struct SideArgs {
    /// Every server of this side, from a clone [default: the repository's server]
    #[arg(long, value_name = "SIDE")]
    pub side: Option<String>,
    /// The file with the sides [default: .promote.toml at the top of the clone]
    #[arg(long, value_name = "FILE", requires = "side")]
    pub config: Option<PathBuf>,
}

/// The arguments of `push`.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    /// A side in .promote.toml; without that file, a git remote with all its push URLs
    pub side: String,
    /// A refspec, as in `git push` [default: the current branch]
    #[arg(value_name = "REFSPEC")]
    pub refspecs: Vec<String>,
    /// Commit this folder on top of each server's branch and push that commit; the clone's branches stay as they are
    #[arg(long, value_name = "FOLDER", conflicts_with = "refspecs")]
    pub from: Option<PathBuf>,
    /// A push option: `skip`, `public`, `no-cache`, `timing`, or `verbose`
    #[arg(short = 'o', long = "push-option", value_name = "OPTION")]
    pub push_options: Vec<String>,
}

/// The options that `push`, `public`, and `promote` share.
#[derive(Debug, clap::Args)]
pub struct CloneArgs {
    /// The file with the sides and the switch [default: .promote.toml at the top of the clone]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Trust the programs and settings of this clone's .promote.toml from now on
    #[arg(long)]
    pub trust: bool,
}

/// The options of `panel`.
#[derive(Debug, clap::Args)]
pub struct PanelArgs {
    /// The address to listen on; without a token file, only one of this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// A file with the token that browsers must present, which only its owner can read
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A name under which browsers reach the panel, besides localhost and addresses
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
}

/// The git hooks that this program can run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hook {
    /// Runs after the refs have moved
    PostReceive,
    /// Moves the branch itself, only if the deployment succeeds: the gate
    ProcReceive,
}

/// The files that `generate` prints.
#[derive(Debug, Subcommand)]
pub enum GeneratedFile {
    /// The man page
    Man,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
    /// The installer, web sites, switches, front ends, units, and configs, in a new directory
    Files {
        /// The directory
        directory: PathBuf,
    },
    /// The config of a new repository, with every key and its default
    Config,
    /// The git settings that a repository should have, one key and value per line
    GitSettings,
    /// Branch, server, and site of the config, one key and value per line
    Settings {
        /// The config [default: that of the repository]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

impl Hook {
    /// Returns the hook that a file name in `hooks/` stands for.
    #[must_use]
    pub fn called_as(path: &Path) -> Option<Self> {
        match path.file_name()?.to_str()? {
            "post-receive" => Some(Self::PostReceive),
            "proc-receive" => Some(Self::ProcReceive),
            _ => None,
        }
    }
}
