//! `check`: every problem of a set-up, each with a hint. It changes nothing and stops at nothing.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bluegreen_text::explain::Explain;
use bluegreen_text::{count, printable, reason};
use nix::unistd::{AccessFlags, Uid, access};
use serde::Serialize;

use super::hook::is_this_program;
use super::invocation::{Invocation, refuse_weak};
use super::sudo;
use super::table::{print_json, print_text};
use crate::config::Config;
use crate::deploy::pending::{self, Kind, Pending};
use crate::error::{Error, Result};
use crate::git::settings::{OLDEST_GIT, RECOMMENDED, Recommended};
use crate::git::{Repository, login_name};
use crate::site::{Live, Site};

/// Something that is wrong, or could be better; as `--json` shows it.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    message: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    /// Deployments fail, or do not happen.
    Error,
    /// Deployments work, but something may be lost.
    Warning,
}

/// All that was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding { level: Level::Error, message: message.into(), hint: Some(hint.into()) });
    }

    fn warning(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding { level: Level::Warning, message: message.into(), hint: Some(hint.into()) });
    }

    /// Takes an error for a finding.
    fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                let finding = Finding { level: Level::Error, message: error.to_string(), hint: error.hint() };
                self.0.push(finding);
            })
            .ok()
    }
}

/// Checks repository, hooks, config and site; any error makes the exit status 1.
pub fn run(invocation: &Invocation, json: bool) -> Result<()> {
    let repository = invocation.repository()?;
    let mut findings = Findings::default();
    findings.take(repository.refuse_foreign());
    check_git(&repository, &mut findings);
    check_hook(&repository, &mut findings);
    let config = findings.take(Config::read(repository.path()));
    let mode = config.as_ref().and_then(|config| check_gate(&repository, &config.branch, &mut findings));
    if let Some(config) = &config {
        check_sudo(config, &mut findings);
    }
    let config = config.filter(|config| findings.take(refuse_weak(&config.site.root)).is_some());
    if let Some(config) = config
        && let Some(site) = findings.take(Site::open(&config.site))
    {
        check_site(&site, &mut findings);
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
    lines.join("\n")
}

fn check_git(repository: &Repository, findings: &mut Findings) {
    let Some(version) = findings.take(repository.git_version()) else { return };
    if version < OLDEST_GIT {
        let message = format!("git {}.{} is too old", version.0, version.1);
        findings.error(message, format!("install git {}.{} or newer", OLDEST_GIT.0, OLDEST_GIT.1));
    }
    let git_dir = printable(repository.path());
    for Recommended { key, value, loss } in RECOMMENDED {
        let Some(setting) = findings.take(repository.setting(key)) else { return };
        if setting.is_none() {
            findings.warning(
                format!("`{key}` is not set: {loss}"),
                format!("`git -C {git_dir} config {key} {value}`"),
            );
        }
    }
}

/// Returns whether a push calls this program.
fn check_hook(repository: &Repository, findings: &mut Findings) {
    if let Some(path) = findings.take(repository.setting("core.hooksPath")).flatten() {
        let message = format!("`core.hooksPath` is `{}`: git does not look into hooks/", printable(&path));
        findings
            .error(message, "`git config --unset core.hooksPath` in the repository, or link the hook there");
    }
    let hook = repository.path().join("hooks/post-receive");
    let remedy = format!("`ln -s {} {}`", program(), printable(&hook));
    match hook.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound && hook.is_symlink() => {
            findings
                .error(format!("`{}` leads nowhere", printable(&hook)), format!("remove it, then {remedy}"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            findings.error(format!("`{}` is missing: a push deploys nothing", printable(&hook)), remedy);
        }
        Err(error) => drop(findings.take(Err::<(), _>(Error::io("read", &hook)(error)))),
        Ok(metadata) if metadata.permissions().mode() & 0o100 == 0 => {
            let message = format!("`{}` is not executable: git passes over it", printable(&hook));
            findings.error(message, format!("`chmod +x {}`", printable(&hook)));
        }
        Ok(_) if !is_this_program(&hook) => {
            let message = format!("`{}` is another program", printable(&hook));
            findings.warning(message, "let it pass its standard input on to `bluegreen hook post-receive`");
        }
        Ok(_) => {}
    }
}

/// Names the hook that deploys a push, in a sentence; `None` where a push cannot work.
fn check_gate(repository: &Repository, branch: &str, findings: &mut Findings) -> Option<String> {
    let gate = repository.path().join("hooks/proc-receive");
    let is_asked = findings.take(repository.asks_gate(branch))?;
    let runs = gate.metadata().is_ok_and(|file| file.permissions().mode() & 0o100 != 0);
    let unset = "`git config --unset-all receive.procReceiveRefs`";
    if is_asked && !runs {
        let message =
            format!("git asks `{}`, which does not run: every push to {branch} fails", printable(&gate));
        findings.error(message, format!("`ln -s {} {}`, or {unset}", program(), printable(&gate)));
        return None;
    }
    if is_asked && !is_this_program(&gate) {
        let message =
            format!("`{}` is another program, and decides about pushes to {branch}", printable(&gate));
        findings.warning(message, format!("replace it, or {unset}"));
    } else if !is_asked && runs && is_this_program(&gate) {
        let message = format!("git does not ask `{}` about {branch}: the gate is open", printable(&gate));
        findings.warning(
            message,
            format!("`git config --add receive.procReceiveRefs refs/heads/{branch}`, or remove it"),
        );
    }
    Some(if is_asked {
        format!("A push to {branch} fails if its deployment fails: `proc-receive` deploys it.")
    } else {
        format!("A push to {branch} succeeds even if its deployment fails: `post-receive` deploys it.")
    })
}

/// Finds the steps whose `sudo` no admin has allowed.
fn check_sudo(config: &Config, findings: &mut Findings) {
    for step in config.steps.iter().chain(config.notify.iter()) {
        let commands = sudo::commands(step).unwrap_or_else(|problem| {
            let message = format!("step `{}` uses `sudo`, but {problem}", printable(&step.name));
            findings.warning(message, "write it as `sudo /usr/bin/systemctl restart NAME`: plain words only");
            Vec::new()
        });
        for command in commands {
            let step = printable(&step.name);
            match sudo::allows(&command) {
                Ok(true) => {}
                Ok(false) => findings.warning(
                    format!("step `{step}`: `sudo {command}` is not allowed"),
                    format!("an admin runs `./install.sh --sudo '{command}'`, or `bluegreen-setup` likewise"),
                ),
                Err(error) => findings.warning(
                    format!("step `{step}`: cannot run `sudo`: {}", reason(&error)),
                    "install sudo, or write the step without it",
                ),
            }
        }
    }
}

fn program() -> String {
    std::env::current_exe().map_or_else(|_| "/usr/local/bin/bluegreen".into(), |path| printable(&path))
}

fn check_site(site: &Site, findings: &mut Findings) {
    check_owned(site.root(), findings);
    for name in ["releases", ".bluegreen", "shared"] {
        let path = site.root().join(name);
        if path.exists() {
            check_owned(&path, findings);
        }
    }
    let state = site.root().join(".bluegreen");
    if state.metadata().is_ok_and(|metadata| metadata.mode() & 0o077 != 0) {
        findings.warning(
            format!("`{}` may be read by others", printable(&state)),
            format!("`chmod 700 {}`", printable(&state)),
        );
    }
    let live = findings.take(site.live());
    match &live {
        Some(Live::Gone(name)) => {
            findings.error(
                format!("release {name} is live, but it is gone"),
                "`bluegreen deploy` or `bluegreen rollback`",
            );
        }
        Some(Live::Elsewhere(path)) => {
            let message = format!("`current` leads to `{}`, which is no release", printable(path));
            findings.warning(message, "the next deployment replaces the link");
        }
        Some(Live::Nothing | Live::Release(_)) | None => {}
    }
    let releases = findings.take(site.releases()).unwrap_or_default();
    for release in releases.iter().filter(|release| release.record.is_none()) {
        let path: PathBuf = site.release_path(&release.name);
        let message = format!(
            "`{}` has no record that can be read: nobody knows whether it is complete, so it stays",
            printable(&path)
        );
        let is_live = live.as_ref().and_then(Live::release) == Some(&release.name);
        if is_live {
            findings.warning(message, "`bluegreen deploy` makes a release with a record, and that live");
        } else {
            findings.warning(message, format!("`rm -r {}` if nobody needs it", printable(&path)));
        }
    }
}

/// Finds what a crash left to be done.
fn check_pending(repository: &Repository, branch: &str, site: &Site, findings: &mut Findings) {
    for Pending { kind, message, command } in
        findings.take(pending::find(repository, branch, site)).unwrap_or_default()
    {
        let command = format!("`bluegreen {command}`");
        match kind {
            Kind::Lock => findings.error(message, command),
            Kind::Publication | Kind::Tip | Kind::Other => findings.warning(message, command),
        }
    }
}

/// Returns whether a directory is ours to write.
fn check_owned(path: &Path, findings: &mut Findings) {
    let owner = path.metadata().map_or(0, |metadata| metadata.uid());
    let may_write = access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    if !may_write || owner != Uid::effective().as_raw() {
        let message = format!("`{}` does not belong to the repository's owner", printable(path));
        let owner = login_name(Uid::effective());
        findings.error(message, format!("`chown -R {owner} {}`", printable(path)));
    }
}
