//! The wording of messages other than errors.
//!
//! The first and the last line of a deployment, and the line for a ref that does not deploy, match the bash hook that this
//! program replaces to the letter, because scripts search for them.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bluegreen_text::{count, listed, printable, reason, seconds};

use crate::pusher::live_line::LiveLine;
use crate::pusher::wording::{capitalized, contents, live, participle, rolled_back, writing};
use crate::release::ReleaseName;
use crate::site::history::Action;
use crate::site::{Holder, Live};

/// A message to the pusher.
#[derive(Debug)]
pub enum Message<'a> {
    /// The branch moved.
    Received { branch: &'a str, server: &'a str },
    /// The deployment is complete.
    Complete,
    /// Another ref moved.
    OtherRef {
        /// The ref's full name.
        name: &'a [u8],
        branch: &'a str,
    },
    /// Another branch moved, and the branch that deploys does not exist: prints the commands that deploy it.
    OtherBranch {
        /// The pushed branch.
        name: &'a str,
        /// The branch that deploys.
        branch: &'a str,
        /// The server's name, which is usually also the name of the remote.
        server: &'a str,
        config: &'a Path,
    },
    /// The branch moved, and the push option `skip` prevents a deployment.
    Skipped { branch: &'a str, live_line: &'a LiveLine },
    /// An unknown push option.
    UnknownOption(&'a str),
    /// A deployment enters its next phase. Printed with the push option `verbose`.
    Phase(&'a str),
    /// The branch was deleted.
    Deleted { branch: &'a str, live_line: &'a LiveLine },
    /// The instance of the new release became healthy, after this time.
    Healthy(Duration),
    /// A release became live.
    Live {
        release: &'a ReleaseName,
        /// The number of paths that differ from the previous live release.
        changed: u64,
        /// The number of files and links.
        files: u64,
        /// Their size in bytes.
        size: u64,
        took: Duration,
    },
    /// The commit is already live.
    AlreadyLive { commit: &'a str, release: &'a ReleaseName },
    /// The folder is the same in this commit as in that of the live release.
    FolderUnchanged(&'a Path, &'a str, &'a ReleaseName),
    /// A newer push has already moved the branch.
    Superseded { commit: &'a str, tip: &'a str },
    /// An older release became live again.
    RolledBack {
        release: &'a ReleaseName,
        /// The release that was live before.
        from: &'a Live,
        took: Duration,
    },
    /// Another process holds the lock.
    Waiting { holder: &'a str },
    /// A deployment to the public side.
    PublicSide(&'a str),
    /// A failure that did not change the live release.
    NotDone(Action, &'a LiveLine),
    /// Submodules that stay empty.
    EmptySubmodules(&'a [PathBuf]),
    /// The progress of a checkout.
    Writing { done: u64, total: u64 },
    /// Git LFS files that are deployed as pointers.
    Pointers(&'a [PathBuf]),
    /// A shared directory that cannot be seeded from the commit, because it is on another file system.
    NotSeeded(&'a Path),
    /// The result of `deploy --dry-run`.
    DryRun {
        commit: &'a str,
        /// The commit's subject.
        subject: &'a str,
        /// The number of its files and links.
        files: u64,
        /// The number of paths that differ from the live release.
        changed: u64,
        site: &'a Path,
        /// The release that would be recycled.
        recycled: Option<ReleaseName>,
    },
    /// `cancel` found no running deployment.
    NothingRuns,
    /// TERM was sent to another process.
    Cancelling(&'a Holder),
    /// The other process has stopped.
    Cancelled(&'a LiveLine),
    /// A step begins. Its output follows, indented.
    Step { phase: &'a str, name: &'a str },
    /// A build step was skipped, because a kept release has the same inputs.
    StepUnchanged {
        /// The step's name.
        name: &'a str,
        /// The release that its outputs were copied from.
        from: &'a ReleaseName,
        /// The time that it took.
        took: Duration,
    },
    /// A build step has not created what the config declares.
    NoOutput {
        /// The step's name.
        name: &'a str,
        /// The output.
        path: &'a Path,
        /// What prevents it from being kept.
        error: &'a std::io::Error,
    },
    /// The number of lines of a step that were dropped because the pusher read too slowly.
    LinesDropped(u64),
    /// A log that cannot be written.
    LogBroken(&'a std::io::Error),
    /// A step after activation failed, and the previous release becomes live again.
    GoingBack(&'a ReleaseName),
    /// A failure after activation that left the new release live.
    LiveNevertheless(&'a LiveLine),
    /// The result of `adopt`.
    Adopted { release: &'a ReleaseName, site: &'a Path },
    /// There was nothing to adopt.
    NothingToAdopt(&'a Path),
}

impl Display for Message<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received { branch, server } => {
                let name = capitalized(branch);
                write!(to, "{name} ref received.  Deploying {branch} branch to {server}...")
            }
            Self::Complete => write!(to, "Git hooks deploy complete."),
            Self::OtherRef { name, branch } => {
                let name = printable(OsStr::from_bytes(name));
                write!(
                    to,
                    "Ref {name} successfully received.  Doing nothing: only the {branch} branch may be deployed on this server."
                )
            }
            Self::OtherBranch { name, branch, server, config } => {
                let config = printable(*config);
                write!(
                    to,
                    "to deploy it, run `git push {server} {name}:{branch}`, or set `branch = \"{name}\"` in {config} on {server}"
                )
            }
            Self::Deleted { branch, live_line } => {
                write!(to, "{} ref deleted.  Doing nothing: {live_line}.", capitalized(branch))
            }
            Self::Skipped { branch, live_line } => {
                let name = capitalized(branch);
                write!(
                    to,
                    "{name} ref received.  Doing nothing, because of the push option `skip`: {live_line}."
                )
            }
            Self::UnknownOption(option) => {
                write!(
                    to,
                    "unknown push option `{option}`: expected `skip`, `public`, `no-cache`, `timing`, or `verbose`"
                )
            }
            Self::Phase(phase) => write!(to, "Phase: {phase}"),
            Self::Healthy(took) => write!(to, "Application started: healthy after {}", seconds(*took)),
            Self::Live { release, changed, files, size, took } => {
                live(to, release, *changed, (*files, *size), *took)
            }
            Self::AlreadyLive { commit, release } => {
                write!(to, "Nothing to do: {commit} is already live (release {release}).")
            }
            Self::FolderUnchanged(folder, commit, release) => {
                let folder = printable(*folder);
                write!(
                    to,
                    "Nothing to do: {commit} does not change `{folder}` (release {release} stays live)."
                )
            }
            Self::Superseded { commit, tip } => {
                write!(to, "Commit {commit} is superseded by {tip}, the tip of the branch.")
            }
            Self::RolledBack { release, from, took } => rolled_back(to, release, from, *took),
            Self::Waiting { holder } => write!(to, "Waiting for {holder}..."),
            Self::NotDone(action, live_line) => write!(to, "Not {}: {live_line}.", participle(*action)),
            Self::PublicSide(server) => write!(to, "{server} is public: visitors see this at once"),
            Self::EmptySubmodules(paths) => {
                write!(to, "{} left empty: {}", count(paths.len() as u64, "submodule"), listed(paths))
            }
            Self::Writing { done, total } => writing(to, *done, *total),
            Self::Pointers(paths) => {
                let (files, names) = (count(paths.len() as u64, "file"), listed(paths));
                write!(to, "the content of {files} in Git LFS is missing, so pointers are deployed: {names}")
            }
            Self::NotSeeded(path) => {
                let path = printable(*path);
                write!(to, "the commit's `{path}` is left out: `shared/{path}` is on another file system")
            }
            Self::DryRun { commit, subject, files, changed, site, recycled } => {
                write!(to, "Would deploy {commit} ({subject}) to {}", printable(*site))?;
                contents(to, *files, *changed, recycled.as_ref())
            }
            Self::NothingRuns => write!(to, "Nothing is running."),
            Self::Cancelling(holder) => write!(to, "Cancelling {holder}..."),
            Self::Cancelled(live_line) => write!(to, "Cancelled: {live_line}."),
            Self::Step { phase, name } => write!(to, "Step {phase}: {name}"),
            Self::StepUnchanged { name, from, took } => {
                write!(to, "Step {name}: unchanged since {from}, copied in {}", seconds(*took))
            }
            Self::NoOutput { name, path, error } => {
                let (path, reason) = (printable(*path), reason(error));
                write!(
                    to,
                    "step {name} runs again in every deployment: cannot keep its output `{path}`: {reason}"
                )
            }
            Self::LinesDropped(lines) => {
                write!(to, "  ... {} omitted; run `bluegreen log` to see all", count(*lines, "line"))
            }
            Self::LogBroken(error) => write!(to, "cannot write the log: {}", reason(error)),
            Self::GoingBack(release) => write!(to, "Going back to release {release}..."),
            Self::LiveNevertheless(live_line) => write!(to, "Deployed with errors: {live_line}."),
            Self::Adopted { release, site } => {
                let site = printable(*site);
                write!(to, "Release {release} is live: it contains the previous files of {site}")
            }
            Self::NothingToAdopt(site) => write!(to, "Nothing to adopt in {}", printable(*site)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ReleaseName {
        "20261122T201500Z-1a2b3c4d5e6f".parse().unwrap()
    }

    #[test]
    fn the_lines_of_the_bash_hook_are_kept_to_the_letter() {
        let line = Message::Received { branch: "master", server: "blue" }.to_string();
        assert_eq!(line, "Master ref received.  Deploying master branch to blue...");
        let line = Message::Received { branch: "main", server: "green" }.to_string();
        assert_eq!(line, "Main ref received.  Deploying main branch to green...");
        assert_eq!(Message::Complete.to_string(), "Git hooks deploy complete.");
        let line = Message::OtherRef { name: b"refs/heads/topic", branch: "master" }.to_string();
        assert_eq!(
            line,
            "Ref refs/heads/topic successfully received.  Doing nothing: only the master branch may be deployed on this server."
        );
    }

    #[test]
    fn results_say_what_is_live() {
        let took = Duration::from_millis(40);
        let line = Message::Live { release: &name(), changed: 2, files: 9, size: 999_999, took }.to_string();
        assert_eq!(line, "Release 20261122T201500Z-1a2b3c4d5e6f is live: 2 files changed, 0.04 s");
        let line = Message::Live { release: &name(), changed: 1, files: 50_000, size: 220_000_000, took };
        let line = line.to_string();
        assert!(line.ends_with(": 1 file changed, 0.04 s (220 MB of 50000 files in all)"), "{line}");
        let live_line = LiveLine::new("blue", Some(&Live::Release(name())));
        assert_eq!(
            Message::NotDone(Action::Deploy, &live_line).to_string(),
            "Not deployed: blue still serves 1a2b3c4d5e6f (release 20261122T201500Z-1a2b3c4d5e6f)."
        );
        let nothing = LiveLine::new("blue", Some(&Live::Nothing));
        assert_eq!(
            Message::NotDone(Action::Deploy, &nothing).to_string(),
            "Not deployed: blue serves nothing yet."
        );
        let elsewhere = LiveLine::new("blue", Some(&Live::Elsewhere("/srv/old".into())));
        assert_eq!(
            Message::NotDone(Action::Deploy, &elsewhere).to_string(),
            "Not deployed: blue still serves `/srv/old`."
        );
    }
}
