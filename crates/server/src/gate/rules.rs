//! The checks that `git receive-pack` performs before it moves a ref, for the refs that the gate moves.
//!
//! Their order and wording follow `update()` in git's receive-pack.c.

use crate::error::{Error, Result};
use crate::pusher::output::Output;
use bluegreen_git as git;
use bluegreen_git::push::RefUpdate;
use bluegreen_git::{Repository, Setting};
use bluegreen_process::signals::Stop;
use bluegreen_process::{self as process, End};
use bluegreen_report::Report;

/// Refuses an update that receive-pack would refuse.
pub fn check(repository: &Repository, update: &RefUpdate, report: &Report, stop: &Stop) -> Result<()> {
    let settings = repository.receive_settings()?;
    let refused = |reason: &str| Err(git::Error::PushRejected(reason.into()).into());
    let is_set = |name| last(&settings, name).is_some_and(is_true);
    if allows(&settings, "receive.denycurrentbranch").is_none() && repository.is_checked_out(&update.name)? {
        return refused("branch is currently checked out");
    }
    if update.is_deletion() {
        if is_set("receive.denydeletes") {
            return refused("deletion prohibited");
        }
        if repository.head()?.as_deref() == Some(update.name.as_slice()) {
            match allows(&settings, "receive.denydeletecurrent") {
                Some(true) => report.warning("deleting the current branch"),
                Some(false) => {}
                None => return refused("deletion of the current branch prohibited"),
            }
        }
    } else {
        if !repository.is_commit(update.new) {
            return refused("cannot write a tag or another non-commit object to a branch");
        }
        if !repository.has_history_of(update.new)? {
            return refused("shallow update not allowed: the gate needs the whole history");
        }
        if is_set("receive.denynonfastforwards")
            && !update.old.is_null()
            && !repository.is_ancestor(update.old, update.new)?
        {
            return refused("non-fast-forward");
        }
    }
    if runs_update_hook(repository, update, &settings, report, stop)? {
        Ok(())
    } else {
        refused("hook declined")
    }
}

/// Runs the `update` hook if there is one, and returns whether it accepts the update.
fn runs_update_hook(
    repository: &Repository,
    update: &RefUpdate,
    settings: &[Setting],
    report: &Report,
    stop: &Stop,
) -> Result<bool> {
    let Some(mut hook) = repository.hook("update", update, settings)? else { return Ok(true) };
    let mut output = Output::new(report, None, "");
    let end = process::run(&mut hook, git::HOOK_TIMEOUT, Some(stop), |bytes| output.take(bytes));
    output.end();
    match end.map_err(Error::io("run", "hooks/update"))? {
        End::Exited(status) => Ok(status.success()),
        End::TimedOut => Ok(false),
        End::Cancelled => Err(Error::Cancelled),
    }
}

fn last<'s>(settings: &'s [Setting], name: &str) -> Option<&'s Setting> {
    settings.iter().rev().find(|setting| setting.name == name)
}

/// Reads a setting of `receive.deny*` with three values: `None` refuses the update, `Some(false)` allows it,
/// `Some(true)` allows it with a warning.
fn allows(settings: &[Setting], name: &str) -> Option<bool> {
    let setting = last(settings, name)?;
    match setting.value.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("ignore") => Some(false),
        Some("warn") => Some(true),
        Some("refuse" | "updateinstead") => None,
        _ if is_true(setting) => None,
        _ => Some(false),
    }
}

/// Parses a boolean setting as git does; a name without a value is true.
fn is_true(setting: &Setting) -> bool {
    let value = setting.value.as_deref().map(str::to_ascii_lowercase);
    match value.as_deref() {
        None | Some("true" | "yes" | "on") => true,
        Some(number) => number.parse::<i64>().is_ok_and(|number| number != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(value: Option<&str>) -> [Setting; 1] {
        [Setting { name: "receive.x".into(), value: value.map(Into::into) }]
    }

    #[test]
    fn booleans_are_read_as_git_reads_them() {
        for value in [None, Some("true"), Some("Yes"), Some("ON"), Some("1"), Some("-2")] {
            assert!(is_true(&setting(value)[0]), "{value:?}");
        }
        for value in ["", "false", "no", "off", "0", "refuse"] {
            assert!(!is_true(&setting(Some(value))[0]), "{value}");
        }
    }

    #[test]
    fn denials_have_three_values() {
        assert_eq!(allows(&setting(Some("ignore")), "receive.x"), Some(false));
        assert_eq!(allows(&setting(Some("Warn")), "receive.x"), Some(true));
        assert_eq!(allows(&setting(Some("false")), "receive.x"), Some(false));
        for value in [None, Some("refuse"), Some("updateInstead"), Some("true")] {
            assert_eq!(allows(&setting(value), "receive.x"), None, "{value:?}");
        }
        assert_eq!(allows(&[], "receive.x"), None);
    }
}
