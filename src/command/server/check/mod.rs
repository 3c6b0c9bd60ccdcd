//! `check`: reports every problem of a setup, each with a hint. It changes nothing, and continues after a problem.

mod programs;
mod service;
mod site;

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

use bluegreen_text::explain::Explain;
use bluegreen_text::{count, escape_controls, printable, reason, shell_word};
use serde::Serialize;

use crate::command::server::hook::{calls_this_program, is_this_program};
use crate::command::server::invocation::{Invocation, refuse_weak};
use crate::command::server::sudo;
use crate::command::table::{print_json, print_text};
use crate::error::{Error, Result};
use bluegreen_git::Repository;
use bluegreen_git::settings::{OLDEST_GIT, RECOMMENDED, Recommended};
use bluegreen_server::config::{Config, Phase, Step};
use bluegreen_server::deploy::pending::{self, Kind, Pending};
use bluegreen_server::deploy::steps::PATH;
use bluegreen_server::error::as_owner;
use bluegreen_server::site::Site;

/// A problem, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    message: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    /// Deployments fail, or do not start.
    Error,
    /// Deployments work, but the setup has a weakness.
    Warning,
}

/// The problems found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding { level: Level::Error, message: message.into(), hint: Some(hint.into()) });
    }

    fn warning(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding { level: Level::Warning, message: message.into(), hint: Some(hint.into()) });
    }

    /// Adds an error to the problems.
    fn take<T, E: Explain>(&mut self, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| {
                let finding = Finding { level: Level::Error, message: error.to_string(), hint: error.hint() };
                self.0.push(finding);
            })
            .ok()
    }
}

/// Checks the repository, hooks, config, and site. The exit status is 1 if there is an error.
pub fn run(invocation: &Invocation, json: bool) -> Result<()> {
    let repository = invocation.repository()?;
    let mut findings = Findings::default();
    findings.take(repository.refuse_foreign());
    check_git(&repository, &mut findings);
    check_hook(&repository, &mut findings);
    let config = findings.take(Config::read(repository.path()));
    let mode = config.as_ref().and_then(|config| check_gate(&repository, &config.branch, &mut findings));
    if let Some(config) = &config {
        check_branch(&repository, &config.branch, &mut findings);
        check_steps(config, &mut findings);
        check_sudo(config, &mut findings);
    }
    site::check_keys(&mut findings);
    let config = config.filter(|config| findings.take(refuse_weak(&config.site.root)).is_some());
    if let Some(config) = config
        && let Some(site) = findings.take(Site::open(&config.site))
    {
        site::check(&site, &config, &repository, &mut findings);
        check_freeze(&site, &mut findings);
        check_pending(&repository, &config.branch, &site, &mut findings);
    }
    let Findings(findings) = findings;
    if json {
        print_json(&findings)?;
    } else {
        print_text(&text(mode.as_deref(), &findings))?;
    }
    match number_of(Level::Error, &findings) {
        0 => Ok(()),
        errors => Err(Error::Reported(Box::new(Error::Unhealthy(count(errors, "problem"))))),
    }
}

/// Reports an operator's lock, which is intended but easily forgotten.
fn check_freeze(site: &Site, findings: &mut Findings) {
    if let Some(freeze) = findings.take(site.freeze()).flatten() {
        findings.warning(format!("the server is {freeze}"), "`bluegreen unlock` removes the lock");
    }
}

fn number_of(level: Level, findings: &[Finding]) -> u64 {
    findings.iter().filter(|finding| finding.level == level).count() as u64
}

fn text(mode: Option<&str>, findings: &[Finding]) -> String {
    let mut lines: Vec<String> = mode.into_iter().map(str::to_owned).collect();
    for finding in findings {
        let label = if finding.level == Level::Error { "error" } else { "warning" };
        lines.push(format!("{label}: {}", finding.message));
        lines.extend(finding.hint.as_ref().map(|hint| format!("hint: {hint}")));
    }
    let found = |level, noun| Some(number_of(level, findings)).filter(|n| *n > 0).map(|n| count(n, noun));
    let found: Vec<String> =
        found(Level::Error, "error").into_iter().chain(found(Level::Warning, "warning")).collect();
    lines.push(if found.is_empty() {
        "All is well.".into()
    } else {
        format!("Found {}.", found.join(" and "))
    });
    lines.iter().map(|line| escape_controls(line)).collect::<Vec<_>>().join("\n")
}

fn check_git(repository: &Repository, findings: &mut Findings) {
    let Some(version) = findings.take(repository.git_version()) else { return };
    if version < OLDEST_GIT {
        let message = format!("git {}.{} is not supported", version.0, version.1);
        findings.error(message, format!("install git {}.{} or newer", OLDEST_GIT.0, OLDEST_GIT.1));
    }
    let Some(settings) = findings.take(repository.own_settings()) else { return };
    let git_dir = shell_word(repository.path());
    for Recommended { key, value, loss } in RECOMMENDED {
        if !settings.iter().any(|setting| setting.name.eq_ignore_ascii_case(key)) {
            findings.warning(
                format!("`{key}` is not set: {loss}"),
                as_owner(&format!("git -C {git_dir} config {key} {value}")),
            );
        }
    }
}

/// Reports a repository that refuses pushes, and one with a branch other than the one that deploys.
fn check_branch(repository: &Repository, branch: &str, findings: &mut Findings) {
    let git_dir = printable(repository.path());
    if findings.take(repository.setting("core.bare")).flatten().as_deref() == Some("false") {
        findings.warning(
            format!("`{git_dir}` is not bare: git refuses pushes to the branch that is checked out"),
            as_owner(&format!("git -C {} config core.bare true", shell_word(repository.path()))),
        );
    }
    if findings.take(repository.tip(branch)).flatten().is_some() {
        return;
    }
    let mut others = ["main", "master"].into_iter().filter(|other| *other != branch);
    if let Some(other) = others.find(|other| repository.tip(other).is_ok_and(|tip| tip.is_some())) {
        findings.warning(
            format!("`{other}` was pushed, but only `{branch}` deploys, and it does not exist"),
            format!("set `branch = \"{other}\"` in {git_dir}/bluegreen.toml, or push {other}:{branch}"),
        );
    }
}

/// Reports programs that steps run and that are not installed.
fn check_steps(config: &Config, findings: &mut Findings) {
    let path = config.env.iter().find(|(name, _)| *name == "PATH").map_or(PATH, |(_, path)| path);
    let phases = [Phase::Build, Phase::Check, Phase::Restart, Phase::Verify];
    let public = config.public.enter.iter().chain(&config.public.leave);
    let steps =
        phases.iter().flat_map(|phase| config.steps.of(*phase)).chain(public).map(|step| ("step", step));
    for (kind, step) in steps.chain(config.notify.iter().map(|step| ("notice", step))) {
        for program in programs::missing(&step.run, path) {
            let message =
                format!("{kind} `{}`: `{}` is not installed", printable(&step.name), printable(program));
            let package = programs::package(program);
            let hint = if program.starts_with('/') {
                "install it, or correct the path in bluegreen.toml".to_owned()
            } else {
                format!(
                    "`sudo apt-get install {package}`, or set `PATH` in `[env]` of bluegreen.toml ({path})"
                )
            };
            if kind == "step" { findings.error(message, hint) } else { findings.warning(message, hint) }
        }
    }
}

/// Checks that a push runs this program.
fn check_hook(repository: &Repository, findings: &mut Findings) {
    if let Some(path) = findings.take(repository.setting("core.hooksPath")).flatten() {
        let message = format!("`core.hooksPath` is `{}`: git ignores hooks/", printable(&path));
        findings.error(
            message,
            as_owner(&format!("git -C {} config --unset core.hooksPath", shell_word(repository.path()))),
        );
    }
    let hook = repository.path().join("hooks/post-receive");
    let remedy = as_owner(&format!("ln -s {} {}", program(), shell_word(&hook)));
    match hook.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound && hook.is_symlink() => {
            findings.error(
                format!("`{}` is a dangling symlink", printable(&hook)),
                format!("remove it, then {remedy}"),
            );
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            findings.error(format!("`{}` is missing: a push deploys nothing", printable(&hook)), remedy);
        }
        Err(error) => drop(findings.take(Err::<(), _>(Error::io("read", &hook)(error)))),
        Ok(metadata) if metadata.permissions().mode() & 0o100 == 0 => {
            let message = format!("`{}` is not executable: git skips it", printable(&hook));
            findings.error(message, as_owner(&format!("chmod +x {}", shell_word(&hook))));
        }
        Ok(_) if !is_this_program(&hook) && !calls_this_program(&hook, "post-receive") => {
            let message = format!("`{}` is another program", printable(&hook));
            findings.warning(message, "pipe its standard input to `bluegreen hook post-receive`");
        }
        Ok(_) => {}
    }
}

/// Names the hook that deploys a push, for a message; `None` if no push can work.
fn check_gate(repository: &Repository, branch: &str, findings: &mut Findings) -> Option<String> {
    let gate = repository.path().join("hooks/proc-receive");
    let calls_gate = findings.take(repository.calls_proc_receive(branch))?;
    let runs = gate.metadata().is_ok_and(|file| file.permissions().mode() & 0o100 != 0);
    let git_dir = shell_word(repository.path());
    let unset = as_owner(&format!("git -C {git_dir} config --unset-all receive.procReceiveRefs"));
    if calls_gate && !runs {
        let message = format!(
            "git runs `{}`, which is missing or not executable: every push to {branch} fails",
            printable(&gate)
        );
        findings.error(
            message,
            format!("{}, or {unset}", as_owner(&format!("ln -s {} {}", program(), shell_word(&gate)))),
        );
        return None;
    }
    if calls_gate && !is_this_program(&gate) && !calls_this_program(&gate, "proc-receive") {
        let message = format!("`{}` is another program, and handles pushes to {branch}", printable(&gate));
        findings.warning(message, format!("replace it, or {unset}"));
    } else if !calls_gate && runs && is_this_program(&gate) {
        let message = format!("git does not run `{}` for {branch}: the gate is off", printable(&gate));
        findings.warning(
            message,
            format!(
                "{}, or remove it",
                as_owner(&format!(
                    "git -C {git_dir} config --add receive.procReceiveRefs {}",
                    shell_word(&format!("refs/heads/{branch}"))
                ))
            ),
        );
    }
    Some(if calls_gate {
        format!("A push to {branch} fails if its deployment fails: `proc-receive` deploys it.")
    } else {
        format!("A push to {branch} succeeds even if its deployment fails: `post-receive` deploys it.")
    })
}

/// Reports steps whose `sudo` commands are not allowed, and units that they cannot restart.
fn check_sudo(config: &Config, findings: &mut Findings) {
    for step in all_steps(config) {
        let commands = sudo::commands(step).unwrap_or_else(|problem| {
            let message = format!("step `{}` uses `sudo`, but {problem}", printable(&step.name));
            findings.warning(message, "write it as `sudo /usr/bin/systemctl restart NAME`: plain words only");
            Vec::new()
        });
        for (message, hint) in commands.iter().flat_map(|command| service::problems(command)) {
            findings.error(format!("step `{}`: {message}", printable(&step.name)), hint);
        }
        for command in commands {
            let step = printable(&step.name);
            match sudo::allows(&command) {
                Ok(true) => {}
                Ok(false) => findings.warning(
                    format!("step `{step}`: `sudo {command}` is not allowed"),
                    format!("ask an administrator to run `sudo ./install.sh --sudo '{command}'`, or `bluegreen-setup` likewise"),
                ),
                Err(error) => findings.warning(
                    format!("step `{step}`: cannot run `sudo`: {}", reason(&error)),
                    "install sudo, or write the step without it",
                ),
            }
        }
    }
}

/// Iterates over all steps and the commands of `[notify]`.
fn all_steps(config: &Config) -> impl Iterator<Item = &Step> {
    let public = config.public.enter.iter().chain(&config.public.leave);
    config.steps.iter().chain(public).chain(config.notify.iter())
}

fn program() -> String {
    std::env::current_exe().map_or_else(|_| "/usr/local/bin/bluegreen".into(), |path| shell_word(&path))
}

/// Reports pending recovery after a crash.
fn check_pending(repository: &Repository, branch: &str, site: &Site, findings: &mut Findings) {
    for Pending { kind, message, command } in
        findings.take(pending::find(repository, branch, site)).unwrap_or_default()
    {
        let command = format!("`bluegreen {command}`");
        match kind {
            Kind::Lock => findings.error(message, command),
            Kind::Publication | Kind::Role | Kind::Tip | Kind::Other => findings.warning(message, command),
        }
    }
}
