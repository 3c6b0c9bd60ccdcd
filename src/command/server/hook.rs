//! The git hooks. `post-receive` runs after the refs have moved. `proc-receive`, the gate, moves the branch itself after the
//! release is built and checked.

use std::fs::File;
use std::io::{self, Read, stdin, stdout};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use bluegreen_text::explain::Explain;
use bluegreen_text::message;

use super::invocation::{Invocation, called_by_git, host_name};
use crate::error::{Error, Result};
use bluegreen_git as git;
use bluegreen_git::Repository;
use bluegreen_git::push::RefUpdate;
use bluegreen_process::signals;
use bluegreen_protocol::role::Role;
use bluegreen_report::Report;
use bluegreen_server::config;
use bluegreen_server::deploy::context::DeployContext;
use bluegreen_server::deploy::options::PushOptions;
use bluegreen_server::deploy::{Target, deploy};
use bluegreen_server::error as server_error;
use bluegreen_server::gate::branch::{delete, skip, skip_moved};
use bluegreen_server::gate::protocol::{self, RefStatus, Request};
use bluegreen_server::gate::rules;
use bluegreen_server::pusher::live_line::LiveLine;
use bluegreen_server::pusher::message::Message;
use bluegreen_server::site::Site;
use bluegreen_server::site::history::Action;

/// Runs the `post-receive` hook. If an operator runs it, it deploys the new revision of a line even if the branch has moved
/// since.
pub fn post_receive(invocation: &Invocation, report: &Report) -> Result<()> {
    let mut server = invocation
        .open(report)
        .map_err(|error| report_failure(report, error, &LiveLine::new(&host_name(), None)))?;
    let updates = read_updates().map_err(|error| report_failure(report, error, &server.live_line()))?;
    let mut outcome = Ok(());
    for update in &updates {
        let result = handle_update(&mut server, update, updates.len() == 1);
        if result.is_err() {
            outcome = result;
        }
    }
    outcome
}

/// Reports a failure that occurred before any deployment began.
fn report_failure(report: &Report, error: Error, live_line: &LiveLine) -> Error {
    report.error(&error);
    report.line(Message::NotDone(Action::Deploy, live_line));
    Error::Reported(Box::new(error))
}

fn read_updates() -> Result<Vec<RefUpdate>> {
    let mut input = Vec::new();
    stdin().lock().read_to_end(&mut input).map_err(Error::io("read", "standard input"))?;
    Ok(RefUpdate::parse_all(&input)?)
}

/// Deploys a ref update, or reports that it does not deploy. `is_alone` is true for the only update of a push.
fn handle_update(server: &mut DeployContext, update: &RefUpdate, is_alone: bool) -> Result<()> {
    let branch = &server.config.branch;
    // A push to a symbolic ref that points to the branch moves the branch without the gate.
    let is_alias = !update.is_branch(branch) && server.repository.is_alias(&update.name, branch);
    if !update.is_branch(branch) && !is_alias {
        server.report.line(Message::OtherRef { name: &update.name, branch });
        hint_at_branch(server, update, is_alone);
        return Ok(());
    }
    signals::outlive_the_client();
    if called_by_git() && !is_alias && is_gated(server, update)? {
        // The gate has already reported this push.
        return Ok(());
    }
    if update.is_deletion() {
        server.report.line(Message::Deleted { branch, live_line: &server.live_line() });
        return Ok(());
    }
    if !called_by_git() {
        return Ok(deploy(server, Target::Commit(update.new))?);
    }
    let options = options();
    server.options = read_options(server, options.iter().map(Vec::as_slice));
    if server.options.skip {
        return Ok(skip_moved(server, update)?);
    }
    Ok(deploy(server, Target::Tip(update.new))?)
}

/// Prints the commands that deploy another branch, if the branch that deploys does not exist: the pushed branch is then
/// probably meant.
fn hint_at_branch(server: &DeployContext, update: &RefUpdate, is_alone: bool) {
    let DeployContext { repository, config, name: server_name, .. } = server;
    let name = update.name.strip_prefix(b"refs/heads/").and_then(|name| std::str::from_utf8(name).ok());
    let is_meant = |name: &&str| !update.is_deletion() && (is_alone || ["main", "master"].contains(name));
    let Some(name) = name.filter(is_meant) else { return };
    // Look for the file first, so that most pushes to other branches do not wait for git.
    let exists = repository.path().join("refs/heads").join(&config.branch).exists();
    if !exists && matches!(repository.tip(&config.branch), Ok(None)) {
        let (branch, config) = (&config.branch, repository.path().join(config::FILE));
        server.report.hint(Message::OtherBranch { name, branch, server: server_name, config: &config });
    }
}

/// Reads the push options from the environment that git sets for `post-receive`.
fn options() -> Vec<Vec<u8>> {
    let count = std::env::var("GIT_PUSH_OPTION_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    let option = |at: u32| std::env::var_os(format!("GIT_PUSH_OPTION_{at}")).map(OsStringExt::into_vec);
    (0..count).map_while(option).collect()
}

/// Reads the options of a push. A key with the role `push` cannot override the protection of the public side.
fn read_options<'o>(server: &DeployContext, options: impl Iterator<Item = &'o [u8]>) -> PushOptions {
    let report = server.report;
    let mut options = PushOptions::read(options, report);
    if options.verbose {
        report.be_verbose();
    }
    if options.public
        && let Some(role) = server.caller.actor.role.filter(|role| *role != Role::All)
    {
        report.warning(format_args!("the role `{role}` does not include the push option `public`"));
        options.public = false;
    }
    options
}

/// Runs the `proc-receive` hook, the gate. It succeeds even if a ref is refused, which its response reports to git.
pub fn proc_receive(invocation: &Invocation, report: &Report) -> Result<()> {
    signals::outlive_the_client();
    let mut output = stdout().lock();
    let request = protocol::read_request(&mut stdin().lock(), &mut output)?;
    let mut server = invocation
        .open(report)
        .map_err(|error| report_failure(report, error, &LiveLine::new(&host_name(), None)));
    if let Ok(server) = &mut server {
        server.caller.is_gate = true;
    }
    let statuses: Vec<(&[u8], RefStatus)> = request
        .updates
        .iter()
        .map(|update| {
            let status = match &mut server {
                Ok(server) => handle_gated_update(server, &request, update),
                Err(error) => RefStatus::Rejected(message(error)),
            };
            (update.name.as_slice(), status)
        })
        .collect();
    protocol::write_report(&mut output, &statuses).map_err(Error::io("write", "standard output"))
}

/// Handles one ref of a push: deploys its commit and moves the ref, or returns the reason for the refusal.
fn handle_gated_update(server: &mut DeployContext, request: &Request, update: &RefUpdate) -> RefStatus {
    if !update.is_branch(&server.config.branch) {
        return RefStatus::FallThrough;
    }
    if request.is_atomic {
        // The hook does not see the push's other refs, which could still fail.
        return RefStatus::Rejected(
            "the gate does not support atomic pushes: push without `--atomic`".into(),
        );
    }
    if std::env::var_os("GIT_NAMESPACE").is_some_and(|namespace| !namespace.is_empty()) {
        return RefStatus::Rejected("the gate does not support namespaces".into());
    }
    server.options = read_options(server, request.options.iter().map(Vec::as_slice));
    let server = &*server;
    server.catch_signals();
    // Until the branch has moved, the commit is not reachable from any ref, and `git gc` could remove its objects.
    let kept = (!update.is_deletion()).then(|| server.repository.keep(update.new)).transpose();
    let checked = kept.map_err(server_error::Error::from).and_then(|kept| {
        rules::check(&server.repository, update, server.report, server.stop()).map(|()| kept)
    });
    let checked = checked.map_err(|error| match error {
        server_error::Error::Git(git::Error::PushRejected(_)) => error.into(),
        // A push that could not be checked is reported as a failure, not only as refused.
        error => report_failure(server.report, error.into(), &server.live_line()),
    });
    let result = checked.and_then(|_kept| {
        match update {
            _ if update.is_deletion() => delete(server, update),
            _ if server.options.skip => skip(server, update),
            _ => deploy(server, Target::Gate(update)),
        }
        .map_err(Error::from)
    });
    match result {
        // With exit status 3, the new release is live and the ref has moved: for git, the push succeeded.
        Ok(()) => RefStatus::Updated,
        Err(error) if error.exit_status() == 3 => RefStatus::Updated,
        Err(error) => RefStatus::Rejected(message(&error)),
    }
}

/// Returns whether the gate has handled the push of a commit: git calls `proc-receive` for the branch, and that hook is this
/// program, or it calls this program and the commit is live. Runs git to find the hook's path if a script in another directory
/// called this program.
fn is_gated(server: &DeployContext, update: &RefUpdate) -> Result<bool> {
    let DeployContext { repository, config, .. } = server;
    let hook = match own_hooks(repository) {
        Some(hooks) => hooks.join("proc-receive"),
        None => repository.hook_path("proc-receive")?,
    };
    let has_deployed = || {
        let live = Site::open(&config.site).and_then(|site| site.live());
        live.is_ok_and(|live| live.release().is_some_and(|name| name.commit() == update.new.short()))
    };
    let is_ours = is_this_program(&hook) || (calls_this_program(&hook, "proc-receive") && has_deployed());
    Ok(is_ours && repository.calls_proc_receive(&config.branch)?)
}

/// Returns the repository's `hooks` directory if this program was called from there.
fn own_hooks(repository: &Repository) -> Option<PathBuf> {
    let called = PathBuf::from(std::env::args_os().next()?);
    let hooks = repository.path().join("hooks");
    let directory = called.parent()?.canonicalize().ok()?;
    (directory == hooks.canonicalize().ok()?).then_some(hooks)
}

/// Returns whether a hook is a symlink to this program, or a copy of it.
pub fn is_this_program(hook: &Path) -> bool {
    let is_same = || -> io::Result<bool> {
        let ours = std::env::current_exe()?;
        Ok(ours.canonicalize()? == hook.canonicalize()? || std::fs::read(ours)? == std::fs::read(hook)?)
    };
    is_same().unwrap_or(false)
}

/// Returns whether a hook is a script that calls this program, as those in `hooks/` of the sources do.
pub fn calls_this_program(hook: &Path, name: &str) -> bool {
    let script = || -> io::Result<Vec<u8>> {
        let mut script = Vec::new();
        if hook.metadata()?.is_file() {
            File::open(hook)?.take(1 << 16).read_to_end(&mut script)?;
        }
        Ok(script)
    };
    let (script, call) = (script().unwrap_or_default(), format!("bluegreen hook {name}"));
    let script = String::from_utf8_lossy(&script);
    script.lines().any(|line| line.split('#').next().is_some_and(|code| code.contains(&call)))
}
