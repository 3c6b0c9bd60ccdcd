//! The command line as clap structs. The man page and the completions are generated from them.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

/// Blue-green deployment by git push: a push becomes a release directory, and one rename makes it live.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 done; 1 failed, and what was live is still live; 2 wrong usage or config; \
    3 the new release is live, but something after the flip failed."
)]
pub struct Cli {
    /// The bare repository [default: `GIT_DIR`, else the repository whose hooks/ this program was called
    /// from, else the working directory]
    #[arg(short = 'C', value_name = "REPOSITORY", global = true)]
    pub repository: Option<PathBuf>,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deploy a fresh release of a revision
    Deploy {
        /// Any revision that git resolves [default: the branch of the config]
        revision: Option<String>,
        /// Only print what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Go back to an older release
    Rollback {
        /// The release's name [default: the newest good release older than the live one]
        release: Option<String>,
    },
    /// List the releases
    Releases(Format),
    /// Show what is live and what is being done
    Status(Format),
    /// Show what was done, by whom, and how it ended
    History(Format),
    /// Show what the steps of a release printed
    Log {
        /// The release's name [default: the one whose steps ran last]
        release: Option<String>,
        /// Keep printing while a deployment runs
        #[arg(short, long)]
        follow: bool,
        /// Print the output of the release's instance of the application [default: the live release's]
        #[arg(long)]
        app: bool,
    },
    /// End the running deployment; what is live stays
    Cancel,
    /// End what a crash cut off, and deploy a tip of the branch that no deployment has looked at
    Resume {
        /// Record it as done by the boot, not by you
        #[arg(long)]
        boot: bool,
    },
    /// Hold the site's lock for `promote`, and answer its lines on standard input
    Hold,
    /// Push to every server of a side at once, from a clone
    Push {
        /// Side, refs and push options
        #[command(flatten)]
        push: Pushable,
        /// File and form
        #[command(flatten)]
        options: Promotable,
    },
    /// Show which side is public, and what both serve
    Public(Promotable),
    /// Send visitors to the other side, and go back automatically if that fails
    Promote {
        /// The side [default: the one that is not public]
        side: Option<String>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Only print what would be done
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Promote a side that is not well, or without the servers that do not answer
        #[arg(long)]
        force: bool,
        /// The options that `public` has too
        #[command(flatten)]
        options: Promotable,
    },
    /// Find every problem of this set-up
    Check(Format),
    /// Run as a git hook, with its lines on standard input
    Hook {
        /// The hook
        #[arg(value_enum)]
        hook: Hook,
    },
    /// Move the files of the site into a first release
    #[command(hide = true)]
    Adopt,
    /// Print a file that belongs to the installation
    #[command(hide = true)]
    Generate {
        /// The file
        #[command(subcommand)]
        what: Generated,
    },
}

/// The form of a table.
#[derive(Debug, clap::Args)]
pub struct Format {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// The side that is pushed to, and what.
#[derive(Debug, clap::Args)]
pub struct Pushable {
    /// The side, as .promote.toml has it; without that file, a git remote with all its push URLs
    pub side: String,
    /// The refs, as `git push` takes it [default: the current branch]
    #[arg(value_name = "REFSPEC")]
    pub refspecs: Vec<String>,
    /// A push option, such as `skip`, `public` or `verbose`
    #[arg(short = 'o', long = "push-option", value_name = "OPTION")]
    pub push_options: Vec<String>,
}

/// The options that `push`, `public` and `promote` share.
#[derive(Debug, clap::Args)]
pub struct Promotable {
    /// The file that names sides and switch [default: .promote.toml at the top of the clone]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Trust the programs and settings of this clone's .promote.toml from now on
    #[arg(long)]
    pub trust: bool,
}

/// The hooks of git that this program can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hook {
    /// Runs after the refs have moved
    PostReceive,
    /// Moves the branch itself, and only if the deployment succeeds: the gate
    ProcReceive,
}

/// The files that `generate` prints.
#[derive(Debug, Subcommand)]
pub enum Generated {
    /// The man page
    Man,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
    /// The installer, web sites, switches, front ends, unit and configs, in a new directory
    Files {
        /// The directory
        directory: PathBuf,
    },
    /// The config of a new repository, with every key and its default
    Config,
    /// The settings of git that a repository should have, a key and a value a line
    GitSettings,
    /// Branch, server and site of the config, a key and a value a line
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
