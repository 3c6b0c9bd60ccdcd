//! Valid and invalid `bluegreen.toml` files. Messages are compared to the letter.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

use bluegreen_server::config::Config;

use crate::support::Sandbox;
use crate::support::sandbox::NOBODY;
use crate::support::skip::root_or_skip;

/// Returns the files in a folder of `fixtures/`, with their names.
fn fixtures(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config").join(folder);
    let mut files: Vec<(String, String)> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().into(), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

#[test]
fn valid_configs_are_accepted() {
    for (name, text) in fixtures("valid") {
        let sandbox = Sandbox::new();
        let site = sandbox.site();
        let text = text.replace("/var/www/html", site.to_str().unwrap());
        let config = Config::parse(&text).unwrap_or_else(|(line, error)| panic!("{name}:{line}: {error}"));
        // Any other site path would refer to a directory on the machine that runs the test.
        if config.site.root == site {
            sandbox.raw_config(&text).bluegreen(&["releases"]).ok();
        }
    }
}

/// Each fixture begins with a comment that contains the expected message.
#[test]
fn invalid_configs_fail_with_their_exact_message() {
    for (name, text) in fixtures("invalid") {
        let sandbox = Sandbox::new();
        sandbox.raw_config(&text);
        let message = text.lines().next().unwrap().strip_prefix("# ").unwrap();
        let expected = format!("error: <repository>/bluegreen.toml:{message}");
        let run = sandbox.bluegreen(&["status"]);
        assert_eq!(run.status.code(), Some(2), "{name}: {}", run.output);
        assert_eq!(run.fails(2).lines()[0], expected, "{name}");
    }
}

#[test]
fn a_push_reports_an_invalid_config() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1").push().ok();
    sandbox.raw_config("brnch = \"master\"\n").commit("index.html", "v2");
    let run = sandbox.push().not_deployed();
    let lines = run.lines();
    assert!(
        lines[0].starts_with(
            "error: <repository>/bluegreen.toml:1: unknown field `brnch`, expected one of `branch`, "
        ),
        "{lines:?}"
    );
    assert!(lines[1].ends_with("still serves what it served before."), "{lines:?}");
    run.serves("index.html", "v1");
    let id = sandbox.id("master");
    sandbox.as_git(format!("{id} {id} refs/heads/master\n")).fails(2);
}

#[test]
fn defaults_apply_without_a_config() {
    let sandbox = Sandbox::new();
    fs::remove_file(sandbox.config_path()).unwrap();
    let config = Config::read(&sandbox.repository()).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn a_config_writable_by_others_is_rejected() {
    let sandbox = Sandbox::new();
    sandbox.commit("index.html", "v1");
    for mode in [0o666, 0o664, 0o646, 0o620] {
        fs::set_permissions(sandbox.config_path(), Permissions::from_mode(mode)).unwrap();
        sandbox.bluegreen(&["deploy"]).fails(2).says_only(&[
            "error: `<repository>/bluegreen.toml` is writable by other users",
            "hint: it contains commands: `sudo -u root chmod go-w <repository>/bluegreen.toml`",
        ]);
    }
    sandbox.push().not_deployed().serves_nothing();
    fs::set_permissions(sandbox.config_path(), Permissions::from_mode(0o640)).unwrap();
    sandbox.bluegreen(&["deploy"]).ok().serves("index.html", "v1");
}

#[test]
fn a_config_owned_by_another_user_is_rejected_unless_it_is_root() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.owned_by(NOBODY).commit("index.html", "v1").push().ok();
    lchown(sandbox.config_path(), Some(1), Some(1)).unwrap();
    sandbox
        .bluegreen(&["deploy"])
        .fails(2)
        .says("error: `<repository>/bluegreen.toml` is owned by another user");
    lchown(sandbox.config_path(), Some(0), Some(0)).unwrap();
    sandbox.bluegreen(&["deploy"]).ok();
}

#[test]
fn an_unreadable_config_is_an_error() {
    let sandbox = Sandbox::new();
    fs::remove_file(sandbox.config_path()).unwrap();
    fs::create_dir(sandbox.config_path()).unwrap();
    sandbox
        .commit("index.html", "v1")
        .push()
        .not_deployed()
        .says("error: cannot read `<repository>/bluegreen.toml`: is a directory");
    fs::remove_dir(sandbox.config_path()).unwrap();
    fs::write(sandbox.config_path(), b"server = \"\xff\"").unwrap();
    let run = sandbox.bluegreen(&["status"]);
    assert!(run.output.contains("bluegreen.toml"), "{}", run.output);
    assert_ne!(run.status.code(), Some(0));
}
