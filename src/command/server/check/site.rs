//! Checks the site: owners, free space, the live release, and whether a web server can read it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, User, access};
use rustix::fs::statvfs;

use super::Findings;
use bluegreen_git::Repository;
use bluegreen_server::config::Config;
use bluegreen_server::error::{as_owner, change_mode, give_away};
use bluegreen_server::shared;
use bluegreen_server::site::{Live, Site};
use bluegreen_text::{bytes, printable, shell_word};

/// The free space that causes a warning, in bytes.
const LOW_SPACE: u64 = 1_000_000_000;

/// The free space that causes an error, in bytes.
const NO_SPACE: u64 = 4 << 20;

/// The number of free inodes that causes an error.
const NO_INODES: u64 = 100;

/// Checks everything in the site.
pub fn check(site: &Site, config: &Config, repository: &Repository, findings: &mut Findings) {
    check_owned(site.root(), findings);
    for name in ["releases", ".bluegreen", "shared"] {
        let path = site.root().join(name);
        if path.exists() {
            check_owned(&path, findings);
        }
    }
    let state = site.root().join(".bluegreen");
    if state.metadata().is_ok_and(|metadata| metadata.mode() & 0o077 != 0) {
        let path = printable(&state);
        findings.warning(format!("`{path}` is accessible by other users"), change_mode("700", &state));
    }
    check_readable(site.root(), findings);
    for (place, path) in
        [("site", site.root()), ("repository", repository.path()), ("directory", Path::new("/tmp"))]
    {
        check_space(place, path, findings);
    }
    findings.take(shared::require(site, &config.shared));
    check_releases(site, findings);
}

/// Reports a directory that the deploy user cannot write to.
fn check_owned(path: &Path, findings: &mut Findings) {
    let owner = path.metadata().map_or(0, |metadata| metadata.uid());
    let may_write = access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    if !may_write || owner != Uid::effective().as_raw() {
        let message = format!("`{}` is not owned by the repository's owner", printable(path));
        findings.error(message, give_away("-hR", path));
    }
}

/// Reports a parent directory of the site that other users, such as the web server's, cannot search.
fn check_readable(site: &Path, findings: &mut Findings) {
    let is_closed = |path: &&Path| path.metadata().is_ok_and(|found| found.mode() & 0o011 == 0);
    if let Some(closed) = site.ancestors().find(is_closed) {
        let path = printable(closed);
        findings.warning(
            format!("`{path}` is closed to other users, so a web server cannot serve the site"),
            change_mode("o+x", closed),
        );
    }
}

fn check_space(place: &str, path: &Path, findings: &mut Findings) {
    let Ok(space) = statvfs(path) else { return };
    let (free, total) =
        (space.f_bavail.saturating_mul(space.f_frsize), space.f_blocks.saturating_mul(space.f_frsize));
    let at = printable(path);
    let word = shell_word(path);
    let hint = format!("`df -h {word}`, then free some space, or lower `keep` in bluegreen.toml");
    // File systems that allocate inodes dynamically report a total of 0.
    if space.f_files > 0 && space.f_favail < NO_INODES {
        let message =
            format!("no space for files is left in the {place} `{at}`: {} inodes are free", space.f_favail);
        findings
            .error(message, format!("`df -i {word}`, then remove files, or lower `keep` in bluegreen.toml"));
    } else if free < NO_SPACE {
        findings.error(format!("no space is left in the {place} `{at}`: {} are free", bytes(free)), hint);
    } else if free < LOW_SPACE && free < total / 20 {
        let message = format!(
            "little space is left in the {place} `{at}`: {} of {} are free",
            bytes(free),
            bytes(total)
        );
        findings.warning(message, hint);
    }
}

fn check_releases(site: &Site, findings: &mut Findings) {
    let live = findings.take(site.live());
    match &live {
        Some(Live::Gone(name)) => {
            findings.error(
                format!("`current` points to release {name}, which does not exist"),
                "`bluegreen rollback`, or `bluegreen deploy` for a fresh release",
            );
        }
        Some(Live::Elsewhere(path)) => {
            let message = format!("`current` points to `{}`, which is not a release", printable(path));
            findings.warning(message, "the next deployment replaces the symlink");
        }
        Some(Live::Nothing | Live::Release(_)) | None => {}
    }
    let releases = findings.take(site.releases()).unwrap_or_default();
    for release in releases.iter().filter(|release| release.record.is_none()) {
        let path: PathBuf = site.release_path(&release.name);
        let message = format!(
            "`{}` has no readable record, so it may be incomplete, and is never removed",
            printable(&path)
        );
        let is_live = live.as_ref().and_then(Live::release) == Some(&release.name);
        if is_live {
            findings.warning(message, "`bluegreen deploy` makes a fresh release live");
        } else {
            findings.warning(
                message,
                format!("{} if it is not needed", as_owner(&format!("rm -r {}", shell_word(&path)))),
            );
        }
    }
}

/// Reports keys that sshd ignores because other users could write them (`StrictModes` in `sshd_config(5)`).
pub fn check_keys(findings: &mut Findings) {
    let Ok(Some(user)) = User::from_uid(Uid::effective()) else { return };
    let ssh = user.dir.join(".ssh");
    let keys = ssh.join("authorized_keys");
    if !keys.exists() {
        return;
    }
    let is_weak = |path: &&PathBuf| path.metadata().is_ok_and(|found| found.mode() & 0o022 != 0);
    if let Some(weak) = [&user.dir, &ssh, &keys].into_iter().find(is_weak) {
        let path = printable(weak);
        findings.warning(
            format!("sshd ignores `{}`, because `{path}` is writable by other users", printable(&keys)),
            change_mode("go-w", weak),
        );
    }
}
